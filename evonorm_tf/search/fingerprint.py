"""Finds layers that were tried before under another expression.

There are two tests, in this order:

    same function   equal outputs on the filters' probes, with random v0 and v1
    same training   equal outputs at the start of training, v0 = 0 and v1 = 1,
                    and after each of two steps along the gradient in v0 and
                    v1. max(x, v0^2) is a different function than relu, but at
                    v0 = 0 its gradient is 0, so it trains as relu.

Equal means up to 1e-3 relative to the outputs.
"""

import functools

import numpy as np

from evonorm_tf.graphs.evaluate import evaluate_numpy
from evonorm_tf.graphs.graph import V0, V1, Graph
from evonorm_tf.search import filters

_RATE = 0.3
_STEP = 1e-6
_WEIGHTS = np.random.default_rng(7).standard_normal(filters.SHAPE)


class Functions:
    """Finds outputs that were seen before.

    Candidates are found in buckets of two random projections; neighboring
    buckets are searched too.
    """

    _CELL = 0.02
    _SAME = 1e-3

    def __init__(self) -> None:
        self._projections: np.ndarray | None = None
        self._buckets: dict[tuple[int, int], list] = {}

    def _place(self, values: np.ndarray) -> tuple[float, tuple[int, int]]:
        if self._projections is None:
            drawn = np.random.default_rng(11).standard_normal((len(values), 2))
            self._projections = drawn / np.sqrt(len(values))
        size = float(np.abs(values).max())
        cells = values @ self._projections / (max(size, 1e-30) * self._CELL)
        return size, (int(cells[0] // 1), int(cells[1] // 1))

    def find(self, values: np.ndarray) -> str | None:
        """Returns the name under which these outputs were added, or None."""
        size, (row, column) = self._place(values)
        for i in (row - 1, row, row + 1):
            for j in (column - 1, column, column + 1):
                for other, name in self._buckets.get((i, j), ()):
                    gap = float(np.abs(values - other).max())
                    if gap <= self._SAME * size:
                        return name
        return None

    def add(self, values: np.ndarray, name: str) -> None:
        """Adds outputs, all of one length, under a name."""
        _, place = self._place(values)
        self._buckets.setdefault(place, []).append((values, name))


def function(graph: Graph) -> np.ndarray | None:
    """Returns outputs [96] that identify a function; None if not finite."""
    return filters.numeric(graph, filters.Filters.none())[1]


@functools.lru_cache(maxsize=8192)  # A replay repeats graphs.
def training(graph: Graph) -> np.ndarray | None:
    """Returns outputs [288] that identify a training.

    The gradient in v0 and v1 is a central difference of a random linear
    function of the output, for each channel separately. A step along it changes
    what a training would change and nothing else.

    Returns:
      The outputs, or None if they are not finite. Read-only.
    """
    used = graph.uses() & {V0, V1}
    vectors = {V0: np.zeros((1, 1, 8)), V1: np.ones((1, 1, 8))}
    found = []
    with np.errstate(all="ignore"):
        for step in range(3):
            if step and not used:  # Nothing changes.
                found += found[:2]
                continue
            if step:
                moves = {k: _gradient(graph, vectors, k) for k in used}
                for k, move in moves.items():
                    vectors[k] = vectors[k] - _RATE * move
            for given in filters.PROBES:
                y = evaluate_numpy(
                    graph, [*given[:2], *vectors.values()], filters.GROUPS
                )
                y = np.broadcast_to(y, filters.SHAPE)
                found.append(y.ravel()[filters.SAMPLE])
    values = np.concatenate(found)
    return values if np.isfinite(values).all() else None


def _gradient(graph: Graph, vectors, which: int) -> np.ndarray:
    """Returns the slope along a vector per channel, of length at most 1.

    All channels change at once, so if an output depends on the value of another
    channel, that effect is attributed to its own channel. This is not the
    gradient, but it serves to distinguish trainings: equal functions of
    (x, v0, v1) have equal slopes, and a vector without slope does not change.
    """
    outputs = []
    for move in (_STEP, -_STEP):
        moved = {**vectors, which: vectors[which] + move}
        given = [*filters.PROBES[0][:2], *moved.values()]
        outputs.append(evaluate_numpy(graph, given, filters.GROUPS))
    slope = (outputs[0] - outputs[1]) / (2.0 * _STEP)
    slope = np.broadcast_to(slope, filters.SHAPE)
    total = (slope * _WEIGHTS).sum((0, 1), keepdims=True)
    # Slopes of millions would leave the range of the probe; use the sign.
    return np.tanh(total)
