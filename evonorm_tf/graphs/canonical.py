"""A canonical form for equivalent expressions.

Dead nodes are removed, equal subexpressions are merged, the inputs of add, mul
and max are sorted, and nodes are numbered by depth and content, independently
of their original order. The value is preserved to the last bit, except for the
order of a sum. At exact ties of max the gradient may take the other side
(`zero` is put first: max(zero, x) is relu with slope 0 at 0).

The search mutates graphs without this, including dead nodes, which are the
reserve for neutral mutations. The form only serves to compare graphs.
"""

import functools
import hashlib

from evonorm_tf.graphs.graph import (
    FIRST,
    INITIAL,
    SIZE,
    ZERO,
    Graph,
    Node,
    check,
    padded,
)
from evonorm_tf.graphs.primitives import PRIMITIVES


def canonical(graph: Graph) -> Graph:
    """Returns the canonical form, padded in front; it is idempotent."""
    check(graph)
    # An expression is identified by its text; equal ones merge in the dict.
    text = dict(enumerate(INITIAL))
    depth = dict.fromkeys(range(FIRST), 0)
    found: dict[str, tuple[int, str, list[str]]] = {}
    for number in graph.live():
        op, inputs = graph[number]
        if PRIMITIVES[op].commutative:
            inputs = sorted(inputs, key=lambda i: _rank(i, text, depth))
        depth[number] = 1 + max(depth[i] for i in inputs)
        whole = f"{op}({','.join(text[i] for i in inputs)})"
        text[number] = _digest(whole)
        found[text[number]] = depth[number], op, [text[i] for i in inputs]
    order = sorted(found, key=lambda t: (found[t][0], t))
    first = SIZE - len(order)
    place = {t: i for i, t in enumerate(order, first)}
    place.update({name: i for i, name in enumerate(INITIAL)})
    return padded(
        [Node(found[t][1], tuple(place[i] for i in found[t][2])) for t in order]
    )


def _rank(node: int, text: dict[int, str], depth: dict[int, int]) -> tuple:
    return node != ZERO, depth[node], text[node]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def key(graph: Graph) -> str:
    """Returns 32 hex digits, equal for equivalent expressions."""
    check(graph)  # Before it is hashed.
    return _key(graph)


@functools.lru_cache(maxsize=65536)
def _key(graph: Graph) -> str:
    text = canonical(graph).text().encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()
