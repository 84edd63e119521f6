"""The driver: proposes trials, distributes stages and records the results."""

import time
from collections.abc import Callable

from evonorm_tf.graphs.graph import Graph, parse
from evonorm_tf.search import stages
from evonorm_tf.search.evolution import Evolution, ExhaustedError
from evonorm_tf.search.journal import EXHAUSTED, End, Journal, Trial
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task


class Driver:
    """A running search, whose state is determined by the journal.

    Args:
      settings: of the search.
      journal: an empty journal, or that of a search to resume.

    Raises:
      ValueError: if a trial of the journal is not a graph.
    """

    def __init__(self, settings: Settings, journal: Journal):
        self._settings, self._journal = settings, journal
        self._stages = stages.names(settings)
        self._required = stages.required(settings)
        self._graphs: dict[int, Graph] = {}
        self._results: dict[int, dict] = {}
        self.evolution = Evolution(settings)
        self.trials = 0
        self._cpu = 0.0
        self._best = 0.0
        # Why there is no further proposal.
        self.exhausted: ExhaustedError | None = None
        self._replay()

    def _replay(self) -> None:
        """Restores the state from the journal."""
        trials = self._journal.trials()
        # Claims are replayed in their original order, and accepted layers in
        # the order in which they were accepted.
        for trial in sorted(trials):
            graph = _graph(trial)
            self.evolution.claim(trial.number, graph)
            if trial.verdict is None:
                self._graphs[trial.number] = graph
                self._results[trial.number] = trial.results
        for trial in trials:
            if trial.verdict == "accepted":
                self._accept(trial.number, _graph(trial), trial.results)
        self.trials = len(trials)
        self._cpu = sum(stage.cpu for stage in self._journal.stages())

    def run(self, pool, watch: Callable[[], None] = lambda: None) -> None:
        """Runs until `trials` are done or `seconds` or `cpu` have passed.

        It also ends if there is no new graph. The journal says which it was.

        Args:
          pool: the workers: `free`, `submit(task)`, `wait(seconds)`.
          watch: called after every change, and about every second.
        """
        began = time.monotonic()
        self._journal.end(None)
        for trial in self._graphs:
            pool.submit(self._next(trial))
        while True:
            late = self._late(time.monotonic() - began)
            while pool.free > 0 and not late and self._begin(pool):
                pass
            if not self._graphs or late:
                # Unfinished stages are repeated when the search is resumed.
                self._journal.end(self._end(late))
                return
            for outcome in pool.wait(1.0):
                self._take(outcome, pool)
            watch()

    def _late(self, seconds: float) -> str:
        """Returns the limit that was passed; "" if none was."""
        spent = {"seconds": seconds, "cpu": self._cpu}
        for name, value in spent.items():
            limit = getattr(self._settings, name)
            if limit and value > limit:
                return f"{name}={limit:g}"
        return ""

    def _end(self, late: str) -> End:
        if self.exhausted is None:
            return End(late or f"trials={self._settings.trials}", {})
        return End(late or EXHAUSTED, self.exhausted.rejected)

    def _begin(self, pool) -> bool:
        if self.exhausted or self.trials >= self._settings.trials:
            return False
        number = self.trials
        try:
            proposal = self.evolution.ask(number)
        except ExhaustedError as error:
            self.exhausted = error
            return False
        self._journal.propose(number, proposal)
        self.trials += 1
        self._graphs[number] = proposal.graph
        self._results[number] = {}
        pool.submit(self._next(number))
        return True

    def _next(self, trial: int) -> Task:
        """Returns a trial's first stage without a result."""
        done = self._results[trial]
        stage = next(name for name in self._stages if name not in done)
        return Task(trial, stage, self._graphs[trial].text())

    def _take(self, outcome: Outcome, pool) -> None:
        trial, stage, _ = outcome.task
        reason = stages.objection(outcome, self._settings)
        self._results[trial][stage] = outcome.result
        last = stage == self._stages[-1]
        if stage == self._required[-1] and not (reason or last):
            # Only a layer that would be the best gets further seeds.
            found = stages.scores(self._results[trial], self._settings)
            last = stages.mean(found) <= self._best
        if self._settings.algorithm == "exhaustive":
            # A table has all results, including those of rejected layers.
            last, reason = last or bool(outcome.error), outcome.error
        self._journal.record(outcome, reason, last)
        self._cpu += outcome.cpu
        if not (reason or last):
            pool.submit(self._next(trial))
            return
        graph, results = self._graphs.pop(trial), self._results.pop(trial)
        if not reason:
            self._accept(trial, graph, results)

    def _accept(self, trial: int, graph: Graph, results: dict) -> None:
        found = stages.scores(results, self._settings)
        self.evolution.tell(trial, graph, found)
        self._best = max(self._best, stages.mean(found))


def _graph(trial: Trial) -> Graph:
    try:
        return parse(trial.graph)
    except ValueError as error:
        raise ValueError(
            f"Trial {trial.number} of the journal is not a graph: restore the "
            f"journal from a copy, or give another --output. {error}"
        ) from error
