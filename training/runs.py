"""A run's folder: the one place that knows what is in it and how it is read.

    params.yaml          the resolved config
    run.json             facts: versions, devices, what an export must know
    metrics.jsonl        one line of JSON per training loop and evaluation
    ckpt-*, checkpoint   the latest checkpoints
    best/                the best checkpoint, and its metrics in info.json
    train/, validation/  for TensorBoard

What a head adds (results, pictures, samples, statistics) it writes by
`Run.path` and `evonorm_tf.files`. A folder may be anywhere that TensorFlow
writes to, under any name; of several processes that share one, the chief
alone writes.
"""

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
import yaml
from official.modeling import hyperparams

from evonorm_tf import files
from training import overrides
from training.checkpoints import saved_step
from training.same_experiment import differences, flat

CONFIG_FILE = "params.yaml"
FACTS_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
BEST_FILE = "info.json"
_SHOWN = 8  # differences in an error


class Run:
    """A run by its folder, which may not be there yet.

    Attributes:
      folder: its path.
    """

    def __init__(self, folder: files.Path):
        """Args: the folder; nothing is read or made."""
        self.folder = files.normalize(folder)

    def path(self, *names: str) -> str:
        """Of a file or folder in the run's folder."""
        return files.join(self.folder, *names)

    def has(self, *names: str) -> bool:
        """Whether a file or folder is there."""
        return files.exists(self.path(*names))

    # What the run is.

    def config(self) -> dict[str, Any] | None:
        """The recorded config, nested; None where there is none.

        Raises:
          ValueError: the file is no YAML mapping.
        """
        path = self.path(CONFIG_FILE)
        return read_yaml(path) if files.is_file(path) else None

    def require_config(self) -> dict[str, Any]:
        """The recorded config, nested.

        Raises:
          ValueError: there is none, or it is no YAML mapping.
        """
        found = self.config()
        if found is None:
            raise ValueError(
                f"This is no training run: it has no {CONFIG_FILE}. "
                f"Received: model_dir={self.folder!r}"
            )
        return found

    def facts(self) -> dict[str, Any]:
        """What run.json says; {} where there is none.

        Raises:
          ValueError: the file is no JSON object.
        """
        return self.json(FACTS_FILE)

    def json(self, *names: str) -> dict[str, Any]:
        """An object of a JSON file in the folder; {} where there is none.

        Raises:
          ValueError: the file is no JSON object.
        """
        path = self.path(*names)
        return read_json(path) if files.is_file(path) else {}

    def write_json(self, content: Any, *names: str) -> str:
        """Writes a JSON file in the folder at once; returns its path."""
        text = json.dumps(content, indent=2) + "\n"
        return files.write(self.path(*names), text)

    def record(
        self,
        params: hyperparams.Config,
        devices: str,
        facts: Mapping[str, Any] | None = None,
        finished: bool = False,
    ) -> str:
        """Records the resolved config, versions, devices and facts.

        The record of a finished run stays as it is, but for facts that an
        older version of this project did not record.

        Args:
          params: the experiment.
          devices: in words.
          facts: what else run.json is to say, ready for JSON.
          finished: whether the run has no step left.

        Returns:
          The path of the recorded config.
        """
        found = {
            **versions(),
            "devices": devices,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            **(facts or {}),
        }
        if finished and self.has(CONFIG_FILE) and self.has(FACTS_FILE):
            before = self.facts()
            found = before | dict(facts or {}) | before
        else:
            files.write(self.path(CONFIG_FILE), as_yaml(params))
        self.write_json(found, FACTS_FILE)
        return self.path(CONFIG_FILE)

    def records(self, params: hyperparams.Config) -> bool:
        """Whether the run was started with just this config."""
        path = self.path(CONFIG_FILE)
        return files.exists(path) and files.read_text(path) == as_yaml(params)

    def require_same(
        self, params: hyperparams.Config, purpose: str, step: int = 0
    ) -> None:
        """Refuses a config that is not the recorded run's.

        To resume, data may have moved, devices and intervals may differ, and
        a run may grow longer where its learning rate does not depend on its
        length. To read a checkpoint, the model must be the same.

        Args:
          params: the experiment, resolved.
          purpose: "resume" or "read"; see `same_experiment`.
          step: where a run resumes.

        Raises:
          ValueError: the recorded config is of another experiment, or the
            run is longer already; names the keys.
        """
        recorded = self.config()
        if recorded is None:
            return
        now = settings(params)
        before = flat(recorded)
        defaults = flat({"task": type(params.task)().as_dict()})
        found = differences(now, before, purpose, defaults)
        key = "trainer.train_steps"
        length = now[key], before.get(key)
        if purpose == "resume" and length[0] != length[1]:
            # Longer is no other run, where nothing else has changed by it.
            found |= {key: length} if found or step > length[0] else {}
        if found:
            raise ValueError(self._other(found, before))

    def _other(self, found: dict[str, tuple], before: dict[str, Any]) -> str:
        """What differs from the recorded config, in words."""
        model = any(key.startswith("task.model.") for key in found)
        pairs = [
            f"{key}={now!r} (recorded: {old if key in before else 'nothing'!r})"
            for key, (now, old) in found.items()
        ]
        if len(pairs) > _SHOWN:
            pairs[_SHOWN:] = [f"{len(pairs) - _SHOWN} more"]
        return (
            "model_dir holds a run of another "
            f"{'model' if model else 'config'}; give this one a model_dir of "
            "its own, or go on with the recorded settings. Received: "
            f"model_dir={self.folder!r}, {', '.join(pairs)}"
        )

    # What it measured.

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, of all kinds or one; [] without a file.

        A last line that a killed run left half-written is dropped.

        Args:
          kind: "train" or "eval".

        Raises:
          ValueError: a line is no JSON object with a kind and a step.
        """
        path = self.path(METRICS_FILE)
        if not files.exists(path):
            return []
        lines = files.read_text(path).splitlines(keepends=True)
        found = [_line(x, path) for x in lines if x.endswith("\n")]
        return [x for x in found if kind in (None, x["kind"])]

    def metrics_at(self, step: int) -> dict[str, float]:
        """The metrics of the last evaluation at a step; {} for none."""
        lines = [x for x in self.metrics("eval") if x["step"] == step]
        last = lines[-1] if lines else {}
        return {k: v for k, v in last.items() if k != "kind"}

    def evaluated(self, step: int) -> bool:
        """Whether there was an evaluation at a step."""
        return bool(self.metrics_at(step))

    def cut_metrics(self, step: int) -> None:
        """Drops what a killed run recorded beyond the step it resumes from."""
        kept = [x for x in self.metrics() if x["step"] <= step]
        text = "".join(json.dumps(x) + "\n" for x in kept)
        files.write(self.path(METRICS_FILE), text)

    def clear_metrics(self) -> None:
        """Drops all that was recorded."""
        files.write(self.path(METRICS_FILE), "")

    def add_metrics(
        self, kind: str, step: int, values: Mapping[str, float]
    ) -> None:
        """Adds a line to metrics.jsonl.

        Args:
          kind: "train" or "eval".
          step: the global step.
          values: by name.
        """
        line = json.dumps({"kind": kind, "step": step, **values})
        files.append(self.path(METRICS_FILE), line + "\n")

    # What it saved.

    def checkpoint(self, folder: str = "") -> str | None:
        """The latest checkpoint's prefix; None where none was saved.

        Args:
          folder: of the run, such as "best"; the run's own when empty.

        Raises:
          ValueError: the checkpoint on record is not there.
        """
        place = self.path(folder) if folder else self.folder
        state = tf.train.get_checkpoint_state(place)
        if state is None or not state.model_checkpoint_path:
            return None
        path = state.model_checkpoint_path
        if files.exists(f"{path}.index"):
            return path
        again = tf.train.get_checkpoint_state(place)
        if again and again.model_checkpoint_path != path:
            # A run that trains has just replaced it.
            return again.model_checkpoint_path
        raise ValueError(
            "The folder's last checkpoint is gone; copy it back, or remove "
            f"the file {files.join(place, 'checkpoint')!r} to start anew. "
            f"Received: {path!r}"
        )

    def step(self) -> int:
        """The global step of the latest checkpoint; 0 without one."""
        path = self.checkpoint()
        return 0 if path is None else saved_step(path)

    def best(self, folder: str = "best") -> dict[str, Any] | None:
        """Metrics of the best checkpoint, if they are that checkpoint's."""
        path = self.checkpoint(folder)
        info = self.json(folder, BEST_FILE)
        if path is None or not info:
            return None
        step = info["best_ckpt_global_step"]
        return info if step == saved_step(path) else None


