"""Cheap rejection before any training: by structure, then on two probes.

Each filter is a flag. All are off in the strict replica of the paper, which
trains every graph. They run in this order, the cheapest and most selective
first, and the first one that rejects a graph is the reason:

    ancestor   the output does not depend on x
    axes       by its structure the output cannot vary over the batch, over
               space or over channels
    finite     NaN or Inf on a probe
    large      |y| above 1e6 on a probe
    constant   one value over a whole probe
    spatial    constant over space on a probe
    gradient   a central difference along a random direction is zero or not
               finite

`axes` and `spatial` are a choice: a layer that discards the image could still
pass the quality test.
"""

import dataclasses
import functools

import numpy as np

from evonorm_tf.graphs.evaluate import evaluate_numpy
from evonorm_tf.graphs.graph import OUTPUT, Graph, X
from evonorm_tf.graphs.primitives import PRIMITIVES

GROUPS = 4
# Shape of a probe: images, pixels, channels.
SHAPE = (4, 16, 8)
_BATCH, _SPACE, _CHANNEL = 1, 2, 4
_ALL = _BATCH | _SPACE | _CHANNEL
# Axes over which an aggregation is constant; channels differ between groups.
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
    """The filters to run; see the module's description."""

    ancestor: bool = True
    axes: bool = True
    finite: bool = True
    large: bool = True
    constant: bool = True
    spatial: bool = True
    gradient: bool = True

    @classmethod
    def none(cls) -> "Filters":
        """Returns the filters of the strict replica of the paper: none."""
        return cls(*(False for _ in dataclasses.fields(cls)))

    @property
    def numeric(self) -> bool:
        """Returns whether any filter needs the probes."""
        return (
            self.finite
            or self.large
            or self.constant
            or self.spatial
            or self.gradient
        )


def structural(graph: Graph, flags: Filters) -> str | None:
    """Returns the structural filter that rejects `graph`, or None."""
    if not (flags.ancestor or flags.axes):
        return None
    live = graph.live()
    if not any(X in graph[i].inputs for i in live):
        # Without x the output does not vary over the batch either.
        return "ancestor" if flags.ancestor else "axes"
    if flags.axes:
        # Bit mask of the axes over which each node varies.
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
    """Returns x [4, 16, 8], zero, v0 and v1, all with varied values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(SHAPE)
    x = x * np.abs(x) ** tails * np.exp(0.5 * rng.standard_normal((4, 1, 1)))
    x = x * np.exp(0.5 * rng.standard_normal(8)) + rng.standard_normal(8)
    v0 = 0.5 * rng.standard_normal((1, 1, 8))
    v1 = np.where(np.arange(8) % 3 == 1, -1.0, 1.0)
    v1 = v1 * np.exp(0.3 * rng.standard_normal((1, 1, 8)))
    return [scale * x, np.zeros((1, 1, 1)), v0, v1]


PROBES = (_probe(1, 1.0, 0.0), _probe(2, 3.0, 0.5))
_DIRECTIONS = [
    np.random.default_rng(3 + i).standard_normal(SHAPE) for i in range(2)
]
# Outputs that identify a function: 48 of the 512 values of each probe.
SAMPLE = np.random.default_rng(5).permutation(512)[:48]


@functools.lru_cache(maxsize=8192)  # A replay repeats graphs.
def numeric(
    graph: Graph, flags: Filters
) -> tuple[str | None, np.ndarray | None]:
    """Evaluates the probes.

    Returns:
      The filter that rejects the graph, or None; and 96 of its outputs, which
      identify its function, or None if they are not finite. Read-only.
    """
    outputs = []
    with np.errstate(all="ignore"):
        for given, direction in zip(PROBES, _DIRECTIONS):
            y = evaluate_numpy(graph, given, GROUPS)
            reason = _objection(graph, y, given, direction, flags)
            if reason:
                return reason, None
            outputs.append(np.broadcast_to(y, SHAPE).ravel()[SAMPLE])
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
