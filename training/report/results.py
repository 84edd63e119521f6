"""Determines which run belongs to which row, and its result.

A run is a folder with `params.yaml`, the resolved config, and `metrics.jsonl`.
It belongs to a row if its config is the row's resolved config, except for
seeds, paths and the like, and it was trained and evaluated to the end. A run
with the same network and dataset but other settings is a trial: it is listed
separately with the differences, never as the row.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from training import same_experiment
from training.report import tables
from training.report.tables import LAYER_KEY, Recipe, Row
from training.same_experiment import flat

_DATASET = "task.train_data.dataset"
_NETWORK = "task.model.network"
_BATCH = "task.train_data.global_batch_size"
_STEPS = "trainer.train_steps"
_IDENTITY = (_DATASET, _NETWORK)
# Compared in addition to the settings of the task and the optimizer.
_WHOLE = (_STEPS, "trainer.validation_steps")


@dataclasses.dataclass(frozen=True)
class Run:
    """The recorded results of a run.

    Attributes:
      folder: its path, relative to the folder that was searched.
      settings: its resolved config, by dotted key.
      step: the last step of `metrics.jsonl`.
      reached: its last evaluation, if that was at the run's last step. If
        there was one before the first step too, its values as KEY_at_start,
        and the ratios to them as KEY_over_start.
      devices: description of strategy, replicas and batch; several if it was
        resumed on others.
      machine: description of the processors.
      measured: description of its evaluation; "" if there is none.
    """

    folder: str
    settings: dict[str, Any]
    step: int
    reached: dict[str, float]
    devices: str
    machine: str
    measured: str = ""

    @property
    def finished(self) -> bool:
        """Returns whether it was trained and evaluated to the end."""
        return self.step >= self.settings[_STEPS] and bool(self.reached)

    @property
    def seeds(self) -> tuple[Any, ...]:
        """Returns the seeds of the weights and of the data."""
        keys = ("task.seed", "task.train_data.seed")
        return tuple(self.settings.get(key) for key in keys)

    def shares(self) -> list[int | None]:
        """See `shares`."""
        return shares(self.devices)

    def conditions(self) -> str:
        """Describes steps, precision and devices."""
        dtype = self.settings.get("runtime.mixed_precision_dtype")
        parts = [f"{self.settings[_STEPS]} steps", dtype or "float32"]
        parts += [self.devices, self.machine, self.measured]
        return "; ".join(part for part in parts if part)


@dataclasses.dataclass
class Results:
    """Runs, sorted.

    Attributes:
      by_row: finished runs of each row, by its id; including rows outside all
        tables, which are recipes with another layer.
      running: rows with an unfinished run of their settings.
      trials: a run, the id of the nearest row, and the differences.
      unfinished: runs that are not finished.
      unknown: runs whose network and dataset are of no row, or whose layer is
        not in the catalog.
    """

    by_row: dict[str, list[Run]] = dataclasses.field(default_factory=dict)
    running: list[str] = dataclasses.field(default_factory=list)
    trials: list[tuple[Run, str, dict]] = dataclasses.field(
        default_factory=list
    )
    unfinished: list[Run] = dataclasses.field(default_factory=list)
    unknown: list[Run] = dataclasses.field(default_factory=list)


def shares(devices: str) -> list[int | None]:
    """Returns the numbers of images with common batch statistics.

    This is the batch of a replica or of a micro-batch; None if unknown. A run
    that was resumed on other devices has several numbers, in this order.

    Args:
      devices: recorded by `training.runs.Run`: one or several descriptions
        from `training.strategy.describe`.
    """
    found = []
    for part in devices.split(same_experiment.THEN):
        replica = re.search(r"\((\d+) a replica", part)
        match = re.search(r"micro-batches of (\d+)", part) or replica
        found.append(int(match.group(1)) if match else None)
    return list(dict.fromkeys(found))


def read(roots: Iterable[str]) -> list[Run]:
    """Reads the runs in some folders, at any depth.

    Raises:
      ValueError: if a folder does not exist or has no run.
    """
    from training import runs  # Imports TensorFlow, which is slow.

    return [of(run, name) for name, run in runs.find(roots).items()]


def of(run: Any, name: str = "") -> Run:
    """Reads a run's folder.

    Args:
      run: a `training.runs.Run`.
      name: its name in the report; empty for its folder.
    """
    lines, facts = run.metrics(), run.facts()
    measured = run.json("evaluation.json")
    step = max((line["step"] for line in lines), default=0)
    evals = [line for line in lines if line["kind"] == "eval"]
    last = [line for line in evals if line["step"] == step]
    reached = last[-1] if last else {}
    if reached and step and evals[0]["step"] == 0:
        reached = reached | _since(evals[0], reached)
    return Run(
        folder=name or run.folder,
        settings=flat(run.require_config()),
        step=step,
        reached=reached,
        devices=str(facts.get("devices", "devices not recorded")),
        machine=str(facts.get("machine", "machine not recorded")),
        measured=measured["about"] if measured.get("step") == step else "",
    )


def _since(first: dict[str, Any], last: dict[str, Any]) -> dict[str, float]:
    """Returns the values before the first step, and the ratios to them."""
    found = {}
    for key in (first.keys() & last.keys()) - {"kind", "step"}:
        found[f"{key}_at_start"] = first[key]
        if first[key]:
            found[f"{key}_over_start"] = last[key] / first[key]
    return found


def sort(runs: Iterable[Run], rows: dict[str, Row]) -> Results:
    """Finds each run's row.

    Args:
      runs: from `read`.
      rows: of registered heads, by id.

    Raises:
      ValueError: if two runs of one row have the same seeds.
    """
    results = Results()
    compared = _comparison(rows)
    for run in runs:
        alike = compared(run)
        if not alike:
            results.unknown.append(run)
        elif not run.finished:
            results.unfinished.append(run)
        elif all(different for different, _ in alike):
            nearest = min(alike, key=lambda pair: _distance(pair[0]))
            results.trials.append((run, nearest[1], nearest[0]))
        for different, row_id in alike:
            if not different and run.finished:
                _add(results.by_row.setdefault(row_id, []), run, row_id)
            elif not different:
                results.running.append(row_id)
    return results


def rows_of(
    settings: dict[str, Any], devices: str, rows: dict[str, Row]
) -> list[str]:
    """Returns the ids of the rows with exactly a run's settings.

    Args:
      settings: its resolved config, by dotted key.
      devices: recorded, or to record; see `shares`.
      rows: of registered heads, by id.
    """
    found = _comparison(rows)(Run("", settings, 0, {}, devices, ""))
    return sorted(row_id for different, row_id in found if not different)


def _comparison(
    rows: dict[str, Row],
) -> Callable[[Run], list[tuple[dict, str]]]:
    """Compares runs with the rows of their layer, network and dataset."""
    from evonorm_tf import catalog  # Imports TensorFlow, which is slow.

    recipes = {row.recipe.id: row for row in rows.values()}
    completed = functools.cache(lambda name: complete(recipes[name].recipe))

    def compared(run: Run) -> list[tuple[dict, str]]:
        layer, found = run.settings.get(LAYER_KEY), []
        if layer not in catalog.names():
            return []
        for name, row in recipes.items():
            theirs = row.recipe.settings()
            if all(theirs.get(k) == run.settings.get(k) for k in _IDENTITY):
                row = row.outside(layer)
                found.append((differences(row, run, completed(name)), row.id))
        return found

    return compared


def _distance(different: dict[str, tuple[Any, Any]]) -> tuple[float, ...]:
    """Returns the distance of a run from a row, as a sort key."""
    pairs = [different.get(key, (1, 1)) for key in (_BATCH, _STEPS)]
    return len(different), *(abs(math.log(a / b)) for a, b in pairs)


def _add(runs: list[Run], run: Run, row_id: str) -> None:
    for other in runs:
        if other.seeds == run.seeds:
            raise ValueError(
                f"Two runs of {row_id} have the same seeds and would count "
                "twice; pass one of them. Received: "
                f"results={other.folder!r} and {run.folder!r}"
            )
    runs.append(run)


def differences(
    row: Row, run: Run, completed: tuple[dict[str, Any], dict[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Returns the differences of a run from a row: key, row's, run's value.

    Args:
      row: the row.
      run: the run.
      completed: `complete` of the row's recipe.
    """
    expected, defaults = completed
    expected = expected | {LAYER_KEY: row.layer}
    found = same_experiment.differences(expected, run.settings, "row", defaults)
    # Every record has these, even old ones.
    found |= {
        key: (expected[key], run.settings[key])
        for key in _WHOLE
        if expected[key] != run.settings[key]
    }
    workers, together = row.recipe.workers, run.shares()
    # Batch statistics are those of one replica's images, in the whole run.
    if workers and together != [expected[_BATCH] / workers]:
        said = [x or "unknown" for x in together]
        found["images together"] = (
            expected[_BATCH] // workers,
            said[0]
            if len(said) == 1
            else same_experiment.THEN.join(map(str, said)),
        )
    return found


def complete(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the config that a run of a recipe records, without its layer.

    Returns:
      The resolved config and the defaults of the task's classes, both by
      dotted key.
    """
    head = tables.heads()[recipe.head]
    params = head.resolve(Row(recipe, "bn_relu", {}))
    defaults = flat({"task": type(params.task)().as_dict()})
    return flat(params.as_dict()), defaults
