"""Layers as graphs of the paper's 24 primitives.

    from evonorm_tf import graphs
    graph = graphs.parse("n12=sigmoid(x); n13=mul(x,n12)")
    layer = evonorm_tf.NormAct(graphs.row(graph))

`primitives` and `graph` define graphs, `canonical` compares them, `formula`
prints them, `picture` draws them, and `compile` turns them into catalog
entries. Importing this package lets `catalog.get` resolve graphs.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from evonorm_tf import catalog
from evonorm_tf.graphs.canonical import canonical, key
from evonorm_tf.graphs.formula import formula, latex
from evonorm_tf.graphs.graph import Graph, Node, from_json, parse
from evonorm_tf.graphs.library import NAMED
from evonorm_tf.graphs.picture import dot, png

__all__ = [
    "NAMED",
    "Graph",
    "Node",
    "canonical",
    "dot",
    "formula",
    "from_json",
    "key",
    "latex",
    "parse",
    "png",
    "resolve",
    "row",
]


def _recognizes(spec: Any) -> bool:
    """Returns whether a spec is a graph, or the path of a file with one."""
    return isinstance(spec, Mapping) or str(spec).endswith(".json")


def _resolve(spec: Any) -> catalog.Row:
    return __getattr__("resolve")(spec)


catalog.register_resolver(_recognizes, _resolve)


def __getattr__(name: str) -> Any:
    if name in ("resolve", "row"):
        return getattr(importlib.import_module(f"{__name__}.compile"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
