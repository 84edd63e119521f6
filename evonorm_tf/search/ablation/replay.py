"""Searches replayed on a table of all layers of a small space.

    python -m evonorm_tf.search --config=exhaustive \
        --output=runs/table --set=data_dir=PATH
    python -m evonorm_tf.search.ablation table --output=runs/table
    python -m evonorm_tf.search.ablation replay --output=runs/table --seeds=200

The first line trains every layer once; from then on a search costs
milliseconds, its optimum is known, and hundreds of seeds can be compared. All
arms are judged alike: the fitness of a layer is its mean accuracy if it passes
quality and stability, else 0, whether or not the arm tested that.
"""

import bisect
import dataclasses
import json
import random
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from evonorm_tf import files
from evonorm_tf.graphs.canonical import key
from evonorm_tf.graphs.graph import Graph, parse
from evonorm_tf.search import fingerprint, stages
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.ablation import arms
from evonorm_tf.search.evolution import Proposal
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome

FILE = "table.json"
_RESAMPLES = 1000


class Table:
    """The results of every layer of a space.

    Args:
      settings: that they were measured with.
      rows: "graph", and "results" and "cpu" by stage.
    """

    def __init__(self, settings: Settings, rows: Sequence[dict[str, Any]]):
        self.settings, self.rows = settings, list(rows)
        self._by_key: dict[str, int] = {}
        self._functions = fingerprint.Functions()
        self._trainings = fingerprint.Functions()
        for number, row in enumerate(self.rows):
            graph = parse(row["graph"])
            self._by_key[key(graph)] = number
            for known, values in self._prints(graph):
                if values is not None:
                    known.add(values, str(number))
        self.fitness = [self._fitness(row) for row in self.rows]

    def _prints(self, graph: Graph):
        yield self._functions, fingerprint.function(graph)
        yield self._trainings, fingerprint.training(graph)

    def _fitness(self, row: dict[str, Any]) -> float:
        for stage, result in row["results"].items():
            outcome = Outcome(stages.Task(0, stage, ""), result, "", 0.0)
            if not result or stages.objection(outcome, self.settings):
                return 0.0
        found = stages.scores(row["results"], self.settings)
        return statistics.fmean(found.values())

    def find(self, graph: Graph) -> int:
        """The row of a graph, under whatever expression.

        Raises:
          ValueError: the table has no such layer.
        """
        name = key(graph)
        if name not in self._by_key:
            for known, values in self._prints(graph):
                number = None if values is None else known.find(values)
                if number is not None:
                    self._by_key[name] = int(number)
                    break
            else:
                raise ValueError(
                    "The table has no such layer: it must hold all of its "
                    f"space. Received: {graph.text()!r}"
                )
        return self._by_key[name]

    def measure(self, proposal: Proposal, stage: str) -> Outcome:
        """What a worker found, when the table was made."""
        row = self.rows[self.find(proposal.graph)]
        # The table's quality stage is the fitness of an arm that has none.
        known = stage.replace("fitness/", "quality/")
        result = row["results"].get(known, {})
        error = "" if result else "no result in the table"
        cpu = row["cpu"].get(known, 0.0)
        return Outcome(arms.task(proposal, stage), result, error, cpu)


def collect(folder: str) -> Table:
    """The table that an exhaustive search in a folder made.

    Raises:
      ValueError: the search is another one, or not finished.
    """
    journal = Journal(folder, None)
    try:
        settings = journal.settings()
        trials, measured = journal.trials(), journal.stages()
    finally:
        journal.close()
    open_ = sum(trial.verdict is None for trial in trials)
    if settings.algorithm != "exhaustive" or open_ or not trials:
        raise ValueError(
            "A table needs an exhaustive search that has ended: run it "
            f"to its end first. Received: algorithm={settings.algorithm!r}, "
            f"{len(trials)} trials, {open_} of them under way"
        )
    spent: dict[int, dict[str, float]] = {}
    for stage in measured:
        spent.setdefault(stage.trial, {})[stage.name] = round(stage.cpu, 3)
    rows = [
        {"graph": t.graph, "results": t.results, "cpu": spent[t.number]}
        for t in sorted(trials)
    ]
    return Table(settings, rows)


def write(table: Table, path: str) -> None:
    """Writes a table as JSON, one line per layer."""
    rows = ",\n".join(json.dumps(row) for row in table.rows)
    head = json.dumps(table.settings.identity())
    text = f'{{"settings": {head},\n"rows": [\n{rows}\n]}}\n'
    files.write(path, text)


