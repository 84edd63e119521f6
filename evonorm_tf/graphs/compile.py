"""A graph as a catalog row: from then on it is a layer like any other.

Every aggregation over the batch becomes a moving statistic of its own, of the
moment and not of its square root, named after its node: `moving_variance_8`.
v0 and v1 become the weights `v0` and `v`, where the graph uses them.
"""

import functools
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from evonorm_tf import catalog
from evonorm_tf.graphs import stored
from evonorm_tf.graphs.canonical import key
from evonorm_tf.graphs.evaluate import evaluate
from evonorm_tf.graphs.formula import formula
from evonorm_tf.graphs.graph import V0, V1, Graph, from_json, shown
from evonorm_tf.graphs.primitives import PRIMITIVES, Primitive
from evonorm_tf.ops import general
from evonorm_tf.ops.plan import BatchStatistics, Kernel, Plan

Tensor = tf.Tensor

TENSORFLOW = SimpleNamespace(
    abs=tf.abs,
    exp=tf.exp,
    log=tf.math.log,
    maximum=tf.maximum,
    ones_like=tf.ones_like,
    sigmoid=tf.sigmoid,
    sign=tf.sign,
    sqrt=tf.sqrt,
    square=tf.square,
    tanh=tf.tanh,
    where=tf.where,
)
_INITIAL = {"mean": 0.0, "mean_square": 1.0, "variance": 1.0}
_WEIGHTS = ((V0, ("v0", 0.0)), (V1, ("v", 1.0)))


@functools.lru_cache(maxsize=256)
def row(graph: Graph, name: str | None = None) -> catalog.Row:
    """The catalog row of a graph; the same row for the same graph.

    Args:
      graph: the layer.
      name: what to call it; `graph_` and its key if left out.
    """
    used = graph.uses()
    spec = graph.to_json()
    if name is not None:
        spec["name"] = name
    return catalog.Row(
        name=name or f"graph_{key(graph)[:12]}",
        formula=formula(graph),
        reference="found by search, or written as a graph",
        kernel=Kernel(
            apply=functools.partial(_apply, graph),
            statistics=tuple(_statistics(graph).values()),
        ),
        weights=tuple(weight for node, weight in _WEIGHTS if node in used),
        grouped=any(_axes(graph, i) == "whg" for i in graph.live()),
        # What an EvoNorm becomes without its activation: the plain affine.
        without_activation=catalog.get("evonorm_s0").without_activation,
        min_rank=4,
        spec=spec,
    )


def resolve(spec: str | os.PathLike | Mapping[str, Any]) -> catalog.Row:
    """The row of a layer's stored form, or of a JSON file that holds one.

    Args:
      spec: as `Graph.to_json`, perhaps with a `name`; or a file's path.

    Raises:
      ValueError: for a file that cannot be read, or a malformed graph.
    """
    where = ""
    if isinstance(spec, (str, os.PathLike)):
        where = f" in {str(spec)!r}"
        spec = stored.read(spec)
    try:
        graph = from_json(spec)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Not a graph{where}. {error}") from error
    name = spec.get("name")
    if name is not None and not isinstance(name, str):
        raise ValueError(
            f"A graph's name must be a string{where}. "
            f"Received: name={shown(name)}"
        )
    return row(graph, name)


def _axes(graph: Graph, number: int) -> str | None:
    return PRIMITIVES[graph[number].op].axes


def _statistics(graph: Graph) -> dict[int, tuple[str, float]]:
    """Name and initial value of every moving statistic, by node."""
    return {
        number: (f"moving_{statistic}_{number}", _INITIAL[statistic])
        for number in graph.live()
        if _axes(graph, number) == "bwh"
        for statistic in [PRIMITIVES[graph[number].op].statistic]
    }


def _apply(
    graph: Graph,
    x: Tensor,
    parameters: dict[str, Tensor],
    batch: BatchStatistics,
    plan: Plan,
) -> Tensor:
    """The layer, [N, S, C] to [N, S, C], as catalog kernels are called."""
    names = _statistics(graph)

    def moment(number: int, primitive: Primitive, p: Tensor) -> Tensor:
        if primitive.over_batch:
            name, _ = names[number]
            ask = getattr(batch, primitive.statistic)
            # A statistic has all channels, even where they are equal.
            value = ask(name, p + _zeros(p, x))
            return value[None, None]
        if primitive.statistic == "mean":
            return _average(p, primitive.axes, plan.groups)
        if primitive.statistic == "variance":
            p = p - _average(p, primitive.axes, plan.groups)
        return _average(tf.square(p), primitive.axes, plan.groups)

    vectors = [
        parameters[name][None, None] if name in parameters else None
        for _, (name, _) in _WEIGHTS
    ]
    initial = [x, tf.zeros([1, 1, 1], x.dtype), *vectors]
    y = evaluate(graph, initial, moment, TENSORFLOW, plan.epsilon)
    if not (x.shape.is_fully_defined() and y.shape == x.shape):
        y = tf.broadcast_to(y, tf.shape(x))
    return general.scaled(y, parameters)


def _zeros(p: Tensor, x: Tensor) -> Tensor | float:
    # A size that is not known is all channels: one of 1 always is.
    if p.shape[-1] == x.shape[-1]:
        return 0.0
    return tf.zeros([1, 1, _size(x, 2)], p.dtype)


def _size(p: Tensor, axis: int) -> int | Tensor:
    # Sizes that are known stay numbers: a candidate costs what its trace has.
    return tf.shape(p)[axis] if p.shape[axis] is None else p.shape[axis]


_SPACE = {"whc": [1, 2], "wh": [1]}


def _average(p: Tensor, axes: str, groups: int) -> Tensor:
    if axes != "whg":
        return tf.reduce_mean(p, _SPACE[axes], keepdims=True)
    if p.shape[-1] == 1:  # Constant over channels: so is every group's mean.
        return tf.reduce_mean(p, 1, keepdims=True)
    n, size, channels = (_size(p, axis) for axis in range(3))
    split = tf.reshape(p, [n, size, groups, channels // groups])
    value = tf.reduce_mean(split, [1, 3], keepdims=True)
    value = tf.broadcast_to(value, [n, 1, groups, channels // groups])
    return tf.reshape(value, [n, 1, channels])
