"""The history of a search from its journal, for console, report and tables."""

import collections
from typing import NamedTuple

from evonorm_tf.search import evolution, filters, references, stages
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.settings import Settings

_FILTERS = (
    *filters.Filters.__dataclass_fields__,
    "duplicate",
    "same function",
    "same training",
)


class Ranked(NamedTuple):
    """An accepted trial: its mean accuracy, and that on every anchor."""

    mean: float
    scores: dict[str, float]
    trial: Trial


class Point(NamedTuple):
    """The best result after a number of trials.

    Attributes:
      trainings: number of finished trials, accepted or not.
      cpu: CPU seconds of their stages.
      best: mean accuracy of the best accepted trial that passes (see
        `references`); 0 before the first.
      lineages: number of different random graphs from which the population,
        the newest accepted layers, descends, relative to its size; 0 before
        the first.
    """

    trainings: int
    cpu: float
    best: float
    lineages: float


def accepted(
    journal: Journal, trials: list[Trial], settings: Settings
) -> list[Ranked]:
    """Returns the accepted trials, best first, without those that failed."""
    rows, measured = [], journal.uncharged()
    for trial in trials:
        judged = references.judged(trial, settings, measured)
        if judged.verdict == "accepted":
            found = stages.scores(trial.results, settings)
            rows.append(Ranked(stages.mean(found), found, trial))
    return sorted(rows, key=lambda row: (-row.mean, row.trial.number))


def front(rows: list[Ranked]) -> set[int]:
    """Returns the numbers of the trials on the Pareto front of `rows`."""
    members = [
        evolution.Member(row.trial.number, None, tuple(row.scores.values()))
        for row in rows
    ]
    return {member.trial for member in evolution.front(members)}


def funnel(
    journal: Journal, trials: list[Trial], settings: Settings
) -> list[tuple[str, int, int]]:
    """Returns (stage, number rejected, number remaining), in order."""
    drawn = collections.Counter(journal.ended().rejected)
    for trial in trials:
        drawn.update(trial.rejected)
    left = sum(drawn.values()) + len(trials)
    rows = [("drawn", 0, left)]
    for name in _FILTERS:
        left -= drawn[name]
        rows.append((name, drawn[name], left))
    failed, passed = collections.Counter(), collections.Counter()
    for stage in journal.stages():
        (failed if stage.reason else passed)[stage.name] += 1
    for name in stages.names(settings):
        rows.append((name, failed[name], passed[name]))
    return rows


def progress(
    journal: Journal, trials: list[Trial], settings: Settings
) -> list[Point]:
    """Returns a point for every finished trial, in the order of their ends."""
    spent = collections.Counter()
    for stage in journal.stages():
        spent[stage.trial] += stage.cpu
    founder = founders(trials)
    rows = accepted(journal, trials, settings)
    means = {row.trial.number: row.mean for row in rows}
    population = collections.deque(maxlen=settings.population)
    points, cpu, best = [], 0.0, 0.0
    for trial in trials:
        if trial.verdict is None:
            continue
        cpu += spent[trial.number]
        if trial.verdict == "accepted":
            best = max(best, means.get(trial.number, 0.0))
            population.append(founder[trial.number])
        lineages = len(set(population)) / len(population) if population else 0
        points.append(Point(len(points) + 1, cpu, best, lineages))
    return points


def founders(trials: list[Trial]) -> dict[int, int]:
    """Returns the random graph from which every trial descends."""
    found = {}
    for trial in sorted(trials):  # A parent has a smaller number.
        parent = trial.parent
        found[trial.number] = trial.number if parent is None else found[parent]
    return found


def genealogy(trials: list[Trial], number: int) -> list[Trial]:
    """Returns a trial and its ancestors, the oldest first."""
    by_number = {trial.number: trial for trial in trials}
    line = [by_number[number]]
    while line[-1].parent is not None:
        line.append(by_number[line[-1].parent])
    return line[::-1]
