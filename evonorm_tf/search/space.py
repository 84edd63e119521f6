"""The two search spaces, random graphs and mutation.

Series B has all 24 primitives; series S leaves out those over the batch.
A random graph: every node draws an operation and then its inputs among the
earlier nodes, uniformly. A mutation changes one node, in three steps (Section
3.4, arXiv:2004.02967): which node, which operation, which inputs, each drawn
uniformly; so a mutation may change nothing, and often changes no value.
"""

import dataclasses
import hashlib
import random

from evonorm_tf.graphs.graph import FIRST, SIZE, Graph, Node
from evonorm_tf.graphs.primitives import PRIMITIVES, Primitive


@dataclasses.dataclass(frozen=True)
class Space:
    """What a graph may be made of."""

    name: str
    primitives: tuple[Primitive, ...]


SPACES = {
    "b": Space("b", tuple(PRIMITIVES.values())),
    "s": Space("s", tuple(p for p in PRIMITIVES.values() if not p.over_batch)),
}


def get(name: str) -> Space:
    """The space of that name.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in SPACES:
        raise ValueError(
            "`space` must be 'b' (all primitives) or 's' (none over the "
            f"batch). Received: space={name!r}"
        )
    return SPACES[name]


def generator(seed: int, trial: int) -> random.Random:
    """The random numbers of one trial, independent of all others'."""
    digest = hashlib.blake2b(f"{seed}/{trial}".encode(), digest_size=16)
    return random.Random(int.from_bytes(digest.digest(), "big"))


def _below(rng: random.Random, count: int) -> int:
    # random() is the one method whose sequence Python promises to keep.
    return int(rng.random() * count)


def _draw(rng: random.Random, space: Space, number: int) -> Node:
    primitive = space.primitives[_below(rng, len(space.primitives))]
    inputs = tuple(_below(rng, number) for _ in range(primitive.arity))
    return Node(primitive.name, inputs)


def random_graph(rng: random.Random, space: Space) -> Graph:
    """A graph whose ten nodes are drawn in order."""
    return Graph(tuple(_draw(rng, space, i) for i in range(FIRST, SIZE)))


def mutate(rng: random.Random, graph: Graph, space: Space) -> Graph:
    """`graph` with one node, uniformly chosen, drawn anew."""
    number = FIRST + _below(rng, SIZE - FIRST)
    nodes = list(graph.nodes)
    nodes[number - FIRST] = _draw(rng, space, number)
    return Graph(tuple(nodes))
