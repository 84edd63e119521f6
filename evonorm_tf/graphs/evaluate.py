"""Evaluates a graph, node by node, on arrays [N, S, C] of any array module.

Values are not broadcast before they are used: an axis over which a value is
constant has size 1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evonorm_tf.graphs.graph import OUTPUT, Graph
from evonorm_tf.graphs.primitives import NUMPY, PRIMITIVES, Primitive

Array = Any
# Maps (node number, primitive, input) to the moment, before a square root.
Moment = Callable[[int, Primitive, Array], Array]


def evaluate(
    graph: Graph,
    initial: Sequence[Array],
    moment: Moment,
    xp: Any,
    epsilon: float,
) -> Array:
    """Returns the value of the output node, broadcastable to x.

    Args:
      graph: the layer.
      initial: x [N, S, C], zero, v0 and v1, each of rank 3; None for those
        that the graph does not use.
      moment: computes the mean, mean square or variance of an aggregation.
      xp: the functions of the array module, like `primitives.NUMPY`.
      epsilon: inside the square root of rms and std.
    """
    values = dict(enumerate(initial))
    for number in graph.live():
        node = graph[number]
        primitive = PRIMITIVES[node.op]
        inputs = [values[i] for i in node.inputs]
        if primitive.statistic is None:
            values[number] = primitive.value(xp, *inputs)
            continue
        value = moment(number, primitive, inputs[0])
        if primitive.statistic != "mean":
            value = xp.sqrt(value + epsilon)
        values[number] = value
    return values[OUTPUT]


def evaluate_numpy(
    graph: Graph,
    initial: Sequence[np.ndarray],
    groups: int = 1,
    epsilon: float = 1e-5,
) -> np.ndarray:
    """Returns the value with the statistics of this batch, in NumPy.

    Args:
      graph: the layer.
      initial: x [N, S, C], zero, v0 and v1 [1, 1, C].
      groups: channel groups of the whg aggregations.
      epsilon: inside every square root.
    """

    def moment(number: int, primitive: Primitive, p: np.ndarray) -> np.ndarray:
        del number
        average = _AVERAGES[primitive.axes]
        if primitive.statistic == "mean":
            return average(p, groups)
        if primitive.statistic == "variance":
            p = p - average(p, groups)
        return average(p * p, groups)

    return evaluate(graph, initial, moment, NUMPY, epsilon)


def _over(*axes: int) -> Callable[[np.ndarray, int], np.ndarray]:
    def average(p: np.ndarray, groups: int) -> np.ndarray:
        del groups
        # Summing and dividing is what mean does, with less overhead.
        count = 1
        for axis in axes:
            count *= p.shape[axis]
        return np.add.reduce(p, axes, keepdims=True) / count

    return average


def _by_group(p: np.ndarray, groups: int) -> np.ndarray:
    n, s, c = p.shape
    if c == 1:  # Constant over channels, and so is the mean of every group.
        return _AVERAGES["wh"](p, groups)
    split = p.reshape(n, s, groups, c // groups)
    value = np.add.reduce(split, (1, 3)) / (s * (c // groups))
    return np.repeat(value, c // groups, 1)[:, None]


_AVERAGES: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "bwh": _over(0, 1),
    "whc": _over(1, 2),
    "wh": _over(1),
    "whg": _by_group,
}
