"""What finished and unfinished runs left, read back for figures."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from classification.settings import Task
from training import runs, same_experiment
from training.report import results

# Of what decides a run's result, what may differ between those of a figure:
# the layer and the batch, and with the batch the rate that follows from it.
_VARIED = (
    "task.model.norm_act.name",
    "task.train_data.global_batch_size",
    "trainer.optimizer_config.learning_rate.",
    "trainer.optimizer_config.warmup.",
)
_FILES = (runs.METRICS_FILE, runs.CONFIG_FILE, runs.FACTS_FILE)
# Images of whole training splits, to tell how often a run saw them.
_EXAMPLES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "digits": 1_352,
    "imagenet2012": 1_281_167,
}


@dataclasses.dataclass(frozen=True)
class Log:
    """One run as its folder tells it.

    Attributes:
      path: the folder.
      layer: what the config calls the layer.
      batch: images a step.
      per_worker: images that a replica sees at once.
      seed: of the weights.
      steps: how many the run was to take.
      settings: what must be equal between the runs of one figure.
      train: the lines of `metrics.jsonl` that training left.
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
        """The last step that the folder tells of."""
        lines = self.train + self.validation
        return max((line["step"] for line in lines), default=0)

    @property
    def finished(self) -> bool:
        """Whether it took all its steps."""
        return self.step >= self.steps

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy in % after the last step; None without one."""
        values = [
            100 * line["accuracy"]
            for line in self.validation
            if line["step"] >= self.steps
        ]
        return values[-1] if values else None

    @property
    def progress(self) -> str:
        """How far an unfinished run is, for messages."""
        return f"{self.path} (step {self.step:,} of {self.steps:,})"


def find(paths: Iterable[str]) -> list[Log]:
    """Reads the runs in these folders, however deep they lie.

    Args:
      paths: folders of runs, or of folders of runs.

    Raises:
      ValueError: a folder without a run, a run of another head, one run
        twice, or runs that differ in more than layer, batch and seed.
    """
    found = [read(run.folder) for run in runs.find(paths).values()]
    _refuse_twice(found)
    _refuse_mixture(found)
    return found


def read(folder: str) -> Log:
    """Reads one run's folder.

    Raises:
      ValueError: a file is missing, or it is no classification run.
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
    """Images that a replica sees at once."""
    found = results.share(devices)
    if found is None:
        raise ValueError(
            "run.json does not say how many images a replica takes: its "
            "devices must hold '(N a replica)'. Received: "
            f"devices={devices!r} in {folder!r}"
        )
    return found


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Config values by full key, without those that may differ."""
    flat = same_experiment.flat(params)
    dtype = flat.get("runtime.mixed_precision_dtype")
    return {
        key: value
        for key, value in same_experiment.relevant(flat, "row").items()
        if not key.startswith(_VARIED)
    } | {"runtime.mixed_precision_dtype": dtype or "float32"}


def _refuse_twice(logs: list[Log]) -> None:
    """Two runs of one seed are no two seeds."""
    first: dict[tuple, Log] = {}
    for log in logs:
        key = (log.layer, log.batch, log.per_worker, log.seed)
        if key in first:
            raise ValueError(
                "Two runs have one layer, batch and seed; name one of them. "
                f"Received: {first[key].path!r} and {log.path!r}"
            )
        first[key] = log


def _refuse_mixture(logs: list[Log]) -> None:
    """One figure compares layers, batches and seeds, and nothing else."""
    first, defaults = logs[0], same_experiment.flat({"task": Task().as_dict()})
    for log in logs[1:]:
        different = same_experiment.compare(
            first.settings, log.settings, defaults
        )
        for key, (one, other) in different.items():
            raise ValueError(
                "The runs of one figure may differ in layer, batch and "
                f"seed alone; make one figure each. Received: {key}="
                f"{one!r} in {first.path!r}, {other!r} in {log.path!r}"
            )
        seen = [run.steps * run.batch for run in (first, log)]
        # Equal epochs differ by the rounding to whole steps.
        if abs(seen[0] - seen[1]) > max(first.batch, log.batch):
            raise ValueError(
                "The runs of one figure must see equally many images. "
                f"Received: {seen[0]:,} in {first.path!r}, {seen[1]:,} in "
                f"{log.path!r}"
            )


def about(logs: list[Log]) -> str:
    """Network, data set and length of comparable runs, in words."""
    first = logs[0]
    data = first.settings["task.train_data.dataset"]
    images = max(log.steps * log.batch for log in logs)
    length = f"{images:,} images a run"
    whole = first.settings["task.train_data.split"] == "train"
    examples = _EXAMPLES.get(data.split(":")[0])  # "cifar10:3.0.2" too.
    if whole and examples:
        epochs = images / examples
        length = f"{epochs:.3g} epochs"
    network = first.settings["task.model.network"]
    return f"{network} on {data}, {length}"


def seeds(logs: list[Log]) -> str:
    """How many seeds stand behind each line: "3 seeds", "1 to 3 seeds"."""
    groups = by(logs, "layer", "per_worker").values()
    low, high = min(map(len, groups)), max(map(len, groups))
    count = f"{low} to {high}" if low < high else str(low)
    return f"{count} seed{'s' if high > 1 else ''}"


def mean_of(logs: list[Log]) -> str:
    """What a line and its band or bars are, in words."""
    number = seeds(logs)
    return number if number == "1 seed" else f"mean and range of {number}"


def by(logs: list[Log], *names: str) -> dict[tuple, list[Log]]:
    """Runs grouped by some attributes, the groups in order of these."""

    def key(log: Log) -> tuple:
        return tuple(getattr(log, name) for name in names)

    groups: dict[tuple, list[Log]] = {}
    for log in sorted(logs, key=key):
        groups.setdefault(key(log), []).append(log)
    return groups
