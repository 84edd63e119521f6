"""Compiles a graph to a catalog row, which makes it a layer like any other.

Every aggregation over the batch has its own moving statistic, of the moment and
not of its square root, named after its node: `moving_variance_8`. v0 and v1
become the weights `v0` and `v` if the graph uses them.
"""

import functools
import os
from collections.abc import Mapping
from typing import Any

from evonorm_tf import catalog
from evonorm_tf.graphs import stored
from evonorm_tf.graphs.canonical import key
from evonorm_tf.graphs.evaluate import evaluate
from evonorm_tf.graphs.formula import formula
from evonorm_tf.graphs.graph import V0, V1, Graph, check, from_json, shown
from evonorm_tf.graphs.primitives import PRIMITIVES, Primitive
from evonorm_tf.ops import general
from evonorm_tf.ops.kernel import BatchStatistics, General, Plan, Statistic

Array = Any

_INITIAL = {"mean": 0.0, "mean_square": 1.0, "variance": 1.0}
_WEIGHTS = ((V0, catalog.Weight("v0", 0.0)), (V1, catalog.V))


def row(graph: Graph, name: str | None = None) -> catalog.Row:
    """Returns the catalog row of a graph; the last 256 rows are cached.

    Example:
        ```python
        graph = graphs.parse("n12=sigmoid(x); n13=mul(x,n12)")
        layer = evonorm_tf.NormAct(graphs.row(graph))
        ```

    Args:
      graph: the layer.
      name: name of the row; by default `graph_` and the graph's key.

    Raises:
      TypeError: if it is not a `Graph`.
      ValueError: if the name is not a string.
    """
    check(graph)
    if name is not None and not isinstance(name, str):
        raise ValueError(
            f"A graph's name must be a string. Received: name={shown(name)}"
        )
    return _row(graph, name)


@functools.lru_cache(maxsize=256)
def _row(graph: Graph, name: str | None) -> catalog.Row:
    used = graph.uses()
    spec = graph.to_json()
    if name is not None:
        spec["name"] = name
    return catalog.Row(
        name=name or f"graph_{key(graph)[:12]}",
        formula=formula(graph),
        reference="found by search, or written as a graph",
        kernel=General(
            apply=functools.partial(_apply, graph),
            statistics=tuple(_statistics(graph).values()),
        ),
        weights=tuple(weight for node, weight in _WEIGHTS if node in used),
        grouped=any(_axes(graph, i) == "whg" for i in graph.live()),
        # Without its activation, as for EvoNorms: the plain affine.
        without_activation=catalog.AFFINE,
        min_rank=4,
        spec=spec,
    )


def resolve(spec: str | os.PathLike | Mapping[str, Any]) -> catalog.Row:
    """Returns the row of a layer's stored form, or of a JSON file with one.

    Args:
      spec: as from `Graph.to_json`, optionally with a `name`; or the path of a
        file.

    Raises:
      ValueError: if the file cannot be read or the graph is invalid.
    """
    where = ""
    if isinstance(spec, (str, os.PathLike)):
        where = f" in {str(spec)!r}"
        spec = stored.read(spec)
    try:
        return row(from_json(spec), spec.get("name"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"Not a graph{where}. {error}") from error


def _axes(graph: Graph, number: int) -> str | None:
    return PRIMITIVES[graph[number].op].axes


def _statistics(graph: Graph) -> dict[int, Statistic]:
    """Returns every batch statistic, by the number of its node."""
    return {
        number: Statistic(f"moving_{moment}_{number}", _INITIAL[moment])
        for number in graph.live()
        if _axes(graph, number) == "bwh"
        for moment in [PRIMITIVES[graph[number].op].statistic]
    }


def _apply(
    graph: Graph,
    xp: Any,
    x: Array,
    parameters: Mapping[str, Array],
    batch: BatchStatistics,
    plan: Plan,
) -> Array:
    """Computes the layer, [N, S, C] to [N, S, C], as a catalog kernel."""
    statistics = _statistics(graph)

    def average(p: Array, axes: str) -> Array:
        return _average(xp, p, axes, plan.groups)

    def moment(number: int, primitive: Primitive, p: Array) -> Array:
        if primitive.over_batch:
            # A statistic has all channels, even if they are equal.
            full, name = p + _zeros(xp, p, x), statistics[number].name
            value = batch.moment(primitive.statistic, name, full)
            return value if len(value.shape) == 3 else value[None, None]
        if primitive.statistic == "mean":
            return average(p, primitive.axes)
        if primitive.statistic == "variance":
            p = p - average(p, primitive.axes)
        return average(xp.square(p), primitive.axes)

    vectors = [
        parameters[weight.name][None, None]
        if weight.name in parameters
        else None
        for _, weight in _WEIGHTS
    ]
    initial = [x, xp.zeros([1, 1, 1], x.dtype), *vectors]
    y = evaluate(graph, initial, moment, xp, plan.epsilon)
    known = None not in (*x.shape, *y.shape)
    if not (known and tuple(y.shape) == tuple(x.shape)):
        y = xp.broadcast_to(y, xp.shape(x))
    return general.scaled(y, parameters)


def _zeros(xp: Any, p: Array, x: Array) -> Array | float:
    # An unknown size is that of all channels, because 1 is always known.
    if p.shape[-1] == x.shape[-1]:
        return 0.0
    return xp.zeros([1, 1, xp.shape(x)[2]], p.dtype)


_SPACE = {"whc": (1, 2), "wh": 1}


def _average(xp: Any, p: Array, axes: str, groups: int) -> Array:
    if axes != "whg":
        return xp.mean(p, _SPACE[axes], keepdims=True)
    if p.shape[-1] == 1:  # Constant over channels, and so is a group's mean.
        return xp.mean(p, 1, keepdims=True)
    n, size, channels = xp.shape(p)
    split = xp.reshape(p, [n, size, groups, channels // groups])
    value = xp.mean(split, (1, 3), keepdims=True)
    value = xp.broadcast_to(value, [n, 1, groups, channels // groups])
    return xp.reshape(value, [n, 1, channels])
