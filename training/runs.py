"""A run's folder: everything that reads or writes its files.

    params.yaml          the resolved config
    run.json             facts: versions, devices, what an export must know
    metrics.jsonl        one line of JSON per training loop and evaluation
    ckpt-*, checkpoint   the latest checkpoints
    best/                the best checkpoint, and its metrics in info.json
    train/, validation/  for TensorBoard

A head writes its additional files (results, pictures, samples, statistics) with
`Run.path` and `evonorm_tf.files`. A folder can be on any file system that
TensorFlow writes to, under any name. Of several processes that share one, only
the chief writes.
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

from evonorm_tf import files, yaml_text
from training.checkpoints import remove_checkpoint, saved_step
from training.same_experiment import THEN, differences, flat

CONFIG_FILE = "params.yaml"
FACTS_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
BEST_FILE = "info.json"
BEST_STEP = "best_ckpt_global_step"  # in BEST_FILE
_SHOWN = 8  # maximum number of differences in an error


class Run:
    """A run by its folder, which may not exist yet.

    Attributes:
      folder: its path.
    """

    def __init__(self, folder: files.Path):
        """Args: the folder; nothing is read or created."""
        self.folder = files.normalize(folder)

    def path(self, *names: str) -> str:
        """Returns the path of a file or folder in the run's folder."""
        return files.join(self.folder, *names)

    def has(self, *names: str) -> bool:
        """Returns whether a file or folder exists."""
        return files.exists(self.path(*names))

    # What the run is.

    def config(self) -> dict[str, Any] | None:
        """Returns the recorded config, nested; None if there is none.

        Raises:
          ValueError: if the file is not a YAML mapping.
        """
        path = self.path(CONFIG_FILE)
        if not files.is_file(path):
            return None
        return _mapping(path, yaml.safe_load, "a YAML mapping")

    def require_config(self) -> dict[str, Any]:
        """Returns the recorded config, nested.

        Raises:
          ValueError: if there is none, or it is not a YAML mapping.
        """
        found = self.config()
        if found is None:
            raise ValueError(
                f"This is not a training run: it has no {CONFIG_FILE}. "
                f"Received: model_dir={self.folder!r}"
            )
        return found

    def facts(self) -> dict[str, Any]:
        """Returns the content of run.json; {} if there is none.

        Raises:
          ValueError: if the file is not a JSON object.
        """
        return self.json(FACTS_FILE)

    def json(self, *names: str) -> dict[str, Any]:
        """Returns the object in a JSON file; {} if there is none.

        Raises:
          ValueError: if the file is not a JSON object.
        """
        path = self.path(*names)
        if not files.is_file(path):
            return {}
        return _mapping(path, json.loads, "a JSON object")

    def write_json(self, content: Any, *names: str) -> str:
        """Writes a JSON file atomically; returns its path."""
        text = json.dumps(content, indent=2) + "\n"
        return files.write(self.path(*names), text)

    def record(
        self,
        params: hyperparams.Config,
        devices: str,
        facts: Mapping[str, Any] | None = None,
        finished: bool = False,
        step: int = 0,
    ) -> str:
        """Records the resolved config, versions, devices and facts.

        The record of a finished run is not changed, except to add facts that
        an older version of this project did not record.

        Args:
          params: the experiment.
          devices: a description of them.
          facts: further content of run.json, ready for JSON.
          finished: whether the run has no step left.
          step: the step from which the run resumes; see `whole`.

        Returns:
          The path of the recorded config.
        """
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
        found = {
            **versions(),
            "devices": self.whole("devices", devices, step),
            "machine": self.whole("machine", machine, step),
            **(facts or {}),
        }
        if finished and self.has(CONFIG_FILE) and self.has(FACTS_FILE):
            before = self.facts()
            found = before | dict(facts or {}) | before
        else:
            files.write(self.path(CONFIG_FILE), as_yaml(params))
        self.write_json(found, FACTS_FILE)
        return self.path(CONFIG_FILE)

    def differences(
        self, params: hyperparams.Config, purpose: str
    ) -> dict[str, tuple[Any, Any]]:
        """Returns how a config differs from the recorded one, by dotted key.

        Args:
          params: the resolved experiment.
          purpose: "resume" or "read"; see `same_experiment`.

        Raises:
          ValueError: if there is no recorded config.
        """
        classes = {"task": params.task, "runtime": params.runtime}
        defaults = flat({k: type(x)().as_dict() for k, x in classes.items()})
        before = flat(self.require_config())
        return differences(settings(params), before, purpose, defaults)

    def whole(self, fact: str, now: str, step: int) -> str:
        """Returns a fact of the whole run, such as "A, then B".

        A run may be resumed on other devices, and its batch statistics are
        then those of several numbers of images.

        Args:
          fact: "devices" or "machine".
          now: of the part of the run that starts.
          step: the step from which it resumes; from 0, nothing is left of an
            earlier start.
        """
        if not step:
            return now
        before = self.facts().get(fact, f"{fact} not recorded")
        return THEN.join(dict.fromkeys([*before.split(THEN), now]))

    def require_same(
        self, params: hyperparams.Config, purpose: str, step: int = 0
    ) -> None:
        """Rejects a config that differs from the recorded run's.

        To resume, data may have moved, devices and intervals may differ, but
        not precision and accumulation, and the run may be extended if its
        learning rate does not depend on its length. To read a checkpoint, the
        model must be the same.

        Args:
          params: the resolved experiment.
          purpose: "resume" or "read"; see `same_experiment`.
          step: the step from which a run resumes.

        Raises:
          ValueError: if the recorded config is of another experiment, or the
            run is already longer; the message names the keys.
        """
        recorded = self.config()
        if recorded is None:
            return
        now = settings(params)
        before = flat(recorded)
        found = self.differences(params, purpose)
        key = "trainer.train_steps"
        length = now[key], before.get(key)
        if purpose == "resume" and length[0] != length[1]:
            # An extension is the same run if nothing else changes with it.
            found |= {key: length} if found or step > length[0] else {}
        if found:
            raise ValueError(self._other(found, before))

    def _other(self, found: dict[str, tuple], before: dict[str, Any]) -> str:
        """Describes the differences from the recorded config."""
        model = any(key.startswith("task.model.") for key in found)
        pairs = [
            f"{key}={now!r} (recorded: {old if key in before else 'nothing'!r})"
            for key, (now, old) in found.items()
        ]
        if len(pairs) > _SHOWN:
            pairs[_SHOWN:] = [f"{len(pairs) - _SHOWN} more"]
        return (
            "model_dir contains a run with another "
            f"{'model' if model else 'config'}. Use another model_dir for "
            "this one, or resume with the recorded settings. Received: "
            f"model_dir={self.folder!r}, {', '.join(pairs)}"
        )

    # Metrics.

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl, of one kind or all.

        A last line that a killed run left incomplete is ignored.

        Args:
          kind: "train" or "eval".

        Raises:
          ValueError: if a line is not a JSON object with a kind and a step.
        """
        path = self.path(METRICS_FILE)
        if not files.exists(path):
            return []
        lines = files.read_text(path).splitlines(keepends=True)
        found = [_line(x, path) for x in lines if x.endswith("\n")]
        return [x for x in found if kind in (None, x["kind"])]

    def metrics_at(self, step: int) -> dict[str, float]:
        """Returns the metrics of the last evaluation at a step, or {}."""
        lines = [x for x in self.metrics("eval") if x["step"] == step]
        last = lines[-1] if lines else {}
        return {k: v for k, v in last.items() if k != "kind"}

    def evaluated(self, step: int) -> bool:
        """Returns whether there was an evaluation at a step."""
        return bool(self.metrics_at(step))

    def finished(self) -> bool:
        """Returns whether the record has the evaluation at the run's end."""
        recorded = self.config()
        return recorded is not None and self.evaluated(
            flat(recorded).get("trainer.train_steps")
        )

    def forget(self, step: int, best: str = "best") -> None:
        """Removes what a killed run recorded after its last checkpoint.

        Args:
          step: of that checkpoint; 0 if there is none, and everything was
            lost.
          best: the subfolder of the best checkpoint, which is removed if it
            is of a later step.
        """
        if step:
            self.cut_metrics(step)
        else:
            files.write(self.path(METRICS_FILE), "")
        path = self.checkpoint(best)
        if path is not None and not 0 < saved_step(path) <= step:
            # First the file that names it: if this is killed in between, the
            # rest is not read and does not stop the next start.
            files.remove(self.path(best, "checkpoint"))
            remove_checkpoint(path)
            files.remove(self.path(best, BEST_FILE))

    def cut_metrics(self, step: int) -> None:
        """Removes the metrics after a step."""
        path = self.path(METRICS_FILE)
        kept = [x for x in self.metrics() if x["step"] <= step]
        text = "".join(json.dumps(x) + "\n" for x in kept)
        # An incomplete last line is removed too.
        if files.exists(path) and files.read_text(path) != text:
            files.write(path, text)

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

    # Checkpoints.

    def checkpoint(self, folder: str = "") -> str | None:
        """Returns the latest checkpoint's prefix; None if there is none.

        Args:
          folder: subfolder such as "best"; empty for the run's folder.

        Raises:
          ValueError: if the recorded checkpoint does not exist.
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
            # A running training has just replaced it.
            return again.model_checkpoint_path
        raise ValueError(
            "The folder's last checkpoint is missing. Copy it back, or remove "
            f"the file {files.join(place, 'checkpoint')!r} to start again. "
            f"Received: {path!r}"
        )

    def step(self) -> int:
        """Returns the global step of the latest checkpoint; 0 without one."""
        path = self.checkpoint()
        return 0 if path is None else saved_step(path)

    def best(self, folder: str = "best") -> dict[str, Any] | None:
        """Returns the best checkpoint's metrics, if they match its step."""
        path = self.checkpoint(folder)
        info = self.json(folder, BEST_FILE)
        if path is None or info.get(BEST_STEP) != saved_step(path):
            return None
        return info


