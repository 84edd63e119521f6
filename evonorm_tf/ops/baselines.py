"""The classical pairs: normalise, scale, shift, activate.

    z = (x - center) * scale + shift,   y = act(z)

BatchNorm, GroupNorm, LayerNorm over (H, W, C) and FRN differ in where center
and scale come from; ReLU, SiLU, Swish and TLU in act. x - center is taken
first, since x * scale + (shift - center * scale) loses mean / std.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from evonorm_tf.ops.pointwise import Pointwise

Tensor = tf.Tensor


class Activation(NamedTuple):
    """An activation with at most one trainable coefficient.

    Attributes:
      value: (z, *coefficient) -> act(z).
      slope: (z, dy, *coefficient) -> dy * d act / dz.
      partial: (z, dy, *coefficient) -> [dy * d act / d coefficient], or [].
    """

    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]
    partial: Callable[..., Sequence[Tensor]] = lambda z, dy, *c: []


def _keep(condition: Tensor, dy: Tensor) -> Tensor:
    # A scalar zero: see evonorm_b.py.
    return tf.where(condition, dy, tf.zeros([], dy.dtype))


def _swish_slope(z, dy, v):
    gate = tf.sigmoid(v * z)
    return dy * gate * (1.0 + v * z * (1.0 - gate))


def _swish_partial(z, dy, v):
    gate = tf.sigmoid(v * z)
    return [dy * tf.square(z) * gate * (1.0 - gate)]


LINEAR = Activation(lambda z: z, lambda z, dy: dy)
RELU = Activation(tf.nn.relu, lambda z, dy: _keep(z > 0.0, dy))
SWISH = Activation(
    lambda z, v: z * tf.sigmoid(v * z), _swish_slope, _swish_partial
)
SILU = Activation(
    lambda z: z * tf.sigmoid(z), lambda z, dy: _swish_slope(z, dy, 1.0)
)
TLU = Activation(
    tf.maximum,
    lambda z, dy, v: _keep(z >= v, dy),
    lambda z, dy, v: [_keep(tf.logical_not(z >= v), dy)],
)


def normalized(act: Activation) -> Pointwise:
    """The family of one activation; coefficients: center, scale, shift, ..."""

    def pre(x, center, scale, shift):
        return (x - center) * scale + shift

    def forward(x, center, scale, shift, *extra):
        return act.value(pre(x, center, scale, shift), *extra)

    def terms(x, dy, center, scale, shift, *extra):
        z = pre(x, center, scale, shift)
        dz = act.slope(z, dy, *extra)
        return [dz * (x - center), dz, *act.partial(z, dy, *extra)]

    def finish(sums, center, scale, shift, *extra):
        del center, shift, extra
        d_scale, d_shift, *rest = sums
        return [-scale * d_shift, d_scale, d_shift, *rest]

    def slope(x, dy, center, scale, shift, *extra):
        z = pre(x, center, scale, shift)
        return act.slope(z, dy, *extra) * scale

    return Pointwise(forward, terms, finish, slope)
