"""Step 2 of the analytic rows: coefficients from statistics.

Arithmetic on [N, C] and [C] tensors: each function makes, from the moments and
the parameters, the coefficients that the row's pointwise family takes, in the
family's order. TensorFlow differentiates these.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from evonorm_tf.ops import moments
from evonorm_tf.ops.plan import Plan, Statistics

Tensor = tf.Tensor
Statistic = Callable[[Statistics, Plan], tuple[Any, Any]]


def std(variance: Tensor, plan: Plan) -> Tensor:
    return tf.sqrt(variance + plan.epsilon)


def inverse_std(variance: Tensor, plan: Plan) -> Tensor:
    return tf.math.rsqrt(variance + plan.epsilon)


def affine(p: dict[str, Tensor]) -> tuple[Any, Any]:
    return p.get("gamma", 1.0), p.get("beta", 0.0)


def mean_square(s: Statistics) -> Tensor:
    return s.variance + tf.square(s.mean)


def b0(s, p, plan):
    batch, instance = std(s.batch_variance, plan), std(s.variance, plan)
    return [batch, *affine(p), instance, p["v"]]


def b1_b2(s, p, plan):
    batch, rms = std(s.batch_variance, plan), std(mean_square(s), plan)
    return [batch, *affine(p), rms]


def gated(second_moment: bool, trainable: bool):
    def coefficients(s, p, plan):
        mean, variance = moments.group_moments(s.mean, s.variance, plan.groups)
        if second_moment:
            variance += tf.square(mean)
        gamma, beta = affine(p)
        gate = [p["v"]] if trainable else []
        return [gamma * inverse_std(variance, plan), beta, *gate]

    return coefficients


def normalized(statistic):
    """Coefficients of (x - center) / deviation * gamma + beta (, v)."""

    def coefficients(s, p, plan):
        center, inverse = statistic(s, plan)
        gamma, beta = affine(p)
        extra = [p["v"]] if "v" in p else []
        return [center, gamma * inverse, beta, *extra]

    return coefficients


def batch(s, plan):
    return s.batch_mean, inverse_std(s.batch_variance, plan)


def group(s, plan):
    mean, variance = moments.group_moments(s.mean, s.variance, plan.groups)
    return mean, inverse_std(variance, plan)


def layer(s, plan):
    mean, variance = moments.group_moments(s.mean, s.variance, 1)
    return mean, inverse_std(variance, plan)


def filter_response(s, plan):
    return 0.0, inverse_std(mean_square(s), plan)


def identity(s, plan):
    del s, plan
    return 0.0, 1.0
