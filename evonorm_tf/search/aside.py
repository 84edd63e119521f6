"""What is measured beside a search, and counts for nothing in it.

References  known layers through all stages, before the search begins: what a
            user compares with.
Judgement   of a search without rejection: the layers that were ever its best
            go through quality and stability when it has ended, so that arms
            with and without rejection are judged alike (as in `replay`).

Neither is a trial, costs `cpu` or enters the population. Both stand in the
journal, a transaction a stage, and are measured once.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from evonorm_tf.graphs.library import NAMED
from evonorm_tf.search import stages
from evonorm_tf.search.journal import Aside, Journal, Trial
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Task

# The number of the trial that these are not.
_NONE = -1
Found = Mapping[str, Mapping[str, Aside]]


class Reference(NamedTuple):
    """A known layer on the proxy task.

    Attributes:
      name: in `graphs.NAMED`.
      scores: accuracy by anchor.
      norm: the largest gradient norm of its ascent.
      reason: what would reject it; "" if nothing.
    """

    name: str
    scores: dict[str, float]
    norm: float
    reason: str

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)


def measure_references(journal: Journal, settings: Settings, pool) -> None:
    """Puts the settings' references through all stages."""
    layers = [NAMED[name].text() for name in settings.references]
    _measure(journal, settings, pool, layers, stages.names(_strict(settings)))


def references(journal: Journal, settings: Settings) -> list[Reference]:
    """The known layers that went through all stages in this journal."""
    strict, found = _strict(settings), journal.asides()
    names = stages.names(strict)
    rows = []
    for name, graph in NAMED.items():
        done = found.get(graph.text(), {})
        if any(stage not in done or not done[stage].result for stage in names):
            continue
        results = {stage: aside.result for stage, aside in done.items()}
        reasons = [f"{n}: {done[n].reason}" for n in names if done[n].reason]
        scores = stages.scores(results, strict)
        norm = results["stability"]["norm"]
        rows.append(Reference(name, scores, norm, "; ".join(reasons)))
    return rows


def judge(journal: Journal, settings: Settings, pool) -> None:
    """Tests what an unrejected search ever called its best, until it holds."""
    names, best = _tests(settings), 0.0
    for trial in journal.trials():
        mean = _mean(trial, settings)
        if mean > best:
            _measure(journal, settings, pool, [trial.graph], names)
            if holds(trial, settings, journal.asides()):
                best = mean


def holds(trial: Trial, settings: Settings, found: Found) -> bool:
    """Whether rejection, where it was off, objects to a trial's layer.

    A layer that was not judged holds; `judge` leaves none above the best.
    """
    done = found.get(trial.graph, {})
    return settings.rejection or not any(
        done[name].reason for name in _tests(settings) if name in done
    )


def _mean(trial: Trial, settings: Settings) -> float:
    if trial.verdict != "accepted":
        return 0.0
    scores = stages.scores(trial.results, settings)
    return sum(scores.values()) / len(scores)


def _strict(settings: Settings) -> Settings:
    return dataclasses.replace(settings, rejection=True)


def _tests(settings: Settings) -> list[str]:
    """The stages that can object."""
    names = stages.names(_strict(settings))
    return [name for name in names if not name.startswith("fitness/")]


def _measure(
    journal: Journal,
    settings: Settings,
    pool,
    layers: Iterable[str],
    names: Iterable[str],
) -> None:
    """Runs the stages that the journal does not have, whatever they find."""
    known, strict = journal.asides(), _strict(settings)
    todo = [
        Task(_NONE, name, layer)
        for layer in layers
        for name in names
        if name not in known.get(layer, {})
    ]
    for task in todo:
        pool.submit(task)
    while todo:
        for outcome in pool.wait(1.0):
            # What a search left under way when its time was up may end now.
            if outcome.task in todo:
                todo.remove(outcome.task)
                journal.note(outcome, stages.objection(outcome, strict))
