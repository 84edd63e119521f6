"""A layer at inference, in few operations of rank 4.

What a NormAct layer knows before it sees an image (gamma, beta, v, moving
statistics, epsilon) is folded into constants [C]. What is left are
operations on [N, H, W, C], [N, 1, 1, C] and, for groups, [N, 1, G, C / G]:
none above rank 4, which the delegates of TensorFlow Lite do not take.

Folded, with s = sqrt(moving variance + epsilon) and q the instance's standard
deviation (B0) or RMS (B1, B2):

    B0   x * (gamma / v) / max(s / v, x + q / v) + beta    where every v > 0
    B0   x * gamma / max(s, v*x + q) + beta                elsewhere
    B1   x * (gamma / q) / max(s / q, x + 1) + beta
    B2   x * gamma / max(s, q - x) + beta
    S    x * sigmoid(v*x) * (gamma / group statistic) + beta
    BN   act(x * (gamma / s) + (beta - mean * gamma / s))

Formulas: Table 1, arXiv:2004.02967. The variance is the mean of squared
differences, as the layers take it, and not E[x^2] - E[x]^2.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf import catalog
from evonorm_tf.exporting import statistics
from evonorm_tf.exporting.statistics import constant
from evonorm_tf.mixin import NormActMixin

Tensor = tf.Tensor
Form = Callable[[Tensor], Tensor]
# Below it v is not divided by: q / v would leave x + q / v without digits of
# x long before float32 has none left, and half precision sooner.
_SMALL_V = 1e-2


class Constants:
    """A layer's weights as arrays [C], read once, before anything is traced.

    Attributes:
      gamma, beta, v, moving_mean, moving_variance: [C]; None for those that
        the layer does not have.
      epsilon: stands inside every square root.
      groups: channel groups.
      channels: C.
    """

    def __init__(self, layer: Any):
        """Args: a built NormAct layer of either Keras."""
        for name in ("gamma", "beta", "v", "moving_mean", "moving_variance"):
            value = getattr(layer, name, None)
            if value is not None:
                # Folded in float64, rounded once.
                value = np.asarray(value, np.float64)
            setattr(self, name, value)
        self.epsilon = layer.epsilon
        self.groups = layer._groups
        self.channels = layer._channels


def form(layer: Any) -> Form | None:
    """The folded form of a layer.

    Args:
      layer: a built NormAct layer of either Keras.

    Returns:
      A function of x [N, H, W, C], or of what else it `takes`, floating and
      at least float32; None for a layer that has no such form and is best
      left as it is: channels first,
      class-conditional gamma and beta, a searched graph, a row of one's own,
      a subclass with a `call` of its own.
    """
    if type(layer).call is not NormActMixin.call:
        return None
    name = layer.row.name
    listed = name in catalog.names() and catalog.get(name) is layer.row
    if not listed or layer.axis != -1 or not layer.affine:
        return None
    make = _FORMS.get(layer._active.name)
    return None if make is None else make(Constants(layer))


def takes(layer: Any, rank: int | None) -> bool:
    """Whether a layer's folded form is one for inputs of that rank."""
    return rank == 4 or (rank is not None and layer._active.name in _POINTWISE)


def _scale(second_moment: Tensor, c: Constants) -> Tensor:
    """gamma / sqrt(second moment + epsilon), [N, 1, G, 1] -> [N, 1, 1, C]."""
    inverse = tf.math.rsqrt(second_moment + c.epsilon)
    gamma = c.gamma.reshape(1, 1, second_moment.shape[2], -1)
    return statistics.channels(inverse * constant(gamma, inverse))


# -- forms --------------------------------------------------------------------


def _affine(c: Constants) -> Form:
    return lambda x: x * constant(c.gamma, x) + constant(c.beta, x)


def _b0(c: Constants) -> Form:
    std = np.sqrt(c.moving_variance + c.epsilon)
    divided = bool(np.all(c.v >= _SMALL_V))
    v = c.v if divided else np.ones_like(c.v)
    gain, bound, inverse = c.gamma / v, std / v, 1.0 / np.square(v)

    def call(x):
        if statistics.one_pixel(x):
            q = constant(np.sqrt(c.epsilon * inverse), x)
        else:
            _, variance = statistics.moments(x)
            if divided:
                variance = variance * constant(inverse, x)
            q = tf.sqrt(variance + constant(c.epsilon * inverse, x))
        scaled = x if divided else x * constant(c.v, x)
        d = tf.maximum(scaled + q, constant(bound, x))
        return x * constant(gain, x) / d + constant(c.beta, x)

    return call


