"""Which run is which row, and what it reached.

A run is a folder with `params.yaml`, the resolved config, and `metrics.jsonl`.
It is a row's when every setting that the row names is the run's, and it was
trained and evaluated to the end. What agrees in layer, network and data set
but not in all else is a trial: shown apart, with what differs, never in the
row's place.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable
from typing import Any

import yaml

from configs.tables.rows import LAYER_KEY, Row, flat
from evonorm_tf import nets

_DATASET = "task.train_data.dataset"
_NETWORK = "task.model.network"
_BATCH = "task.train_data.global_batch_size"
_STEPS = "trainer.train_steps"
_IDENTITY = (LAYER_KEY, _DATASET, _NETWORK)
# What a row may name and a run may change without becoming another one.
_FREE = (
    "task.validation_data.global_batch_size",
    "task.schedule.validation_epochs",
    "trainer.steps_per_loop",
    "trainer.checkpoint_interval",
    "trainer.validation_interval",
)
# What every row means without naming it.
_WHOLE = {"trainer.validation_steps": -1}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes:
      folder: where, from the folder that was asked for on.
      settings: its resolved config, by dotted key.
      step: the last step of `metrics.jsonl`.
      reached: its last evaluation, if that was at the run's last step.
      devices: strategy, replicas and batch in words.
      machine: processor and count, in words.
    """

    folder: str
    settings: dict[str, Any]
    step: int
    reached: dict[str, float]
    devices: str
    machine: str

    @property
    def finished(self) -> bool:
        """Whether it was trained and evaluated to the end."""
        return self.step >= self.settings[_STEPS] and bool(self.reached)

    @property
    def seeds(self) -> tuple[Any, ...]:
        """Of the weights and of the data."""
        keys = ("task.seed", "task.train_data.seed")
        return tuple(self.settings.get(key) for key in keys)

    def share(self) -> int | None:
        """Images whose batch statistics are taken together: a replica's, or
        a micro-batch of them; None where the run did not say.
        """
        whole = re.search(r"\((\d+) a replica", self.devices)
        part = re.search(r"micro-batches of (\d+)", self.devices)
        found = part or whole
        return int(found.group(1)) if found else None

    def conditions(self) -> str:
        """Steps, precision, devices: what a number must be read with."""
        dtype = self.settings.get("runtime.mixed_precision_dtype")
        parts = [f"{self.settings[_STEPS]} steps", dtype or "float32"]
        return "; ".join([*parts, self.devices, self.machine])


@dataclasses.dataclass
class Results:
    """Runs sorted by what they are.

    Attributes:
      by_row: finished runs of each row, by its id.
      trials: a run, the id of the row it is nearest to, and what differs.
      unfinished: runs that are not at their end.
      unknown: runs of no row's layer, network and data set.
    """

    by_row: dict[str, list[Run]] = dataclasses.field(default_factory=dict)
    trials: list[tuple[Run, str, dict]] = dataclasses.field(
        default_factory=list
    )
    unfinished: list[Run] = dataclasses.field(default_factory=list)
    unknown: list[Run] = dataclasses.field(default_factory=list)


def read(roots: Iterable[str]) -> list[Run]:
    """The runs in some folders, however deep.

    Raises:
      ValueError: a folder that is not there or holds no run.
    """
    runs: list[Run] = []
    for root in roots:
        parent = os.path.dirname(os.path.abspath(root))
        found = [
            _run(folder, os.path.relpath(folder, parent))
            for folder, _, files in sorted(os.walk(root))
            if "params.yaml" in files and "metrics.jsonl" in files
        ]
        if not found:
            raise ValueError(
                "There is no run in it: no folder with params.yaml and "
                f"metrics.jsonl. Received: results={root!r}"
            )
        runs += found
    return runs


def _run(folder: str, name: str) -> Run:
    with open(os.path.join(folder, "params.yaml"), encoding="utf-8") as file:
        settings = flat(yaml.safe_load(file))
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        # A run that goes on while we read may have half a last line.
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    about: dict[str, Any] = {}
    path = os.path.join(folder, "run.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            about = json.load(file)
    step = max((line["step"] for line in lines), default=0)
    last = [x for x in lines if x["kind"] == "eval" and x["step"] == step]
    return Run(
        folder=name,
        settings=settings,
        step=step,
        reached=last[-1] if last else {},
        devices=str(about.get("devices", "devices not recorded")),
        machine=str(about.get("machine", "machine not recorded")),
    )


def sort(runs: Iterable[Run], rows: dict[str, Row]) -> Results:
    """Finds each run's row.

    Raises:
      ValueError: two runs of one row with the same seeds.
    """
    results = Results()
    identities = {
        row_id: [_expected(row).get(key) for key in _IDENTITY]
        for row_id, row in rows.items()
    }
    for run in runs:
        own = [run.settings.get(key) for key in _IDENTITY]
        alike = [
            (differences(rows[row_id], run), row_id)
            for row_id, identity in identities.items()
            if identity == own
        ]
        if not alike:
            results.unknown.append(run)
        elif not run.finished:
            results.unfinished.append(run)
        elif all(different for different, _ in alike):
            nearest = min(alike, key=lambda pair: len(pair[0]))
            results.trials.append((run, nearest[1], nearest[0]))
        for different, row_id in alike:
            if not different and run.finished:
                _add(results.by_row.setdefault(row_id, []), run, row_id)
    return results


def _add(runs: list[Run], run: Run, row_id: str) -> None:
    for other in runs:
        if other.seeds == run.seeds:
            raise ValueError(
                f"Two runs of {row_id} have the same seeds and would count "
                "twice; give one of them. Received: "
                f"results={other.folder!r} and {run.folder!r}"
            )
    runs.append(run)


def differences(row: Row, run: Run) -> dict[str, tuple[Any, Any]]:
    """Where a run is not what the row says: key, the row's, the run's."""
    expected, found = _expected(row), {}
    for key, value in expected.items():
        other = run.settings.get(key)
        if key not in _FREE and not _same(value, other):
            found[key] = (value, other)
    workers, share = row.recipe.workers, run.share()
    # Batch statistics are those of one replica's images.
    if workers and share and share * workers != expected[_BATCH]:
        found["images together"] = (expected[_BATCH] // workers, share)
    return found


def _expected(row: Row) -> dict[str, Any]:
    """`row`'s settings, complete: what is the network's own filled in."""
    settings = _WHOLE | row.settings()
    steps = row.recipe.steps()
    if steps:
        settings[_STEPS] = steps
    name = settings.get(_NETWORK)
    if name in nets.names():
        network = nets.get(name)
        own = {
            "task.model.dropout": network.dropout,
            "task.model.stochastic_depth": network.stochastic_depth,
            "task.train_data.image_size": network.image_size,
            "task.validation_data.image_size": network.image_size,
        }
        for key, value in own.items():
            if key in settings and settings[key] is None:
                settings[key] = value
    return settings


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    numbers = [
        isinstance(x, (int, float)) and not isinstance(x, bool)
        for x in (one, other)
    ]
    if all(numbers):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other
