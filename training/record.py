"""What a run leaves beside its checkpoints, and what it refuses to save.

`params.yaml` is the resolved config, `run.json` versions and devices. A run
does not go on from another run's checkpoint, and does not save weights that
are no longer finite.
"""

import json
import math
import os
import platform
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
import yaml

from training import config, progress

CONFIG_FILE = "params.yaml"
ABOUT_FILE = "run.json"
# What may differ where a run goes on. Its length is `trainer.train_steps`.
_FREE = {"task.validation_data.global_batch_size", "task.schedule.epochs"}
_FREE_ENDS = {
    *("tfds_data_dir", "path", "input_path", "annotation_file"),
    *("examples", "num_examples", "validation_epochs"),
}
_NONE = "nothing"
_SHOWN = 8  # differences in an error


def same_config(params: config.Experiment, model_dir: str) -> bool:
    """Whether the run in `model_dir` was started with just this config."""
    path = os.path.join(model_dir, CONFIG_FILE)
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return file.read() == as_yaml(params)


def check_model(params: config.Experiment, model_dir: str) -> None:
    """Refuses to read the checkpoint of another model.

    Raises:
      ValueError: the config recorded in `model_dir` has another `task.model`
        or another average of the weights.
    """
    before = _recorded(model_dir)
    if before is not None:
        prefixes = ("task.model.", "trainer.optimizer_config.ema")
        _refuse(_differences(params, before, prefixes), model_dir)


def check_run(params: config.Experiment, model_dir: str, step: int) -> None:
    """Refuses to go on with another run, or to give it other settings.

    Data may have moved, devices and intervals may differ. A run may grow
    longer where its learning rate does not depend on its length.

    Args:
      params: the experiment, resolved.
      model_dir: the run's directory.
      step: where the run goes on from.

    Raises:
      ValueError: the config recorded in `model_dir` has another task or
        optimizer, or the run is longer already.
    """
    before = _recorded(model_dir)
    if before is None:
        return
    prefixes = ("task.", "trainer.optimizer_config.")
    found = _differences(params, before, prefixes)
    if found or step > params.trainer.train_steps:
        found |= _differences(params, before, ("trainer.train_steps",))
        _refuse(found, model_dir)


def _recorded(model_dir: str) -> dict[str, Any] | None:
    """The recorded config; None where there is none."""
    path = os.path.join(model_dir, CONFIG_FILE)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def _differences(
    params: config.Experiment, before: dict[str, Any], prefixes: tuple[str, ...]
) -> dict[str, tuple[Any, Any]]:
    """(now, before) by full key, of keys that begin with one of `prefixes`.

    A record may be older than a key: the run was then made with what the key
    has by default, or with what it switches on off.
    """
    now, old = _flat(yaml.safe_load(as_yaml(params))), _flat(before)
    default = _flat({"task": type(params.task)().as_dict()})
    found = {}
    for key in sorted({*now, *old}):
        if not key.startswith(prefixes) or key in _FREE:
            continue
        pair = now.get(key, _NONE), old.get(key, _NONE)
        one, other = pair
        if key.rpartition(".")[2] in _FREE_ENDS or one == other:
            continue
        if _NONE in pair:
            value = one if other == _NONE else other
            if not value or (other == _NONE and value == default.get(key)):
                continue
        found[key] = pair
    return found


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict)
        flat |= (
            _flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
        )
    return flat


def _refuse(found: dict[str, tuple[Any, Any]], model_dir: str) -> None:
    """Raises ValueError for settings that differ, if there are any."""
    if not found:
        return
    model = any(key.startswith("task.model.") for key in found)
    pairs = [
        f"{key}={now!r} (recorded: {old!r})"
        for key, (now, old) in found.items()
    ]
    if len(pairs) > _SHOWN:
        pairs[_SHOWN:] = [f"{len(pairs) - _SHOWN} more"]
    raise ValueError(
        f"model_dir holds a run of another {'model' if model else 'config'}; "
        "give this one a model_dir of its own, or go on with the recorded "
        f"settings. Received: model_dir={model_dir!r}, {', '.join(pairs)}"
    )


def save(
    params: config.Experiment,
    model_dir: str,
    about: str,
    facts: Mapping[str, Any] | None = None,
    finished: bool = False,
) -> str:
    """Records the resolved config, versions and devices.

    A finished run's record says what it was made with, and stays; but it
    gets the facts that an older version left out.

    Args:
      params: the experiment.
      model_dir: the run's directory.
      about: the devices, in words.
      facts: what else `run.json` is to say, ready for JSON.
      finished: whether the run has no step left.

    Returns:
      The path of the recorded config.
    """
    path = os.path.join(model_dir, CONFIG_FILE)
    found = {
        **versions(),
        "devices": about,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **(facts or {}),
    }
    about_path = os.path.join(model_dir, ABOUT_FILE)
    if finished and os.path.exists(path) and os.path.exists(about_path):
        with open(about_path, encoding="utf-8") as file:
            before = json.load(file)
        found = before | dict(facts or {}) | before
    else:
        progress.write_atomically(path, as_yaml(params))
    text = json.dumps(found, indent=2) + "\n"
    progress.write_atomically(about_path, text)
    return path


def versions() -> dict[str, str]:
    """Of what a run's numbers depend on."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
    }


def saved_step(path: str) -> int:
    """The global step of a checkpoint.

    Read without making a variable, which in the scope of several workers
    would wait for all of them.
    """
    reader = tf.train.load_checkpoint(path)
    return int(reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE"))


def require_finite(
    step: int,
    logs: Mapping[str, float],
    models: Mapping[str, tf_keras.Model],
    model_dir: str,
) -> None:
    """Stops a run that cannot recover, before it is saved over.

    Args:
      step: where it is.
      logs: what a training loop returned, losses among it.
      models: by the name that an error calls them.
      model_dir: where its checkpoints are.

    Raises:
      FloatingPointError: a value or a weight is not finite; says which, and
        names the last good checkpoint.
    """
    bad = [f"{k} is {v}" for k, v in logs.items() if not math.isfinite(v)]
    for name, model in models.items():
        broken = [
            weight.name
            for weight in model.weights
            if not bool(tf.reduce_all(tf.math.is_finite(weight)))
        ]
        if broken:
            bad.append(
                f"{len(broken)} of the {name}'s {len(model.weights)} weights "
                f"are not finite, the first {broken[0]!r}"
            )
    if not bad:
        return
    saved = tf.train.latest_checkpoint(model_dir)
    raise FloatingPointError(
        f"Training broke down by step {step}: {'; '.join(bad)}. Last good "
        f"checkpoint: {saved or 'none was saved yet'}. Lower the learning "
        "rate, warm up for longer or clip gradients, then run again."
    )


def as_yaml(params: config.Experiment) -> str:
    """The config as `params.yaml` holds it."""
    return yaml.safe_dump(params.as_dict(), sort_keys=False)
