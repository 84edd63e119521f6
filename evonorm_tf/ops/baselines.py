"""Normalization followed by an activation.

    z = (x - center) * scale + shift,   y = act(z)

BatchNorm, GroupNorm, LayerNorm over (H, W, C) and FRN differ in the source of
center and scale; ReLU, SiLU, Swish and TLU in act. x - center is computed
first, because x * scale + (shift - center * scale) loses mean / std.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from evonorm_tf.ops import folding, moments
from evonorm_tf.ops.activations import LINEAR, Activation
from evonorm_tf.ops.folding import Folded
from evonorm_tf.ops.kernel import (
    MOVING_MEAN,
    MOVING_VARIANCE,
    Analytic,
    Pointwise,
    affine,
)

Array = Any


class Normalized(NamedTuple):
    """Coefficients of all pairs, each broadcastable to [N, C].

    Attributes:
      center: subtracted from x.
      scale: gamma over the deviation.
      shift: beta.
      v: coefficient of the activation, or None.
    """

    center: Array
    scale: Array
    shift: Array
    v: Array | None = None


def _pointwise(act: Activation) -> Pointwise:
    """The element-wise step of one activation, with `Normalized`."""

    def pre(x, c):
        return (x - c.center) * c.scale + c.shift

    def forward(xp, x, c):
        return act.value(xp, pre(x, c), c.v)

    def terms(xp, x, dy, c):
        z = pre(x, c)
        dz = act.slope(xp, z, dy, c.v)
        found = {"scale": dz * (x - c.center), "shift": dz}
        if act.partial is not None:
            found["v"] = act.partial(xp, z, dy, c.v)
        return found

    def finish(sums, c):
        center = -c.scale * sums["shift"]
        return Normalized(center, sums["scale"], sums["shift"], sums.get("v"))

    def slope(xp, x, dy, c):
        return act.slope(xp, pre(x, c), dy, c.v) * c.scale

    return Pointwise(forward, terms, finish, slope)


def _family(statistic: Callable, **fields: Any) -> Callable:
    """Returns a function from an activation to the kernel with it.

    Args:
      statistic: (xp, Statistics, plan) -> center and second moment; the
        deviation is the square root of the latter.
      **fields: of `Analytic`.
    """

    def coefficients(xp, statistics, parameters: Mapping[str, Array], plan):
        center, second_moment = statistic(xp, statistics, plan)
        gamma, beta = affine(parameters)
        scale = gamma * xp.rsqrt(second_moment + plan.epsilon)
        return Normalized(center, scale, beta, parameters.get("v"))

    return lambda act: Analytic(_pointwise(act), coefficients, **fields)


def _group(xp, statistics, plan):
    return moments.group_moments(xp, statistics.sample, plan.groups)


def _filter_response(xp, statistics, plan):
    return 0.0, moments.mean_square(statistics.sample)


batch_norm = _family(
    lambda xp, statistics, plan: statistics.batch,
    statistics=(MOVING_MEAN, MOVING_VARIANCE),
)
# LayerNorm over (H, W, C) is the one group of a row without groups.
group_norm = _family(_group, instance=True)
filter_response_norm = _family(_filter_response, instance=True)


def _affine(xp, statistics, parameters, plan):
    return Normalized(0.0, *affine(parameters))


AFFINE = Analytic(_pointwise(LINEAR), _affine)

# -- folded forms -------------------------------------------------------------
#
#   BN   act(x * (gamma / s) + (beta - mean * gamma / s))


def _fold_affine(xp, c):
    return lambda x: folding.affine(xp, x, c.gamma, c.beta)


def _fold_batch(xp, c):
    scale = c.gamma / c.batch_std
    shift = c.beta - c.moving_mean * scale
    return lambda x: folding.affine(xp, x, scale, shift)


def _fold_group(xp, c):
    def call(x):
        if folding.one_pixel(x) and c.groups == c.channels:
            return xp.zeros_like(x) + folding.constant(xp, c.beta, x)
        center, variance = folding.group_moments(xp, x, c.groups)
        ones = np.ones([1, 1, 1, c.channels // c.groups])
        center = folding.per_channel(xp, center * folding.constant(xp, ones, x))
        # x - center first: x * scale + shift loses mean / std.
        scale = folding.group_scale(xp, variance, c.gamma, c.epsilon)
        z = (x - center) * scale
        return z + folding.constant(xp, c.beta, x)

    return call


def _fold_filter_response(xp, c):
    def call(x):
        inverse = xp.rsqrt(folding.mean_square(xp, x) + c.epsilon)
        scaled = x * (inverse * folding.constant(xp, c.gamma, x))
        return scaled + folding.constant(xp, c.beta, x)

    return call


def fold_activated(fold: Callable, any_rank: bool = False) -> Callable:
    """Returns a function from an activation to the folded form with it."""

    def folded(act: Activation) -> Folded:
        def make(xp, c):
            z, activate = fold(xp, c), act.folded(xp, c)
            return lambda x: activate(z(x))

        return Folded(make, any_rank)

    return folded


FOLDED_AFFINE = Folded(_fold_affine, any_rank=True)
folded_batch_norm = fold_activated(_fold_batch, any_rank=True)
folded_group_norm = fold_activated(_fold_group)
folded_filter_response_norm = fold_activated(_fold_filter_response)