def find(roots: Iterable[str]) -> dict[str, Run]:
    """The runs in some folders, however deep: by name, from the folder on.

    A run is a folder with params.yaml and metrics.jsonl; one that is found
    twice counts once.

    Args:
      roots: folders of runs, or of folders of runs.

    Raises:
      ValueError: no folder is named, or one holds no run or half a copy.
    """
    found: dict[str, Run] = {}
    seen = set()
    for root in roots:
        above = files.parent(files.absolute(root))
        inside = [
            Run(folder)
            for folder, _, names in files.walk(root)
            if METRICS_FILE in names and _is_run(Run(folder))
        ]
        if not inside:
            raise ValueError(
                f"There is no run in this folder: no {CONFIG_FILE} beside a "
                f"{METRICS_FILE}, however deep. Received: {root!r}"
            )
        for run in inside:
            path = files.absolute(run.folder)
            if files.real(path) not in seen:
                seen.add(files.real(path))
                found[files.inside(above, path)] = run
    if not found:
        raise ValueError("Name at least one folder of runs. Received: none")
    return found


def _is_run(run: Run) -> bool:
    """Whether a folder with metrics is a run: not one that is starting."""
    if run.has(CONFIG_FILE):
        return True
    if files.size(run.path(METRICS_FILE)):
        raise ValueError(
            f"A run's folder lacks {CONFIG_FILE}; a copy of a run needs "
            f"{CONFIG_FILE}, {FACTS_FILE} and {METRICS_FILE}. "
            f"Received: {run.folder!r}"
        )
    return False


def settings(params: hyperparams.Config) -> dict[str, Any]:
    """An experiment's config by dotted key, as a run records it."""
    return flat(yaml.safe_load(as_yaml(params)))


def read_json(path: str) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it is no JSON object; names the file.
    """
    return _mapping(path, json.loads, "a JSON object")


def read_yaml(path: str) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it is no YAML mapping; names the file.
    """
    return _mapping(path, yaml.safe_load, "a YAML mapping")


def _mapping(path: str, parse: Callable[[str], Any], kind: str) -> Any:
    text = files.read_text(path)
    try:
        found = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"The file must hold {kind}, and cannot be read: {error}. "
            f"Received: {path!r}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"The file must hold {kind}. Received: {path!r} with "
            f"{type(found).__name__}"
        )
    return found


def _line(text: str, path: str) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"kind", "step"} <= found.keys():
        raise ValueError(
            "Each line must be a JSON object with kind and step. "
            f"Received: {text[:80]!r} in {path!r}"
        )
    return found


def versions() -> dict[str, str]:
    """Of what a run's numbers depend on."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
    }


def as_yaml(params: hyperparams.Config) -> str:
    """A config as params.yaml holds it."""
    return overrides.as_yaml(params.as_dict(), sort_keys=False)
