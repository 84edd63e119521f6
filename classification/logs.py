"""Reads the records of finished and unfinished runs for figures."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from classification.settings import Task
from training import runs, same_experiment
from training.report import results

# Settings that affect the result but may differ between the runs of a figure:
# layer and batch, and the learning rate that depends on the batch.
_VARIED = (
    "task.model.norm_act.name",
    "task.train_data.global_batch_size",
    "trainer.optimizer_config.learning_rate.",
    "trainer.optimizer_config.warmup.",
)
_FILES = (runs.METRICS_FILE, runs.CONFIG_FILE, runs.FACTS_FILE)
# Sizes of training splits, to convert images to epochs.
_EXAMPLES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "digits": 1_352,
    "imagenet2012": 1_281_167,
}


@dataclasses.dataclass(frozen=True)
class Log:
    """The records of a run.

    Attributes:
      path: the folder.
      layer: name of the layer in the config.
      batch: images per step.
      per_worker: images per step on a replica.
      seed: of the weights.
      steps: intended number of steps.
      settings: those that must be equal between the runs of a figure.
      train: the lines of training in `metrics.jsonl`.
      validation: those of evaluations.
    """

    path: str
    layer: str
    batch: int
    per_worker: int
    seed: int
    steps: int
    settings: dict[str, Any]
    train: list[dict[str, float]]
    validation: list[dict[str, float]]

    @property
    def step(self) -> int:
        """Returns the last recorded step."""
        lines = self.train + self.validation
        return max((line["step"] for line in lines), default=0)

    @property
    def finished(self) -> bool:
        """Returns whether it took all its steps."""
        return self.step >= self.steps

    @property
    def accuracy(self) -> float | None:
        """Returns the accuracy in % after the last step; None without one."""
        values = [
            100 * line["accuracy"]
            for line in self.validation
            if line["step"] >= self.steps
        ]
        return values[-1] if values else None

    @property
    def progress(self) -> str:
        """Describes how far an unfinished run is."""
        return f"{self.path} (step {self.step:,} of {self.steps:,})"


def find(paths: Iterable[str]) -> list[Log]:
    """Reads the runs in these folders, at any depth.

    Args:
      paths: folders of runs, or of folders of runs.

    Raises:
      ValueError: if a folder has no run or that of another head, a run is
        duplicated, or runs differ in more than layer, batch and seed.
    """
    found = [read(run.folder) for run in runs.find(paths).values()]
    _refuse_twice(found)
    _refuse_mixture(found)
    return found


def read(folder: str) -> Log:
    """Reads one run's folder.

    Raises:
      ValueError: if a file is missing, or it is not a classification run.
    """
    run = runs.Run(folder)
    lacking = [name for name in _FILES if not run.has(name)]
    if lacking:
        raise ValueError(
            f"A run's folder lacks {', '.join(lacking)}; a copy of a run "
            f"needs {', '.join(_FILES)}. Received: {folder!r}"
        )
    params, devices = run.require_config(), run.facts()["devices"]
    task = params["task"]
    if not {"network", "norm_act"} <= set(task["model"]):
        raise ValueError(
            "This is the run of another head, without task.model.network. "
            f"Received: {folder!r}"
        )
    batch = task["train_data"]["global_batch_size"]
    per_worker = _per_worker(devices, folder)
    return Log(
        path=folder,
        layer=str(task["model"]["norm_act"]["name"]),
        batch=batch,
        per_worker=per_worker,
        seed=task["seed"],
        steps=params["trainer"]["train_steps"],
        settings=_settings(params) | {"workers": batch // per_worker},
        train=run.metrics("train"),
        validation=run.metrics("eval"),
    )


def _per_worker(devices: str, folder: str) -> int:
    """Returns the images per step on a replica."""
    found, *others = results.shares(devices)
    if found is None or others:
        raise ValueError(
            "The run must have the same images per replica from its start to "
            "its end: devices in its run.json must contain '(N a replica)', "
            f"with one N. Received: devices={devices!r} in {folder!r}"
        )
    return found


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Returns config values by full key, without those that may differ."""
    flat = same_experiment.flat(params)
    dtype = flat.get("runtime.mixed_precision_dtype")
    return {
        key: value
        for key, value in same_experiment.relevant(flat, "row").items()
        if not key.startswith(_VARIED)
    } | {"runtime.mixed_precision_dtype": dtype or "float32"}


def _refuse_twice(logs: list[Log]) -> None:
    """Rejects two runs with the same seed."""
    first: dict[tuple, Log] = {}
    for log in logs:
        key = (log.layer, log.batch, log.per_worker, log.seed)
        if key in first:
            raise ValueError(
                "Two runs have the same layer, batch and seed; pass only one. "
                f"Received: {first[key].path!r} and {log.path!r}"
            )
        first[key] = log


def _refuse_mixture(logs: list[Log]) -> None:
    """Rejects runs that differ in more than layer, batch and seed."""
    first, defaults = logs[0], same_experiment.flat({"task": Task().as_dict()})
    for log in logs[1:]:
        different = same_experiment.compare(
            first.settings, log.settings, defaults
        )
        for key, (one, other) in different.items():
            raise ValueError(
                "The runs of a figure may differ only in layer, batch and "
                f"seed; draw separate figures. Received: {key}="
                f"{one!r} in {first.path!r}, {other!r} in {log.path!r}"
            )
        seen = [run.steps * run.batch for run in (first, log)]
        # Equal epochs differ by rounding to complete steps.
        if abs(seen[0] - seen[1]) > max(first.batch, log.batch):
            raise ValueError(
                "The runs of a figure must have the same number of images. "
                f"Received: {seen[0]:,} in {first.path!r}, {seen[1]:,} in "
                f"{log.path!r}"
            )


def about(logs: list[Log]) -> str:
    """Describes network, dataset and length of comparable runs."""
    first = logs[0]
    data = first.settings["task.train_data.dataset"]
    images = max(log.steps * log.batch for log in logs)
    length = f"{images:,} images per run"
    whole = first.settings["task.train_data.split"] == "train"
    examples = _EXAMPLES.get(data.split(":")[0])  # "cifar10:3.0.2" too.
    if whole and examples:
        epochs = images / examples
        length = f"{epochs:.3g} epochs"
    network = first.settings["task.model.network"]
    return f"{network} on {data}, {length}"


def seeds(logs: list[Log]) -> str:
    """Describes the number of seeds per line: "3 seeds", "1 to 3 seeds"."""
    groups = by(logs, "layer", "per_worker").values()
    low, high = min(map(len, groups)), max(map(len, groups))
    count = f"{low} to {high}" if low < high else str(low)
    return f"{count} seed{'s' if high > 1 else ''}"


def mean_of(logs: list[Log]) -> str:
    """Describes what a line and its band or bars show."""
    number = seeds(logs)
    return number if number == "1 seed" else f"mean and range of {number}"


def by(logs: list[Log], *names: str) -> dict[tuple, list[Log]]:
    """Groups runs by some attributes, in the order of these."""

    def key(log: Log) -> tuple:
        return tuple(getattr(log, name) for name in names)

    groups: dict[tuple, list[Log]] = {}
    for log in sorted(logs, key=key):
        groups.setdefault(key(log), []).append(log)
    return groups
