"""A layer as a graph: 14 nodes, of which 10 compute.

    node   0   1      2    3    4 ... 12       13
           x   zero   v0   v1   intermediate   output

v0 starts at 0 and v1 at 1, per channel. The inputs of a node are earlier nodes.
Unused nodes are allowed and inherited (Section 3.1 and Figure 2,
arXiv:2004.02967). The affine gamma and beta is outside the graph.

`text` and `parse` convert to and from a text form (nodes before the first one
that is given are filled with neg(zero)):

    n9=mul(x,v1); n10=std_whg(x); n11=sigmoid(n9); n12=mul(x,n11); n13=div(n12,n10)
"""  # noqa: E501

import dataclasses
import numbers
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from evonorm_tf.errors import did_you_mean, is_number
from evonorm_tf.graphs.primitives import PRIMITIVES

INITIAL = ("x", "zero", "v0", "v1")
X, ZERO, V0, V1 = range(4)
FIRST = len(INITIAL)
SIZE = 14
OUTPUT = SIZE - 1
JSON_VERSION = 1

_NODE = re.compile(r"n(\d+)=(\w+)\(([^()]*)\)")
_NAMES = tuple(INITIAL) + tuple(f"n{i}" for i in range(FIRST, SIZE))
_INDEX = {name: i for i, name in enumerate(_NAMES)}


class Node(NamedTuple):
    """A primitive's name and the numbers of its input nodes."""

    op: str
    inputs: tuple[int, ...]


PADDING = Node("neg", (ZERO,))


@dataclasses.dataclass(frozen=True)
class Graph:
    """The ten computing nodes of a layer, in order; validated on creation.

    Attributes:
      nodes: node i of the graph is nodes[i - 4].

    Raises:
      ValueError: if the graph is invalid; the message names the node.
      TypeError: if the nodes are not (op, inputs).
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        try:
            nodes = tuple(self.nodes)
        except TypeError:
            raise TypeError(
                "A graph's nodes must be a sequence of (op, inputs). "
                f"Received: nodes={shown(self.nodes)}"
            ) from None
        _check_count(len(nodes))
        nodes = tuple(_node(i, n) for i, n in enumerate(nodes, FIRST))
        object.__setattr__(self, "nodes", nodes)

    def __getitem__(self, number: int) -> Node:
        """Returns node n4 to n13 by its number."""
        return self.nodes[number - FIRST]

    def live(self) -> list[int]:
        """Returns the computing nodes that the output uses, ascending."""
        needed = [False] * SIZE
        needed[OUTPUT] = True
        for number in range(OUTPUT, FIRST - 1, -1):
            if needed[number]:
                for i in self.nodes[number - FIRST].inputs:
                    needed[i] = True
        return [i for i in range(FIRST, SIZE) if needed[i]]

    def uses(self) -> set[int]:
        """Returns all nodes that the output uses, including initial ones."""
        return {OUTPUT}.union(*(self[i].inputs for i in self.live()))

    def text(self) -> str:
        """Returns the text form, including dead nodes."""
        return "; ".join(
            f"n{i}={node.op}({','.join(_NAMES[k] for k in node.inputs)})"
            for i, node in enumerate(self.nodes, FIRST)
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON form: only lists, strings and numbers."""
        return {
            "version": JSON_VERSION,
            "nodes": [
                {"op": node.op, "in": list(node.inputs)} for node in self.nodes
            ],
        }


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print numbers with more than 4,300 digits.
        bits = x.bit_length()
        return repr(x) if bits < 100 else f"<a number of {bits} bits>"


def shown(value: Any) -> str:
    """Returns the beginning of a value for an error message."""
    short = _Short()
    short.maxlevel, short.maxstring, short.maxother = 3, 80, 80
    return short.repr(value)


def check(graph: Any) -> None:
    """Checks that an argument is a graph and not one of its other forms.

    Raises:
      TypeError: if it is not a `Graph`.
    """
    if not isinstance(graph, Graph):
        raise TypeError(
            "Expected a Graph: use graphs.parse for the text form, and "
            "graphs.from_json for the JSON form. "
            f"Received: graph={shown(graph)}"
        )


def _check_count(count: int) -> None:
    if count != SIZE - FIRST:
        raise ValueError(
            f"A graph must have {SIZE - FIRST} computing nodes, n{FIRST} to "
            f"n{OUTPUT}. Received: {count} nodes"
        )


