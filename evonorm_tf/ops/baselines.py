"""The classical pairs: normalize, scale, shift, activate.

    z = (x - center) * scale + shift,   y = act(z)

BatchNorm, GroupNorm, LayerNorm over (H, W, C) and FRN differ in where center
and scale come from; ReLU, SiLU, Swish and TLU in act. x - center is taken
first, since x * scale + (shift - center * scale) loses mean / std.
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
      value: (xp, z, v) -> act(z).
      slope: (xp, z, dy, v) -> dy * d act / dz.
      partial: (xp, z, dy, v) -> dy * d act / dv; None without a v.
      folded: (xp, Constants) -> act as a function of z.
    """

    value: Callable[..., Array]
    slope: Callable[..., Array]
    partial: Callable[..., Array] | None = None
    folded: Callable[..., folding.Function] | None = None


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
    value=lambda xp, z, v: z,
    slope=lambda xp, z, dy, v: dy,
    folded=lambda xp, c: lambda z: z,
)
RELU = Activation(
    value=lambda xp, z, v: xp.relu(z),
    slope=lambda xp, z, dy, v: _where(xp, z > 0.0, dy),
    folded=lambda xp, c: xp.relu,
)
SILU = Activation(
    value=lambda xp, z, v: z * xp.sigmoid(z),
    slope=lambda xp, z, dy, v: _swish_slope(xp, z, dy, 1.0),
    folded=swish,
)
SWISH = Activation(
    value=lambda xp, z, v: z * xp.sigmoid(v * z),
    slope=_swish_slope,
    partial=_swish_partial,
    folded=swish,
)
TLU = Activation(
    value=lambda xp, z, v: xp.maximum(z, v),
    slope=lambda xp, z, dy, v: _where(xp, z >= v, dy),
    partial=lambda xp, z, dy, v: _where(xp, xp.logical_not(z >= v), dy),
    folded=_tlu_folded,
)


def pointwise(act: Activation) -> Pointwise:
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

    def finish(xp, sums, c):
        del xp
        center = -c.scale * sums["shift"]
        return Normalized(center, sums["scale"], sums["shift"], sums.get("v"))

    def slope(xp, x, dy, c):
        return act.slope(xp, pre(x, c), dy, c.v) * c.scale

    return Pointwise(forward, terms, finish, slope)


def _coefficients(statistic):
    """Coefficients of (x - center) / deviation * gamma + beta."""

    def coefficients(xp, statistics, parameters: Mapping[str, Array], plan):
        center, inverse = statistic(xp, statistics, plan)
        gamma, beta = affine(parameters)
        return Normalized(center, gamma * inverse, beta, parameters.get("v"))

    return coefficients


def _inverse_std(xp, variance, plan):
    return xp.rsqrt(variance + plan.epsilon)


def _batch(xp, statistics, plan):
    batch = statistics.batch
    return batch.mean, _inverse_std(xp, batch.variance, plan)


def _group(xp, statistics, plan):
    group = moments.group_moments(xp, statistics.sample, plan.groups)
    return group.mean, _inverse_std(xp, group.variance, plan)


def _layer(xp, statistics, plan):
    whole = moments.group_moments(xp, statistics.sample, 1)
    return whole.mean, _inverse_std(xp, whole.variance, plan)


def _filter_response(xp, statistics, plan):
    square = moments.mean_square(statistics.sample)
    return 0.0, _inverse_std(xp, square, plan)


def batch_norm(act: Activation) -> Analytic:
    """BatchNorm, then `act`."""
    return Analytic(
        pointwise(act),
        _coefficients(_batch),
        statistics=(MOVING_MEAN, MOVING_VARIANCE),
    )


def group_norm(act: Activation) -> Analytic:
    """GroupNorm, then `act`."""
    return Analytic(pointwise(act), _coefficients(_group), instance=True)


def layer_norm(act: Activation) -> Analytic:
    """LayerNorm over (H, W, C), then `act`."""
    return Analytic(pointwise(act), _coefficients(_layer), instance=True)


def filter_response_norm(act: Activation) -> Analytic:
    """Filter response normalization, then `act`."""
    return Analytic(
        pointwise(act), _coefficients(_filter_response), instance=True
    )


AFFINE = Analytic(
    pointwise(LINEAR), _coefficients(lambda xp, statistics, plan: (0.0, 1.0))
)

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


def _fold_layer(xp, c):
    return _fold_group(xp, c._replace(groups=1))


def _fold_filter_response(xp, c):
    def call(x):
        inverse = xp.rsqrt(folding.mean_square(xp, x) + c.epsilon)
        scaled = x * (inverse * folding.constant(xp, c.gamma, x))
        return scaled + folding.constant(xp, c.beta, x)

    return call


def fold_activated(
    fold: Callable[..., folding.Function],
    act: Activation,
    any_rank: bool = False,
) -> Folded:
    """The folded form of a normalization, followed by an activation."""

    def make(xp, c):
        z, activate = fold(xp, c), act.folded(xp, c)
        return lambda x: activate(z(x))

    return Folded(make, any_rank)


FOLDED_AFFINE = Folded(_fold_affine, any_rank=True)


def folded_batch_norm(act: Activation) -> Folded:
    return fold_activated(_fold_batch, act, any_rank=True)


def folded_group_norm(act: Activation) -> Folded:
    return fold_activated(_fold_group, act)


def folded_layer_norm(act: Activation) -> Folded:
    return fold_activated(_fold_layer, act)


def folded_filter_response_norm(act: Activation) -> Folded:
    return fold_activated(_fold_filter_response, act)
