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
from evonorm_tf.ops.evonorm_s import swish
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


class Activation(NamedTuple):
    """An activation with at most one trainable coefficient v.

    Attributes:
      formula: in ASCII, of z.
      value: (xp, z, v) -> act(z).
      slope: (xp, z, dy, v) -> dy * d act / dz.
      folded: (xp, Constants) -> act as a function of z.
      partial: (xp, z, dy, v) -> dy * d act / dv; None without a v.
      initial_v: what v starts from; None without a v.
    """

    formula: str
    value: Callable[..., Array]
    slope: Callable[..., Array]
    folded: Callable[..., folding.Function]
    partial: Callable[..., Array] | None = None
    initial_v: float | None = None


def _where(xp, condition, dy):
    # A scalar zero: see evonorm_b.py.
    return xp.where(condition, dy, xp.asarray(0.0, dy.dtype))


def _swish_slope(xp, z, dy, v):
    gate = xp.sigmoid(v * z)
    return dy * gate * (1.0 + v * z * (1.0 - gate))


def _swish_partial(xp, z, dy, v):
    gate = xp.sigmoid(v * z)
    return dy * xp.square(z) * gate * (1.0 - gate)


def _tlu_folded(xp, c):
    return lambda z: xp.maximum(z, folding.constant(xp, c.v, z))


LINEAR = Activation(
    formula="z",
    value=lambda xp, z, v: z,
    slope=lambda xp, z, dy, v: dy,
    folded=lambda xp, c: lambda z: z,
)
RELU = Activation(
    formula="max(z, 0)",
    value=lambda xp, z, v: xp.relu(z),
    slope=lambda xp, z, dy, v: _where(xp, z > 0.0, dy),
    folded=lambda xp, c: xp.relu,
)
SILU = Activation(
    formula="z*sigmoid(z)",
    value=lambda xp, z, v: z * xp.sigmoid(z),
    slope=lambda xp, z, dy, v: _swish_slope(xp, z, dy, 1.0),
    folded=swish,
)
SWISH = Activation(
    formula="z*sigmoid(v*z)",
    value=lambda xp, z, v: z * xp.sigmoid(v * z),
    slope=_swish_slope,
    folded=swish,
    partial=_swish_partial,
    initial_v=1.0,
)
TLU = Activation(
    formula="max(z, v)",
    value=lambda xp, z, v: xp.maximum(z, v),
    slope=lambda xp, z, dy, v: _where(xp, z >= v, dy),
    folded=_tlu_folded,
    partial=lambda xp, z, dy, v: _where(xp, xp.logical_not(z >= v), dy),
    initial_v=0.0,
)


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
    def call(x):
        scaled = x * folding.constant(xp, c.gamma, x)
        return scaled + folding.constant(xp, c.beta, x)

    return call


def _fold_batch(xp, c):
    scale = c.gamma / c.batch_std
    shift = c.beta - c.moving_mean * scale

    def call(x):
        scaled = x * folding.constant(xp, scale, x)
        return scaled + folding.constant(xp, shift, x)

    return call


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