def _b1(c: Constants) -> Form:
    std = np.sqrt(c.moving_variance + c.epsilon)

    def call(x):
        inverse = tf.math.rsqrt(statistics.mean_square(x) + c.epsilon)
        d = tf.maximum(x + 1.0, inverse * constant(std, x))
        gain = inverse * constant(c.gamma, x)
        return x * gain / d + constant(c.beta, x)

    return call


def _b2(c: Constants) -> Form:
    std = np.sqrt(c.moving_variance + c.epsilon)

    def call(x):
        q = tf.sqrt(statistics.mean_square(x) + c.epsilon)
        d = tf.maximum(q - x, constant(std, x))
        return x * constant(c.gamma, x) / d + constant(c.beta, x)

    return call


def _s(second_moment: bool) -> Callable[[Constants], Form]:
    def make(c):
        gate = _swish(c)

        def call(x):
            if second_moment:
                moment = statistics.group_mean(
                    statistics.grouped(statistics.mean_square(x), c.groups)
                )
            else:
                _, moment = statistics.group_moments(x, c.groups)
            return gate(x) * _scale(moment, c) + constant(c.beta, x)

        return call

    return make


def _batch(c: Constants) -> Form:
    scale = c.gamma / np.sqrt(c.moving_variance + c.epsilon)
    shift = c.beta - c.moving_mean * scale
    return lambda x: x * constant(scale, x) + constant(shift, x)


def _group(one: bool) -> Callable[[Constants], Form]:
    """GroupNorm; `one`: all channels in one group, LayerNorm's (H, W, C)."""

    def make(c):
        groups = 1 if one else c.groups

        def call(x):
            if statistics.one_pixel(x) and groups == c.channels:
                return tf.zeros_like(x) + constant(c.beta, x)
            center, variance = statistics.group_moments(x, groups)
            ones = np.ones([1, 1, 1, c.channels // groups])
            center = statistics.channels(center * constant(ones, x))
            # x - center first: x * scale + shift loses mean / std.
            return (x - center) * _scale(variance, c) + constant(c.beta, x)

        return call

    return make


def _filter_response(c: Constants) -> Form:
    def call(x):
        inverse = tf.math.rsqrt(statistics.mean_square(x) + c.epsilon)
        return x * (inverse * constant(c.gamma, x)) + constant(c.beta, x)

    return call


def _pixel(c: Constants) -> Form:
    def call(x):
        square = tf.reduce_mean(x * x, -1, keepdims=True)
        z = x * tf.math.rsqrt(square + c.epsilon)
        return z * constant(c.gamma, x) + constant(c.beta, x)

    return call


def _swish(c: Constants) -> Form:
    if c.v is None or np.all(c.v == 1.0):
        return lambda z: z * tf.sigmoid(z)
    return lambda z: z * tf.sigmoid(z * constant(c.v, z))


def _tlu(c: Constants) -> Form:
    if c.v is None:  # FRN's row without its activation has the same name.
        return lambda z: z
    return lambda z: tf.maximum(z, constant(c.v, z))


_ACTIVATIONS = {
    "relu": lambda c: tf.nn.relu,
    "silu": _swish,
    "swish": _swish,
    "tlu": _tlu,
}


def _activated(normal: Callable[[Constants], Form], activation: str):
    def make(c):
        z, act = normal(c), _ACTIVATIONS[activation](c)
        return lambda x: act(z(x))

    return make


_GN, _LN = _group(one=False), _group(one=True)
# They read nothing of an image but its channels: inputs of any rank.
_POINTWISE = ("affine", "bn", "bn_relu", "bn_silu", "bn_swish")
# By the name of the row that is active at a site.
_FORMS: dict[str, Callable[[Constants], Form]] = {
    "affine": _affine,
    "evonorm_b0": _b0,
    "evonorm_b1": _b1,
    "evonorm_b2": _b2,
    "evonorm_s0": _s(second_moment=False),
    "evonorm_s1": _s(second_moment=False),
    "evonorm_s2": _s(second_moment=True),
    "bn": _batch,
    "bn_relu": _activated(_batch, "relu"),
    "bn_silu": _activated(_batch, "silu"),
    "bn_swish": _activated(_batch, "swish"),
    "gn": _GN,
    "gn_relu": _activated(_GN, "relu"),
    "gn_silu": _activated(_GN, "silu"),
    "gn_swish": _activated(_GN, "swish"),
    "ln": _LN,
    "ln_relu": _activated(_LN, "relu"),
    "pn": _pixel,
    "pn_relu": _activated(_pixel, "relu"),
    "frn": _activated(_filter_response, "tlu"),
}
