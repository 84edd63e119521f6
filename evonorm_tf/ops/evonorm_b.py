"""EvoNorm B0, B1, B2: x over the larger of the batch std and a bound r(x).

    y = x / d * gamma + beta,   d = max(s, r(x)),   s = batch std

    B0   r = v * x + q     q = instance std
    B1   r = (x + 1) * q   q = instance RMS
    B2   r = q - x         q = instance RMS

In all three, r is linear in x with r(x) - x * r'(x) = q, so one derivative
suffices: where r is larger, d(x / r) / dx = q / r^2, elsewhere 1 / s. They
differ in r and its partial derivatives (Table 1, arXiv:2004.02967).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from evonorm_tf.ops import folding
from evonorm_tf.ops.folding import Folded
from evonorm_tf.ops.kernel import (
    MOVING_VARIANCE,
    Analytic,
    Pointwise,
    affine,
)
from evonorm_tf.ops.moments import mean_square

Array = Any


class Bounded(NamedTuple):
    """Coefficients of the family, each broadcastable to [N, C].

    Attributes:
      batch: s, the standard deviation over the batch.
      gamma: gain.
      beta: bias.
      instance: q, the standard deviation or RMS of every (sample, channel).
      v: of B0, else None.
    """

    batch: Array
    gamma: Array
    beta: Array
    instance: Array
    v: Array | None = None


def _pointwise(
    bound: Callable[[Array, Bounded], Array],
    partials: Callable[[Array], Mapping[str, Array | float]],
) -> Pointwise:
    """The element-wise step of one r(x).

    Args:
      bound: (x, coefficients) -> r(x).
      partials: x -> dr / d coefficient, by the name of the coefficient.
    """

    def forward(xp, x, c):
        return x / xp.maximum(c.batch, bound(x, c)) * c.gamma + c.beta

    def terms(xp, x, dy, c):
        r = bound(x, c)
        inverse = 1.0 / xp.maximum(c.batch, r)
        t = dy * x * inverse
        # A scalar zero: TensorFlow's XLA bridge evaluates full-size constants
        # at compile time and holds those of a whole network at once.
        zero = xp.asarray(0.0, t.dtype)
        # As in the gradient of maximum, ties go to the first argument.
        inside = xp.where(r > c.batch, t, zero)
        found = {name: inside * inverse * p for name, p in partials(x).items()}
        outside = xp.where(r > c.batch, zero, t)
        return {"gamma": t, "beta": dy, "outside": outside, **found}

    def finish(sums, c):
        found = {name: -c.gamma * sums[name] for name in partials(0.0)}
        return Bounded(
            batch=-c.gamma * sums["outside"] / c.batch,
            gamma=sums["gamma"],
            beta=sums["beta"],
            **found,
        )

    def slope(xp, x, dy, c):
        r = bound(x, c)
        inverse = 1.0 / xp.maximum(c.batch, r)
        inside = c.instance * xp.square(inverse)
        return dy * c.gamma * xp.where(r > c.batch, inside, inverse)

    return Pointwise(forward, terms, finish, slope)


def _kernel(pointwise: Pointwise, second_moment: Callable) -> Analytic:
    """The kernel of one r(x).

    Args:
      pointwise: its element-wise step.
      second_moment: moments of every (sample, channel) -> q^2.
    """

    def coefficients(xp, statistics, parameters, plan):
        sample, batch = statistics
        gamma, beta = affine(parameters)
        return Bounded(
            batch=xp.sqrt(batch.variance + plan.epsilon),
            gamma=gamma,
            beta=beta,
            instance=xp.sqrt(second_moment(sample) + plan.epsilon),
            v=parameters.get("v"),
        )

    return Analytic(
        pointwise, coefficients, instance=True, statistics=(MOVING_VARIANCE,)
    )


B0 = _kernel(
    _pointwise(
        bound=lambda x, c: c.v * x + c.instance,
        partials=lambda x: {"instance": 1.0, "v": x},
    ),
    second_moment=lambda sample: sample.variance,
)
B1 = _kernel(
    _pointwise(
        bound=lambda x, c: (x + 1.0) * c.instance,
        partials=lambda x: {"instance": x + 1.0},
    ),
    second_moment=mean_square,
)
B2 = _kernel(
    _pointwise(
        bound=lambda x, c: c.instance - x,
        partials=lambda x: {"instance": 1.0},
    ),
    second_moment=mean_square,
)

# -- folded forms -------------------------------------------------------------
#
#   B0   x / max(s / v, x + q / v) * (gamma / v) + beta   where every v > 0
#   B0   x / max(s, v*x + q) * gamma + beta               elsewhere
#   B1   x * (gamma / q) / max(s / q, x + 1) + beta
#   B2   x / max(s, q - x) * gamma + beta
#
# The constants come last: before the division they would be a separate kernel
# in ONNX Runtime, in the layout of its convolutions, and two copies.


def _fold_b0(xp, c):
    divided = bool(np.all(c.v >= folding.SMALL_V))
    v = c.v if divided else np.ones_like(c.v)
    gain, bound, inverse = c.gamma / v, c.batch_std / v, 1.0 / np.square(v)

    def call(x):
        variance = folding.spatial_moments(xp, x).variance
        if divided:
            variance = variance * folding.constant(xp, inverse, x)
        q = xp.sqrt(variance + folding.constant(xp, c.epsilon * inverse, x))
        scaled = x if divided else x * folding.constant(xp, c.v, x)
        d = xp.maximum(scaled + q, folding.constant(xp, bound, x))
        return folding.affine(xp, x / d, gain, c.beta)

    return call


def _fold_b1(xp, c):
    def call(x):
        inverse = xp.rsqrt(folding.mean_square(xp, x) + c.epsilon)
        bound = inverse * folding.constant(xp, c.batch_std, x)
        gain = inverse * folding.constant(xp, c.gamma, x)
        y = x * gain / xp.maximum(x + 1.0, bound)
        return y + folding.constant(xp, c.beta, x)

    return call


def _fold_b2(xp, c):
    def call(x):
        q = xp.sqrt(folding.mean_square(xp, x) + c.epsilon)
        d = xp.maximum(q - x, folding.constant(xp, c.batch_std, x))
        return folding.affine(xp, x / d, c.gamma, c.beta)

    return call


FOLDED_B0 = Folded(_fold_b0)
FOLDED_B1 = Folded(_fold_b1)
FOLDED_B2 = Folded(_fold_b2)