def find(roots: Iterable[str]) -> dict[str, Run]:
    """Finds the runs in some folders, at any depth, by relative path.

    A run is a folder with params.yaml and metrics.jsonl. A run that is found
    twice counts once.

    Args:
      roots: folders of runs, or of folders of runs.

    Raises:
      ValueError: if no folder is given, or one has no run or an incomplete
        copy.
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
                f"There is no run in this folder: no {CONFIG_FILE} next to a "
                f"{METRICS_FILE}, at any depth. Received: {root!r}"
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
    """Returns whether a folder with metrics is a run that has started."""
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
    """Returns an experiment's config by dotted key, as a run records it."""
    return flat(yaml.safe_load(as_yaml(params)))


def _mapping(path: str, parse: Callable[[str], Any], kind: str) -> Any:
    text = files.read_text(path)
    try:
        found = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"The file must contain {kind} and cannot be read: {error}. "
            f"Received: {path!r}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"The file must contain {kind}. Received: {path!r} with "
            f"{type(found).__name__}"
        )
    return found


def _line(text: str, path: str) -> dict[str, Any]:
    """Parses one line of metrics.jsonl."""
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
    """Returns the versions that affect a run's results."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
    }


def as_yaml(params: hyperparams.Config) -> str:
    """Formats a config as in params.yaml."""
    return yaml_text.dump(params.as_dict(), sort_keys=False)
