"""Pictures of graphs: Graphviz text, and PNG if `dot` is installed."""

import shutil
import subprocess

from evonorm_tf.graphs.formula import formula
from evonorm_tf.graphs.graph import FIRST, INITIAL, OUTPUT, Graph, check
from evonorm_tf.graphs.primitives import PRIMITIVES

_AGGREGATION = "#cfe3f2"
_OUTPUT = "#f5d9c8"


def dot(graph: Graph) -> str:
    """Returns the live nodes as Graphviz text, numbered as in `text`.

    Aggregations are blue and the output is orange. Where the order of the
    inputs matters, in divisions, edges are numbered.
    """
    check(graph)
    live = graph.live()
    used = graph.uses()
    lines = [
        "digraph layer {",
        f'  label="{formula(graph)}"; rankdir=TB; fontname="Helvetica";',
        '  node [fontname="Helvetica", shape=box, style="rounded,filled", '
        'fillcolor="white"];',
    ]
    for number, name in enumerate(INITIAL):
        if number in used:
            lines.append(f'  n{number} [label="{name}", shape=ellipse];')
    for number in live:
        op = graph[number].op
        colour = "white"
        if PRIMITIVES[op].axes:
            colour = _AGGREGATION
        if number == OUTPUT:
            colour = _OUTPUT
        lines.append(f'  n{number} [label="{op}", fillcolor="{colour}"];')
    for number in live:
        op, inputs = graph[number]
        ordered = len(inputs) == 2 and not PRIMITIVES[op].commutative
        for place, source in enumerate(inputs, 1):
            label = f' [label="{place}"]' if ordered else ""
            lines.append(f"  n{source} -> n{number}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def png(graph: Graph, path: str) -> None:
    """Writes the picture as a PNG file.

    Raises:
      RuntimeError: if Graphviz's `dot` is not installed or fails.
    """
    check(graph)
    if shutil.which("dot") is None:
        raise RuntimeError(
            "A PNG picture needs Graphviz's `dot`, which is not installed. "
            "The text form (`graphs.dot`) does not need it, and any Graphviz "
            f"viewer reads it. Received: path={path!r}"
        )
    done = subprocess.run(
        ["dot", "-Tpng", "-o", path],
        input=dot(graph),
        text=True,
        capture_output=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"`dot` failed: {done.stderr.strip()}. Received: path={path!r}"
        )


def depths(graph: Graph) -> dict[int, int]:
    """Returns the live nodes and their inputs, with their depths."""
    found = {i: 0 for i in graph.uses() if i < FIRST}
    for number in graph.live():
        found[number] = 1 + max(found[i] for i in graph[number].inputs)
    return found
