"""Cheap rejection, before any training: structure first, then two probes.

Each filter is a flag; all are off in the strict replica of the paper, which
trains whatever is drawn. They run in this order, cheapest and most selective
first, and the first that objects gives the reason:

    ancestor   the output does not depend on x
    axes       by its structure the output cannot vary over the batch, over
               space or over channels
    finite     NaN or Inf on a probe
    large      |y| above 1e6 on a probe
    constant   one value over a whole probe
    spatial    constant over space on a probe
    gradient   y does not follow x: a central difference along a random
               direction is zero, or not finite

`axes` and `spatial` are policy: a layer that keeps no image could still pass
the quality test.
"""

import dataclasses

import numpy as np

from evonorm_tf.graphs.evaluate import evaluate_numpy
from evonorm_tf.graphs.graph import OUTPUT, Graph, X
from evonorm_tf.graphs.primitives import PRIMITIVES

GROUPS = 4
_BATCH, _SPACE, _CHANNEL = 1, 2, 4
_ALL = _BATCH | _SPACE | _CHANNEL
# What an aggregation makes constant; channels differ between groups.
_REMOVED = {
    "bwh": _BATCH | _SPACE,
    "whc": _SPACE | _CHANNEL,
    "wh": _SPACE,
    "whg": _SPACE,
}
_KEPT = {
    name: _ALL & ~_REMOVED.get(primitive.axes, 0)
    for name, primitive in PRIMITIVES.items()
}
_LARGE = 1e6
_STEP = 1e-6
# A central difference of float64 values is exact to 1e-16 / _STEP.
_NO_SLOPE = 1e-8


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which of the filters run; see this module."""

    ancestor: bool = True
    axes: bool = True
    finite: bool = True
    large: bool = True
    constant: bool = True
    spatial: bool = True
    gradient: bool = True

    @classmethod
    def none(cls) -> "Filters":
        """The strict replica of the paper."""
        return cls(*(False for _ in dataclasses.fields(cls)))

    @property
    def numeric(self) -> bool:
        return (
            self.finite
            or self.large
            or self.constant
            or self.spatial
            or self.gradient
        )


def structural(graph: Graph, flags: Filters) -> str | None:
    """The structural filter that rejects `graph`, None if none does."""
    if not (flags.ancestor or flags.axes):
        return None
    live = graph.live()
    if not any(X in graph[i].inputs for i in live):
        # Without x nothing varies over the batch either.
        return "ancestor" if flags.ancestor else "axes"
    if flags.axes:
        # Bits of the axes that each node varies over.
        varies = [_ALL, 0, _CHANNEL, _CHANNEL] + [0] * (OUTPUT - 3)
        for i in live:
            op, inputs = graph[i]
            bits = 0
            for k in inputs:
                bits |= varies[k]
            varies[i] = bits & _KEPT[op]
        if varies[OUTPUT] != _ALL:
            return "axes"
    return None


def _probe(seed: int, scale: float, tails: float) -> list[np.ndarray]:
    """x [4, 16, 8], zero, v0 and v1: unlike channels, images and signs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 16, 8))
    x = x * np.abs(x) ** tails * np.exp(0.5 * rng.standard_normal((4, 1, 1)))
    x = x * np.exp(0.5 * rng.standard_normal(8)) + rng.standard_normal(8)
    v0 = 0.5 * rng.standard_normal((1, 1, 8))
    v1 = np.where(np.arange(8) % 3 == 1, -1.0, 1.0)
    v1 = v1 * np.exp(0.3 * rng.standard_normal((1, 1, 8)))
    return [scale * x, np.zeros((1, 1, 1)), v0, v1]


_PROBES = (_probe(1, 1.0, 0.0), _probe(2, 3.0, 0.5))
_DIRECTIONS = [
    np.random.default_rng(3 + i).standard_normal((4, 16, 8)) for i in range(2)
]
# Outputs that tell functions apart: 48 of each probe's 512.
_SAMPLE = np.random.default_rng(5).permutation(512)[:48]


def numeric(
    graph: Graph, flags: Filters
) -> tuple[str | None, np.ndarray | None]:
    """Runs the probes.

    Returns:
      The filter that rejects the graph, or None; and 96 of its outputs, by
      which its function is known, or None if they are not finite.
    """
    outputs = []
    with np.errstate(all="ignore"):
        for given, direction in zip(_PROBES, _DIRECTIONS):
            y = evaluate_numpy(graph, given, GROUPS)
            reason = _objection(graph, y, given, direction, flags)
            if reason:
                return reason, None
            outputs.append(np.broadcast_to(y, (4, 16, 8)).ravel()[_SAMPLE])
    values = np.concatenate(outputs)
    return None, values if np.isfinite(values).all() else None


def _objection(graph, y, given, direction, flags: Filters) -> str | None:
    low, high = float(y.min()), float(y.max())
    size = max(-low, high)
    if not np.isfinite(low + high):
        return "finite" if flags.finite else None
    if flags.large and size > _LARGE:
        return "large"
    tiny = 1e-9 * size
    if flags.constant and high - low <= tiny:
        return "constant"
    if flags.spatial and (np.ptp(y, axis=1) <= tiny).all():
        return "spatial"
    if flags.gradient:
        x, *rest = given
        ahead, behind = (
            evaluate_numpy(graph, [x + h * direction, *rest], GROUPS)
            for h in (_STEP, -_STEP)
        )
        slope = float(np.abs(ahead - behind).max()) / (2.0 * _STEP)
        if not np.isfinite(slope) or slope <= _NO_SLOPE * size:
            return "gradient"
    return None


class Functions:
    """Finds functions that were seen before, under another expression.

    Two graphs count as one function where their outputs on the probes differ
    by at most 1e-3 of their size. Candidates for that are found in buckets
    of two random projections; a neighbour may have fallen over the border.
    """

    _CELL = 0.02
    _SAME = 1e-3

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        size = 2 * len(_SAMPLE)
        self._projections = rng.standard_normal((size, 2)) / np.sqrt(size)
        self._buckets: dict[tuple[int, int], list] = {}

    def _place(self, values: np.ndarray) -> tuple[float, tuple[int, int]]:
        size = float(np.abs(values).max())
        cells = values @ self._projections / (max(size, 1e-30) * self._CELL)
        return size, (int(cells[0] // 1), int(cells[1] // 1))

    def find(self, values: np.ndarray) -> str | None:
        """The name under which this function was added, or None."""
        size, (row, column) = self._place(values)
        for i in (row - 1, row, row + 1):
            for j in (column - 1, column, column + 1):
                for other, name in self._buckets.get((i, j), ()):
                    gap = float(np.abs(values - other).max())
                    if gap <= self._SAME * size:
                        return name
        return None

    def add(self, values: np.ndarray, name: str) -> None:
        """Remembers a function by its outputs on the probes."""
        _, place = self._place(values)
        self._buckets.setdefault(place, []).append((values, name))
