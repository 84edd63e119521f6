"""Proposes trials: aging tournaments, random search, or every graph.

The interface is ask and tell. Proposals depend only on the seed, the trial's
number, the graphs that earlier trials claimed and the order in which layers
were accepted. All of this is in the journal, so a search that was killed
resumes without a difference.

A parent is the winner of a tournament among the newest accepted layers
(Section 3.4, arXiv:2004.02967). If the expression, function or training of a
graph was tried before (`fingerprint`), another graph is drawn. It is not
trained twice and does not enter the population a second time; otherwise the
population would soon consist of duplicates.
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
# After this many unsuccessful draws another parent is selected, because all
# mutations of this one may have been tried.
_DRAWS_A_PARENT = 500


class Proposal(NamedTuple):
    """A graph to try.

    Attributes:
      graph: the graph.
      parent: the trial whose graph was mutated; None for a random graph.
      rejected: number of graphs that were drawn and rejected before it, by
        reason; the seed reproduces them.
    """

    graph: Graph
    parent: int | None
    rejected: dict[str, int]


class ExhaustedError(RuntimeError):
    """There is no graph left to propose.

    Attributes:
      rejected: number of graphs that were drawn and rejected, by reason.
    """

    def __init__(self, message: str, rejected: dict[str, int]):
        super().__init__(message)
        self.rejected = rejected


class Member(NamedTuple):
    """An accepted layer, with its accuracy on every anchor."""

    trial: int
    graph: Graph
    scores: tuple[float, ...]


def mean(member: Member) -> float:
    """Returns the mean accuracy over the anchors."""
    return sum(member.scores) / len(member.scores)


def front(members: list[Member]) -> list[Member]:
    """Returns the Pareto front: members that no other member dominates."""
    # In descending order a member that dominates another comes before it, so
    # each member is compared only with the front, dozens instead of thousands.
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

    def ask(self, trial: int) -> Proposal:
        """Proposes and claims a graph for a trial.

        Raises:
          ExhaustedError: if no graph is left, or 200,000 draws find nothing
            new.
        """
        rng = space.generator(self._settings.seed, trial)
        rejected: collections.Counter[str] = collections.Counter()
        for graph, parent in self._draws(rng):
            reason = self._reject(graph)
            if reason is None:
                self._remember(trial, graph)
                return Proposal(graph, parent and parent.trial, dict(rejected))
            rejected[reason] += 1
        message = f"All graphs of the space were tried. Received: trial={trial}"
        if self._every is None:
            message = (
                f"No new graph in {_MOST_DRAWS} draws: the space around the "
                "population is exhausted. Start a run with another seed, a "
                "larger population or a higher `fresh`. "
                f"Received: trial={trial}, rejected={dict(rejected)}"
            )
        raise ExhaustedError(message, dict(rejected))

    def claim(self, trial: int, graph: Graph) -> None:
        """Records that `graph` was proposed in an earlier run."""
        # Continues after it: the rejected draws are already counted.
        every = self._every
        if every is not None and all(other != graph for other in every):
            raise ValueError(
                "The journal has a graph that this search would not propose "
                "there; use a separate folder for each run. "
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
        """Adds an accepted layer to the population.

        Args:
          trial: its trial.
          graph: its graph.
          scores: accuracy by anchor.
        """
        values = tuple(scores[a] for a in self._settings.anchors)
        self.population.append(Member(trial, graph, values))

    def _parent(self, rng: random.Random) -> Member | None:
        settings = self._settings
        # Always drawn first, so a trial's random numbers are independent.
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
        """Yields graphs to consider, each with its parent."""
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