def _node(number: int, node: Any) -> Node:
    try:
        op, inputs = node
        inputs = tuple(inputs)
    except (TypeError, ValueError):
        raise TypeError(
            f"Node n{number}: expected (op, inputs). Received: {shown(node)}"
        ) from None
    primitive = PRIMITIVES.get(op) if isinstance(op, str) else None
    if primitive is None:
        hint = did_you_mean(op[:40] if isinstance(op, str) else "", PRIMITIVES)
        raise ValueError(
            f"Node n{number}: unknown operation. {hint}Received: op={shown(op)}"
        )
    if len(inputs) != primitive.arity:
        raise ValueError(
            f"Node n{number}: {op} takes {primitive.arity} input(s). "
            f"Received: inputs={shown(inputs)}"
        )
    for i in inputs:
        if not is_number(numbers.Integral, i) or not 0 <= i < number:
            raise ValueError(
                f"Node n{number}: an input must be an earlier node, a number "
                f"from 0 to {number - 1} (a later one would close a cycle). "
                f"Received: inputs={shown(inputs)}"
            )
    return Node(op, tuple(map(int, inputs)))


def padded(nodes: list[Node]) -> Graph:
    """Returns a graph whose last nodes are `nodes`, with final numbers."""
    return Graph((PADDING,) * (SIZE - FIRST - len(nodes)) + tuple(nodes))


def parse(text: str) -> Graph:
    """Returns the graph of a text form.

    Raises:
      ValueError: if the text is invalid; the message names the part.
      TypeError: if it is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(
            "Expected a graph's text form, such as n13=tanh(x). "
            f"Received: {shown(text)}"
        )
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not 1 <= len(parts) <= SIZE - FIRST:
        raise ValueError(
            f"A text form must have 1 to {SIZE - FIRST} computing nodes, the "
            f"last being n{OUTPUT}. Received: {len(parts)} nodes in "
            f"{shown(text)}"
        )
    first = SIZE - len(parts)
    nodes = []
    for number, part in enumerate(parts, first):
        match = _NODE.fullmatch(re.sub(r"\s", "", part))
        if not match or match[1] != str(number):
            raise ValueError(
                f"Expected node n{number} as n{number}=op(input,...), the "
                f"last node being n{OUTPUT}. Received: {shown(part)}"
            )
        nodes.append(Node(match[2], _inputs(number, match[3])))
    return padded(nodes)


def _inputs(number: int, text: str) -> tuple[int, ...]:
    names = text.split(",")
    unknown = [name for name in names if name not in _INDEX]
    if unknown:
        raise ValueError(
            f"Node n{number}: an input must be one of {', '.join(INITIAL)} or "
            f"an earlier node n{FIRST} to n{number - 1}. "
            f"Received: {shown(unknown)}"
        )
    return tuple(_INDEX[name] for name in names)


_JSON_KEYS = ("version", "nodes", "name", "about")


def from_json(data: Mapping[str, Any]) -> Graph:
    """Returns the graph of a JSON form.

    Args:
      data: a mapping with `version` and `nodes`; `name` and `about` are
        allowed and ignored.

    Raises:
      ValueError: if the version, a key or the graph is invalid.
      TypeError: if it is not a mapping.
    """
    if not isinstance(data, Mapping):
        raise TypeError(
            "Expected a graph as a mapping with the keys version and nodes. "
            f"Received: {shown(data)}"
        )
    unknown = [key for key in data if key not in _JSON_KEYS]
    if unknown or "nodes" not in data:
        raise ValueError(
            f"A graph must have only the keys {', '.join(_JSON_KEYS)}, the "
            f"first two required. Received: {shown(sorted(map(str, data)))}"
        )
    version = data.get("version")
    if type(version) is not int or version != JSON_VERSION:
        raise ValueError(
            f"Expected a graph of version {JSON_VERSION}. "
            f"Received: version={shown(version)}"
        )
    if not isinstance(data["nodes"], (list, tuple)):
        raise TypeError(
            f"`nodes` must be a list. Received: nodes={shown(data['nodes'])}"
        )
    nodes = []
    for number, node in enumerate(data["nodes"], FIRST):
        if not isinstance(node, Mapping) or set(node) != {"op", "in"}:
            raise ValueError(
                f'Node n{number}: expected {{"op": name, "in": [numbers]}}. '
                f"Received: {shown(node)}"
            )
        nodes.append((node["op"], node["in"]))
    return Graph(tuple(nodes))
