r"""Replays searches on a table of all layers of a small space.

    python -m evonorm_tf.search --config=exhaustive \
        --output=runs/table --set=data_dir=PATH
    python -m evonorm_tf.search.ablation table --output=runs/table
    python -m evonorm_tf.search.ablation replay --output=runs/table --seeds=200

The first command trains every layer once. Afterwards a search takes
milliseconds, its optimum is known, and hundreds of seeds can be compared. In
all arms, the fitness of a layer is its mean accuracy if it passes quality and
stability and otherwise 0, whether or not the arm tests that.
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
from evonorm_tf.search.journal import EXHAUSTED, Journal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome

FILE = "table.json"
# What a replay can set: how graphs are proposed and what rejects them. All
# else, such as the steps and the networks, is in the table's measurements.
SETTINGS = (
    "population",
    "tournament",
    "fresh",
    "mutations",
    "dedup",
    "quality",
    "stability",
)
_RESAMPLES = 1000


class Table:
    """The results of every layer of a space.

    Args:
      settings: those of the measurements.
      rows: "graph", and "results" and "cpu" by stage.

    Raises:
      ValueError: if the search did not test for quality and stability, or a
        row is not a graph.
    """

    def __init__(self, settings: Settings, rows: Sequence[dict[str, Any]]):
        if not settings.rejection:
            raise ValueError(
                "A table needs the results of quality and stability: run the "
                "exhaustive search with them. Received: rejection=False"
            )
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

    def replaced(self, *changes: dict[str, Any]) -> "Table":
        """Returns the table with other SETTINGS, which decide its fitness.

        Raises:
          ValueError: if a setting is unknown, invalid, or part of what was
            measured.
        """
        settings = settings_lib.make(self.settings.identity(), *changes)
        for name in {name for change in changes for name in change}:
            if name not in SETTINGS:
                raise ValueError(
                    "A replay looks up what the table's search measured, and "
                    f"can set only {', '.join(SETTINGS)}. For another "
                    f"`{name}`, run an exhaustive search with it. Received: "
                    f"{name}={getattr(settings, name)!r}"
                )
        if settings.stability > self.settings.stability:
            # Larger norms were not looked for: the ascent ended there.
            raise ValueError(
                "`stability` must be at most that of the table, "
                f"{self.settings.stability:g}, at which the ascent ended. "
                f"Received: stability={settings.stability:g}"
            )
        return Table(settings, self.rows)

    def find(self, graph: Graph) -> int:
        """Returns the row of a graph or of an equivalent expression.

        Raises:
          ValueError: if the table does not have the layer.
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
                    "The table does not have this layer; it must contain all "
                    f"layers of its space. Received: {graph.text()!r}"
                )
        return self._by_key[name]

    def measure(self, proposal: Proposal, stage: str) -> Outcome:
        """Returns what a worker found when the table was written."""
        row = self.rows[self.find(proposal.graph)]
        known = stage
        if self.settings.fitness_steps == self.settings.quality_steps:
            # The same training; the table has it as quality.
            known = stage.replace("fitness/", "quality/")
        result = row["results"].get(known, {})
        error = "" if result else "no result in the table"
        cpu = row["cpu"].get(known, 0.0)
        return Outcome(arms.task(proposal, stage), result, error, cpu)


def collect(folder: str) -> Table:
    """Collects the table from an exhaustive search in a folder.

    Raises:
      ValueError: if the search is not exhaustive or not finished.
    """
    journal = Journal(folder, None)
    try:
        settings = journal.settings()
        trials, measured = journal.trials(), journal.stages()
        end = journal.ended().reason
    finally:
        journal.close()
    open_ = sum(trial.verdict is None for trial in trials)
    # Earlier journals do not say by what the search ended.
    whole = end in ("", EXHAUSTED) and trials and not open_
    if settings.algorithm != "exhaustive" or not whole:
        raise ValueError(
            "A table needs a finished exhaustive search; run the search to "
            f"its end first. Received: algorithm={settings.algorithm!r}, "
            f"{len(trials)} trials, {open_} of them unfinished, ended by "
            f"{end or 'nothing'}"
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
    """Reads the table in a file.

    Raises:
      ValueError: if the file does not exist or is not a table.
    """
    if not files.is_file(path):
        raise ValueError(
            "There is no table; write one with `python -m "
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
    """The state of a simulated search after a trial.

    Attributes:
      cpu: CPU seconds of its stages when the table was written.
      best: fitness of the best layer so far.
    """

    cpu: float
    best: float


Curves = dict[str, list[list[Step]]]


def run(table: Table, seeds: int, trials: int) -> Curves:
    """Runs every arm with many seeds; returns results by arm [seed][trial].

    Args:
      table: of all layers.
      seeds: number of searches per arm.
      trials: of every search.

    Raises:
      ValueError: if a search finds no new graph before.
    """
    found: Curves = {}
    for arm in arms.ARMS:
        for seed in range(seeds):
            settings = dataclasses.replace(
                arms.settings_of(arm, table.settings), seed=seed
            )
            ended = arms.simulate(settings, table.measure, trials)
            if len(ended) < trials:
                raise ValueError(
                    "A search found no new graph before its last trial: give "
                    f"at most --trials={len(ended)}. "
                    f"Received: trials={trials}, arm={arm!r}, seed={seed}"
                )
            best, curve = 0.0, []
            for trial in ended:
                best = max(best, table.fitness[table.find(trial.graph)])
                curve.append(Step(trial.cpu, best))
            found.setdefault(arm, []).append(curve)
    return found


def by_trials(curves: Curves) -> dict[str, list[list[float]]]:
    """Returns the best fitness by arm [seed][trial].

    Rejection makes no difference here: it saves time, not trials.
    """
    return {
        arm: [[step.best for step in seed] for seed in seeds]
        for arm, seeds in curves.items()
    }


def by_cpu(
    curves: Curves, points: int
) -> tuple[list[float], dict[str, list[list[float]]]]:
    """Returns the best fitness by arm [seed][point], at equal CPU seconds.

    Args:
      curves: from `run`.
      points: number of points, equally spaced up to the end of the shortest
        search.

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
    """Returns the best fitness of the trials that ended by each time."""
    times = [step.cpu for step in seed]
    places = [bisect.bisect_right(times, limit) for limit in at]
    return [seed[place - 1].best if place else 0.0 for place in places]


def summary(
    table: Table, values: dict[str, list[list[float]]], after: Sequence[int]
) -> list[dict[str, Any]]:
    """Summarizes regret and its 95 % band, by arm and place.

    The band is that of the median over the seeds, by bootstrap. `top` is the
    fraction of seeds that found one of the best hundredth of the table.

    Args:
      table: of all layers.
      values: from `by_trials` or `by_cpu`.
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
    """Returns what the early exit would do to the layers of a table.

    Returns:
      The number of trainings of any anchor that it would end at step 40, and
      how many of the layers that pass would be affected.
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
