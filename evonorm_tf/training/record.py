"""What a run leaves beside its checkpoints, and what it refuses to save.

`params.yaml` is the resolved config, `run.json` versions and devices. A run
does not go on from another model's checkpoint, and does not save weights that
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

from evonorm_tf.training import config, progress

CONFIG_FILE = "params.yaml"
ABOUT_FILE = "run.json"


def same_config(params: config.Experiment, model_dir: str) -> bool:
    """Whether the run in `model_dir` was started with just this config."""
    path = os.path.join(model_dir, CONFIG_FILE)
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return file.read() == _as_yaml(params)


def check_model(params: config.Experiment, model_dir: str) -> None:
    """Refuses to go on from the checkpoint of another model.

    Raises:
      ValueError: the config recorded in `model_dir` has another `task.model`.
    """
    path = os.path.join(model_dir, CONFIG_FILE)
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        before = yaml.safe_load(file)["task"]["model"]
    now = yaml.safe_load(_as_yaml(params))["task"]["model"]
    if before != now:
        raise ValueError(
            "model_dir holds a run of another model; give this one a "
            f"model_dir of its own. Received: model_dir={model_dir!r}, "
            f"task.model={now}, expected {before}"
        )


def save(
    params: config.Experiment,
    model_dir: str,
    about: str,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Records the resolved config, versions and devices.

    Args:
      params: the experiment.
      model_dir: the run's directory.
      about: the devices, in words.
      facts: what else `run.json` is to say, ready for JSON.
    """
    path = os.path.join(model_dir, CONFIG_FILE)
    progress.write_atomically(path, _as_yaml(params))
    versions = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
        "devices": about,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **(facts or {}),
    }
    text = json.dumps(versions, indent=2) + "\n"
    progress.write_atomically(os.path.join(model_dir, ABOUT_FILE), text)


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


def _as_yaml(params: config.Experiment) -> str:
    return yaml.safe_dump(params.as_dict(), sort_keys=False)
