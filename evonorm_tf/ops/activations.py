"""Activations, with their derivatives and folded forms.

At most one coefficient, v, is trainable. `catalog.Normalization` combines them
with a normalization; EvoNorm-S uses the folded forms.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from evonorm_tf.ops import folding

Array = Any


class Activation(NamedTuple):
    """An activation with at most one trainable coefficient v.

    Attributes:
      formula: in ASCII, of z.
      value: (xp, z, v) -> act(z).
      slope: (xp, z, dy, v) -> dy * d act / dz.
      folded: (xp, Constants) -> act as a function of z.
      partial: (xp, z, dy, v) -> dy * d act / dv; None if there is no v.
      initial_v: initial value of v; None if there is no v.
    """

    formula: str
    value: Callable[..., Array]
    slope: Callable[..., Array]
    folded: Callable[..., folding.Function]
    partial: Callable[..., Array] | None = None
    initial_v: float | None = None


def silu(xp):
    """Returns z * sigmoid(z)."""
    return lambda z: z * xp.sigmoid(z)


def swish(xp, c):
    """Returns z * sigmoid(v * z), without the product if every v is 1."""
    v = c.weights.get("v")
    if v is None or np.all(v == 1.0):
        return silu(xp)
    return lambda z: z * xp.sigmoid(z * folding.constant(xp, v, z))


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
    # Not z < v: dy goes to either z or v, for a NaN too.
    partial=lambda xp, z, dy, v: _where(xp, xp.logical_not(z >= v), dy),
    initial_v=0.0,
)
