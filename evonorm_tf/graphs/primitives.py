"""The 24 primitives of the search space, with guards.

Twelve are element-wise and twelve are aggregations: mean, root mean square
and standard deviation, each over four sets of axes (Section 3.1,
arXiv:2004.02967). A primitive computes with any array module `xp`, so NumPy
(filters) and the backends (training) share the guards below.

Guards, with GUARD = 1e-5; away from zero each is exact, so that a known layer
written as a graph equals the layer written by hand:

    div   p / q          q is kept at least GUARD away from zero
    log   sign(p) ln|p|  |p| is at least GUARD
    sqrt  sign(p) |p|^.5 |p| is at least GUARD
    rms, std             epsilon is inside the square root, as in layers

The paper divides by y + eps * sign(y) instead; the two differ by eps / y.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

GUARD = 1e-5

Array = Any


class Primitive(NamedTuple):
    """One operation of a graph.

    Attributes:
      name: its name in the text form.
      arity: number of inputs, 1 or 2.
      commutative: whether the order of the inputs does not matter.
      value: (xp, *inputs) -> output, for element-wise primitives.
      statistic: "mean", "mean_square" or "variance", for aggregations.
      axes: "bwh", "whc", "wh" or "whg", likewise.
    """

    name: str
    arity: int
    commutative: bool = False
    value: Callable[..., Array] | None = None
    statistic: str | None = None
    axes: str | None = None

    @property
    def over_batch(self) -> bool:
        """Returns whether it aggregates over the batch."""
        return self.axes == "bwh"


def _away_from_zero(xp: Any, q: Array) -> Array:
    limit = GUARD * xp.ones_like(q)
    return xp.where(xp.abs(q) >= GUARD, q, xp.where(q < 0.0, -limit, limit))


def _magnitude(xp: Any, p: Array) -> Array:
    return xp.maximum(xp.abs(p), GUARD * xp.ones_like(p))


_ELEMENTWISE = (
    Primitive("add", 2, True, lambda xp, p, q: p + q),
    Primitive("mul", 2, True, lambda xp, p, q: p * q),
    Primitive("div", 2, False, lambda xp, p, q: p / _away_from_zero(xp, q)),
    Primitive("max", 2, True, lambda xp, p, q: xp.maximum(p, q)),
    Primitive("neg", 1, value=lambda xp, p: -p),
    Primitive("sigmoid", 1, value=lambda xp, p: xp.sigmoid(p)),
    Primitive("tanh", 1, value=lambda xp, p: xp.tanh(p)),
    Primitive("exp", 1, value=lambda xp, p: xp.exp(p)),
    Primitive(
        "log",
        1,
        value=lambda xp, p: xp.sign(p) * xp.log(_magnitude(xp, p)),
    ),
    Primitive("abs", 1, value=lambda xp, p: xp.abs(p)),
    Primitive("square", 1, value=lambda xp, p: xp.square(p)),
    Primitive(
        "sqrt",
        1,
        value=lambda xp, p: xp.sign(p) * xp.sqrt(_magnitude(xp, p)),
    ),
)

_STATISTICS = {"mean": "mean", "rms": "mean_square", "std": "variance"}
AXES = ("bwh", "whc", "wh", "whg")

PRIMITIVES: dict[str, Primitive] = {
    p.name: p
    for p in (
        *_ELEMENTWISE,
        *(
            Primitive(f"{name}_{axes}", 1, statistic=statistic, axes=axes)
            for name, statistic in _STATISTICS.items()
            for axes in AXES
        ),
    )
}


def _sigmoid(p: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * p)


NUMPY = SimpleNamespace(
    abs=np.abs,
    exp=np.exp,
    log=np.log,
    maximum=np.maximum,
    ones_like=np.ones_like,
    sigmoid=_sigmoid,
    sign=np.sign,
    sqrt=np.sqrt,
    square=np.square,
    tanh=np.tanh,
    where=np.where,
)
