"""The two search spaces, random graphs and mutation.

Series B has all 24 primitives; series S excludes those over the batch. In a
random graph, every node draws an operation and then its inputs among the
earlier nodes, uniformly. A mutation changes one node in three steps (Section
3.4, arXiv:2004.02967): it draws the node, its operation and its inputs, each
uniformly. A mutation may therefore change nothing, and often changes no value.
"""

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterator

from evonorm_tf.graphs.graph import FIRST, SIZE, Graph, Node, padded
from evonorm_tf.graphs.primitives import PRIMITIVES, Primitive


@dataclasses.dataclass(frozen=True)
class Space:
    """The primitives of a space, and how many nodes are drawn."""

    name: str
    primitives: tuple[Primitive, ...]
    nodes: int = SIZE - FIRST

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= SIZE - FIRST:
            raise ValueError(
                f"`nodes` must be from 1 to {SIZE - FIRST}. "
                f"Received: nodes={self.nodes}"
            )

    @property
    def places(self) -> range:
        """Returns the numbers of the nodes that are drawn: the last ones."""
        return range(SIZE - self.nodes, SIZE)

    def sources(self, number: int) -> list[int]:
        """Returns the possible inputs of a node."""
        return [*range(FIRST), *range(self.places[0], number)]


SPACES = {
    "b": Space("b", tuple(PRIMITIVES.values())),
    "s": Space("s", tuple(p for p in PRIMITIVES.values() if not p.over_batch)),
}


def get(name: str, nodes: int = SIZE - FIRST) -> Space:
    """Returns a space by name, with this number of nodes.

    Raises:
      ValueError: if the name is unknown or the number of nodes is invalid.
    """
    if name not in SPACES:
        raise ValueError(
            "`space` must be 'b' (all primitives) or 's' (none over the "
            f"batch). Received: space={name!r}"
        )
    return dataclasses.replace(SPACES[name], nodes=nodes)


def generator(seed: int, trial: int) -> random.Random:
    """Returns a random generator for one trial, independent of others."""
    digest = hashlib.blake2b(f"{seed}/{trial}".encode(), digest_size=16)
    return random.Random(int.from_bytes(digest.digest(), "big"))


def _below(rng: random.Random, count: int) -> int:
    # random() is the only method whose sequence Python guarantees.
    return int(rng.random() * count)


def _draw(rng: random.Random, space: Space, number: int) -> Node:
    primitive = space.primitives[_below(rng, len(space.primitives))]
    sources = space.sources(number)
    inputs = tuple(
        sources[_below(rng, len(sources))] for _ in range(primitive.arity)
    )
    return Node(primitive.name, inputs)


def random_graph(rng: random.Random, space: Space) -> Graph:
    """Draws the nodes of a random graph in order."""
    return padded([_draw(rng, space, i) for i in space.places])


def mutate(rng: random.Random, graph: Graph, space: Space) -> Graph:
    """Draws one node of `graph`, chosen uniformly, anew."""
    number = space.places[_below(rng, space.nodes)]
    nodes = list(graph.nodes)
    nodes[number - FIRST] = _draw(rng, space, number)
    return Graph(tuple(nodes))


def every_graph(space: Space) -> Iterator[Graph]:
    """Yields all graphs of a space in a fixed order; for few nodes only."""

    def fill(number: int, nodes: list[Node]) -> Iterator[Graph]:
        if number == SIZE:
            yield padded(nodes)
            return
        sources = space.sources(number)
        for primitive in space.primitives:
            for inputs in itertools.product(sources, repeat=primitive.arity):
                node = Node(primitive.name, inputs)
                yield from fill(number + 1, [*nodes, node])

    return fill(space.places[0], [])
