"""Layers as graphs of the paper's 24 primitives.

    from evonorm_tf import graphs
    graph = graphs.parse("n12=sigmoid(x); n13=mul(x,n12)")
    layer = evonorm_tf.NormAct(graphs.row(graph))

`primitives` and `graph` say what a graph is, `canonical` tells graphs apart,
`formula` prints them, `picture` draws them, `compile` makes a catalog row of
one. What computes with TensorFlow is imported when it is asked for: the
search's driver handles thousands of graphs a second and needs none of it.
"""

import importlib
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in ("resolve", "row"):
        return getattr(importlib.import_module(f"{__name__}.compile"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
