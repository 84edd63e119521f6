"""What to try next: ageing tournaments, random search, or every graph.

Ask and tell. What `ask` proposes follows from the seed, the trial's number,
the graphs that earlier trials claimed and the order in which layers were
accepted: all of it is in the journal, so a search that was killed resumes
unchanged.

A parent is the winner of a tournament among the newest accepted layers
(Section 3.4, arXiv:2004.02967). A graph whose expression, function or
training was tried before (`fingerprint`) is drawn again: it is not trained
twice, and it does not enter the population a second time, which would soon
hold little else.
"""

import collections
import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from evonorm_tf.graphs.canonical import key
from evonorm_tf.graphs.graph import Graph
from evonorm_tf.search import filters, fingerprint, space
from evonorm_tf.search.settings import Settings

_MOST_DRAWS = 200_000
# After so many draws in vain another parent is taken: all that lies around
# this one may have been tried.
_DRAWS_A_PARENT = 500


class Proposal(NamedTuple):
    """A graph to try.

    Attributes:
      graph: the graph.
      parent: the trial it is a child of; None for a random one.
      rejected: how many graphs were drawn in vain, by reason; drawing them
        again from the seed would give the same.
    """

    graph: Graph
    parent: int | None
    rejected: dict[str, int]


class Member(NamedTuple):
    """An accepted layer, with its accuracy on every anchor."""

    trial: int
    graph: Graph
    scores: tuple[float, ...]


def mean(member: Member) -> float:
    """The mean accuracy over the anchors."""
    return sum(member.scores) / len(member.scores)


def front(members: list[Member]) -> list[Member]:
    """Those that no other member beats: the Pareto front of the scores."""
    # In descending order what beats a member comes before it, and so does
    # one of the front: thousands of members are held against dozens.
    best: set[tuple[float, ...]] = set()
    for scores in sorted({m.scores for m in members}, reverse=True):
        if not any(all(a >= b for a, b in zip(o, scores)) for o in best):
            best.add(scores)
    return [member for member in members if member.scores in best]


class Evolution:
    """The state of a search, without its results."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._space = space.get(settings.space, settings.nodes)
        self._every = None
        if settings.algorithm == "exhaustive":
            self._every = space.every_graph(self._space)
        self._filters = settings.cheap
        self._keys: dict[str, int] = {}
        self._functions = fingerprint.Functions()
        self._trainings = fingerprint.Functions()
        self.population: collections.deque[Member] = collections.deque(
            maxlen=settings.population
        )

    def ask(self, trial: int) -> Proposal | None:
        """The graph of that trial; claims it. None: the space has no more.

        Raises:
          RuntimeError: if nothing new is found in 200,000 draws.
        """
        rng = space.generator(self._settings.seed, trial)
        rejected: collections.Counter[str] = collections.Counter()
        for graph, parent in self._draws(rng):
            reason = self._reject(graph)
            if reason is None:
                self._remember(trial, graph)
                return Proposal(graph, parent and parent.trial, dict(rejected))
            rejected[reason] += 1
        if self._every is not None:
            return None
        raise RuntimeError(
            f"No new graph in {_MOST_DRAWS} draws: the space around the "
            "population is used up. Start a run with another seed, a larger "
            f"population or a higher `fresh`. Received: trial={trial}, "
            f"rejected={dict(rejected)}"
        )

    def claim(self, trial: int, graph: Graph) -> None:
        """Remembers that `graph` was proposed, by a driver that ended."""
        # Goes on behind it: what it was drawn after is counted already.
        every = self._every
        if every is not None and all(other != graph for other in every):
            raise ValueError(
                "The journal has a graph that this search would not propose "
                "there; give the run a folder of its own. "
                f"Received: trial={trial}, graph={graph.text()!r}"
            )
        self._remember(trial, graph)

    def _remember(self, trial: int, graph: Graph) -> None:
        if not self._settings.dedup:
            return
        self._keys[key(graph)] = trial
        for known, values in (
            (self._functions, fingerprint.function(graph)),
            (self._trainings, fingerprint.training(graph)),
        ):
            if values is not None:
                known.add(values, str(trial))

    def tell(self, trial: int, graph: Graph, scores: Mapping[str, float]):
        """An accepted layer, to be a parent from now on.

        Args:
          trial: its trial.
          graph: its graph.
          scores: accuracy by anchor.
        """
        values = tuple(scores[a] for a in self._settings.anchors)
        self.population.append(Member(trial, graph, values))

    def _parent(self, rng: random.Random) -> Member | None:
        settings = self._settings
        # Drawn first and always: a trial's numbers depend on nothing else.
        fresh, members = rng.random(), list(self.population)
        if settings.algorithm != "evolution" or fresh < settings.fresh:
            return None
        size = max(1, round(settings.tournament * settings.population))
        if len(members) < size:
            return None
        chosen = [_pick(rng, members) for _ in range(size)]
        if settings.criterion == "average":
            return max(chosen, key=mean)
        return _pick(rng, front(chosen))

    def _draws(
        self, rng: random.Random
    ) -> Iterator[tuple[Graph, Member | None]]:
        """Graphs to consider, each with its parent."""
        if self._every is not None:
            yield from ((graph, None) for graph in self._every)
            return
        for count in range(_MOST_DRAWS):
            if count % _DRAWS_A_PARENT == 0:
                parent = self._parent(rng)
            yield self._draw(rng, parent), parent

    def _draw(self, rng: random.Random, parent: Member | None) -> Graph:
        if parent is None:
            return space.random_graph(rng, self._space)
        graph = parent.graph
        for _ in range(self._settings.mutations):
            graph = space.mutate(rng, graph, self._space)
        return graph

    def _reject(self, graph: Graph) -> str | None:
        reason = filters.structural(graph, self._filters)
        if reason:
            return reason
        dedup = self._settings.dedup
        if dedup and key(graph) in self._keys:
            return "duplicate"
        if not (dedup or self._filters.numeric):
            return None
        reason, values = filters.numeric(graph, self._filters)
        if reason:
            return reason
        if not dedup or values is None:
            return None
        if self._functions.find(values):
            return "same function"
        values = fingerprint.training(graph)
        if values is not None and self._trainings.find(values):
            return "same training"
        return None


def _pick(rng: random.Random, items: list) -> Member:
    return items[int(rng.random() * len(items))]
