"""Measurements outside a search, which do not affect it.

References  known layers that go through all stages before the search begins,
            for comparison.
Judgement   for a search without rejection: after its end, all layers that
            were its best at some time go through quality and stability, so
            that arms with and without rejection are compared fairly.

Neither counts as a trial, is charged CPU seconds or enters the population.
Both are measured once and recorded in the journal, with one transaction per
stage. A stage without a result, such as one whose worker died, is measured
again when the search is resumed.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from evonorm_tf.graphs.library import NAMED
from evonorm_tf.search import stages
from evonorm_tf.search.journal import Journal, Trial, Uncharged
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Task

# The verdict of an accepted layer that its judgement rejects.
FAILED = "failed the judgement"
# The trial number of measurements outside the search.
_NO_TRIAL = -1


class Reference(NamedTuple):
    """A known layer on the proxy task.

    Attributes:
      name: in `graphs.NAMED`.
      scores: accuracy by anchor, the mean over the seeds.
      seeds: mean accuracy over the anchors, by seed.
      norm: the largest gradient norm of its ascent.
      reason: why it would be rejected; "" if it passes.
    """

    name: str
    scores: dict[str, float]
    seeds: tuple[float, ...]
    norm: float
    reason: str

    @property
    def mean(self) -> float:
        """Returns the mean accuracy over the anchors."""
        return stages.mean(self.scores)


def measure(journal: Journal, settings: Settings, pool) -> None:
    """Runs all stages for the references of the settings."""
    layers = [NAMED[name].text() for name in settings.references]
    _measure(journal, settings, pool, layers, stages.names(_strict(settings)))


def read(journal: Journal, settings: Settings) -> list[Reference]:
    """Returns the known layers with results of all stages in the journal."""
    strict, measured = _strict(settings), journal.uncharged()
    names = stages.names(strict)
    found = []
    for name, graph in NAMED.items():
        done = measured.get(graph.text(), {})
        if any(stage not in done or not done[stage].result for stage in names):
            continue
        results = {stage: one.result for stage, one in done.items()}
        reasons = [f"{n}: {done[n].reason}" for n in names if done[n].reason]
        scores = stages.scores(results, strict)
        seeds = tuple(map(stages.mean, stages.seeds(results, strict)))
        norm = results["stability"]["norm"]
        reason = "; ".join(reasons)
        found.append(Reference(name, scores, seeds, norm, reason))
    return found


def lost(journal: Journal) -> list[str]:
    """Returns the stages of known layers without a result, and why."""
    measured = journal.uncharged()
    return [
        f"{name}, {stage}: {one.reason}"
        for name, graph in NAMED.items()
        for stage, one in measured.get(graph.text(), {}).items()
        if not one.result
    ]


def judge(journal: Journal, settings: Settings, pool) -> None:
    """Tests each layer that a search without rejection ranked first."""
    names, best = _tests(settings), 0.0
    for trial in journal.trials():
        if trial.verdict != "accepted":
            continue
        mean = stages.mean(stages.scores(trial.results, settings))
        if mean > best:
            _measure(journal, settings, pool, [trial.graph], names)
            if judged(trial, settings, journal.uncharged()) == trial:
                best = mean


def judged(
    trial: Trial,
    settings: Settings,
    measured: Mapping[str, Mapping[str, Uncharged]],
) -> Trial:
    """Returns a trial, with the verdict FAILED if its judgement rejects it.

    A layer without a judgement passes; `judge` tests all that were the best.

    Args:
      trial: from the journal.
      settings: of the search.
      measured: the journal's `uncharged`.
    """
    if settings.rejection or trial.verdict != "accepted":
        return trial
    done = measured.get(trial.graph, {})
    reasons = [
        f"{name}: {done[name].reason}"
        for name in _tests(settings)
        if name in done and done[name].reason
    ]
    if not reasons:
        return trial
    return trial._replace(verdict=FAILED, reason="; ".join(reasons))


def _strict(settings: Settings) -> Settings:
    return dataclasses.replace(settings, rejection=True)


def _tests(settings: Settings) -> list[str]:
    """Returns the stages that can reject."""
    return stages.rejecting(_strict(settings))


def _measure(
    journal: Journal,
    settings: Settings,
    pool,
    layers: Iterable[str],
    names: Iterable[str],
) -> None:
    """Runs the stages without a result in the journal."""
    known, strict = journal.uncharged(), _strict(settings)
    nothing = Uncharged({}, "")
    todo = [
        Task(_NO_TRIAL, name, layer)
        for layer in layers
        for name in names
        if not known.get(layer, {}).get(name, nothing).result
    ]
    for task in todo:
        pool.submit(task)
    while todo:
        for outcome in pool.wait(1.0):
            # Stages that a search left unfinished at its time limit may still
            # end now.
            if outcome.task in todo:
                todo.remove(outcome.task)
                reason = stages.objection(outcome, strict)
                journal.record_uncharged(outcome, reason)