def read(path: str) -> Table:
    """The table in a file.

    Raises:
      ValueError: it is not there, or no table.
    """
    if not files.is_file(path):
        raise ValueError(
            "There is no table; make one with `python -m "
            f"evonorm_tf.search.ablation table`. Received: path={path!r}"
        )
    try:
        content = json.loads(files.read_text(path))
        settings, rows = content["settings"], content["rows"]
        return Table(settings_lib.make(settings), rows)
    # Not JSON, not a mapping, or rows of another kind.
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            "The file is not a table written by `python -m "
            "evonorm_tf.search.ablation table`: "
            f"{type(error).__name__}: {error}. Received: path={path!r}"
        ) from error


class Step(NamedTuple):
    """A simulated search after a trial.

    Attributes:
      cpu: seconds that its stages took when the table was made.
      best: fitness of the best layer so far.
    """

    cpu: float
    best: float


Curves = dict[str, list[list[Step]]]


def run(table: Table, seeds: int, trials: int) -> Curves:
    """Every arm over many seeds: by arm [seed][trial].

    Args:
      table: of all layers.
      seeds: searches of every arm.
      trials: of every search.
    """
    found: Curves = {}
    for arm in arms.ARMS:
        for seed in range(seeds):
            settings = dataclasses.replace(
                arms.settings_of(arm, table.settings), seed=seed
            )
            ended = arms.simulate(settings, table.measure, trials)
            best, curve = 0.0, []
            for trial in ended:
                best = max(best, table.fitness[table.find(trial.graph)])
                curve.append(Step(trial.cpu, best))
            found.setdefault(arm, []).append(curve)
    return found


def by_trials(curves: Curves) -> dict[str, list[list[float]]]:
    """Best fitness by arm [seed][trial].

    Rejection shows nothing here: it saves no trial, but the time of one.
    """
    return {
        arm: [[step.best for step in seed] for seed in seeds]
        for arm, seeds in curves.items()
    }


def by_cpu(
    curves: Curves, points: int
) -> tuple[list[float], dict[str, list[list[float]]]]:
    """Best fitness by arm [seed][point], at equal CPU seconds.

    Args:
      curves: of `run`.
      points: how many, equally spaced up to where the shortest search ended.

    Returns:
      The CPU seconds of the points, and the fitnesses.
    """
    end = min(seed[-1].cpu for seeds in curves.values() for seed in seeds)
    at = [end * (i + 1) / points for i in range(points)]
    return at, {
        arm: [_sampled(seed, at) for seed in seeds]
        for arm, seeds in curves.items()
    }


def _sampled(seed: list[Step], at: Sequence[float]) -> list[float]:
    """Best fitness after so many CPU seconds: of trials that had ended then."""
    times = [step.cpu for step in seed]
    places = [bisect.bisect_right(times, limit) for limit in at]
    return [seed[place - 1].best if place else 0.0 for place in places]


def summary(
    table: Table, values: dict[str, list[list[float]]], after: Sequence[int]
) -> list[dict[str, Any]]:
    """Regret against the optimum and its 95 % band, by arm and place.

    The band is that of the median over the seeds, by bootstrap. `top` is the
    share of seeds that found one of the best hundredth of the table.

    Args:
      table: of all layers.
      values: of `by_trials` or `by_cpu`.
      after: places in them, from 1.
    """
    optimum = max(table.fitness)
    place = max(1, round(len(table.fitness) / 100)) - 1
    top = sorted(table.fitness, reverse=True)[place]
    rows = []
    for arm, seeds in values.items():
        for count in after:
            found = [curve[count - 1] for curve in seeds]
            regret = [optimum - value for value in found]
            low, high = _band(regret)
            rows.append(
                {
                    "arm": arm,
                    "after": count,
                    "regret": statistics.median(regret),
                    "low": low,
                    "high": high,
                    "top": sum(v >= top for v in found) / len(found),
                }
            )
    return rows


def early_exits(table: Table) -> tuple[int, int]:
    """What the early exit would have done to the layers of a table.

    Returns:
      How many trainings of any anchor it would have ended at step 40, and
      how many of the layers that pass are among those trained so.
    """
    ended, wrong = 0, 0
    for row, fitness in zip(table.rows, table.fitness):
        given_up = [
            result["early"] >= stages.GUESS
            for stage, result in row["results"].items()
            if stage.startswith("quality/") and result.get("early")
        ]
        ended += sum(given_up)
        wrong += fitness > 0 and any(given_up)
    return ended, wrong


def _band(values: Sequence[float]) -> tuple[float, float]:
    rng = random.Random(0)
    medians = sorted(
        statistics.median(rng.choices(values, k=len(values)))
        for _ in range(_RESAMPLES)
    )
    edge = _RESAMPLES // 40  # 2.5 %
    return medians[edge], medians[-1 - edge]
