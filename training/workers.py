"""Runs with several workers: processes that train together."""

import contextlib
import hashlib
import json
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from training import checkpoints, runs
from training.images.order import Share

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CODE = ("evonorm_tf", "training", "classification", "detection", "gan")
# What all workers must agree on, and how to fix differences.
_AGREE = {
    "step": "resume from different steps. All of them need one model_dir, on "
    "storage that they share",
    "code": "run different versions of this project. Check out the same one "
    "on every host",
    # Before the settings, which follow from it: the number of steps.
    "data": "see different data. Give every host the same files, or one "
    "storage that they share",
    "config": "have different settings. Start all of them with the same flags",
}


def require_agreement(
    devices: tf.distribute.Strategy,
    seen: Callable[[], Mapping[str, Any]],
    model_dir: str,
) -> None:
    """Rejects workers that would not train the same model on the same data.

    Args:
      devices: of this run; only several workers are compared.
      seen: returns this process's "step", "config" and "data".
      model_dir: the folder from which it resumes.

    Raises:
      ValueError: on every worker, if they disagree.
    """
    if several(devices):
        found = gather(dict(seen()) | {"code": code()}, devices)
        refuse_differences(found, model_dir)


def refuse_differences(found: list[dict[str, Any]], model_dir: str) -> None:
    """Raises ValueError if workers disagree.

    Args:
      found: the values of each worker, in their order.
      model_dir: for the error.
    """
    for name, advice in _AGREE.items():
        values = [one.get(name) for one in found]
        if all(value == values[0] for value in values):
            continue
        if all(isinstance(value, dict) for value in values):
            keys = sorted({key for value in values for key in value})
            same = [
                key
                for key in keys
                if all(v.get(key) == values[0].get(key) for v in values)
            ]
            for value in values:
                for key in same:
                    value.pop(key, None)
        raise ValueError(
            f"The workers {advice}. Received: model_dir={model_dir!r}, "
            f"{name} by worker={values}"
        )


def code() -> str:
    """Returns a digest of this project's source code."""
    result = hashlib.sha256()
    for package in _CODE:
        for path in sorted((_ROOT / package).rglob("*.py")):
            result.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
            result.update(path.read_bytes())
    return result.hexdigest()[:12]


def several(devices: tf.distribute.Strategy) -> bool:
    """Returns whether other processes run the same program on other data.

    A TPU slice has one process for all of its hosts.
    """
    return isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(devices: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes, among those of a strategy."""
    return devices.extended.should_checkpoint


def share(devices: tf.distribute.Strategy) -> Share:
    """Returns which of the workers this process is."""
    if not several(devices):
        return Share()
    local = len(devices.extended.worker_devices)
    replicas = []

    def note(context: Any) -> tf.Tensor:
        replicas.append(context.replica_id_in_sync_group)
        return tf.zeros([])

    devices.experimental_distribute_values_from_function(note)
    pipelines = devices.num_replicas_in_sync // local
    return Share(pipelines, min(replicas) // local)


def join(part: np.ndarray, devices: tf.distribute.Strategy) -> np.ndarray:
    """Concatenates all workers' arrays along the first axis, on all."""
    if not several(devices):
        return part
    local = len(devices.extended.worker_devices)

    def value(context: Any) -> tf.Tensor:
        first = context.replica_id_in_sync_group % local == 0
        return tf.constant(part if first else part[:0])

    values = devices.experimental_distribute_values_from_function(value)
    return devices.gather(values, axis=0).numpy()


def gather(value: Any, devices: tf.distribute.Strategy) -> list[Any]:
    """Returns the values of all workers, in their order, on all of them.

    It returns when every worker has called it.

    Args:
      value: of this process; anything that JSON can represent.
      devices: the strategy of the workers.
    """
    if not several(devices):
        return [value]
    text = zlib.compress(json.dumps(value).encode())
    # Collectives do not transfer strings; their length comes first.
    words = np.frombuffer(text + b"\0" * (-len(text) % 4), np.int32)
    own = np.concatenate([np.array([len(text)], np.int32), words])
    sizes = join(np.array([len(own)], np.int32), devices)
    parts = np.split(join(own, devices), np.cumsum(sizes)[:-1])
    return [
        json.loads(zlib.decompress(part[1:].tobytes()[: part[0]]))
        for part in parts
    ]


@contextlib.contextmanager
def saving(devices: tf.distribute.Strategy, run: runs.Run) -> Iterator[str]:
    """Returns where this worker saves: for the chief, the run's folder.

    TensorFlow lets every worker save and discards all files but the chief's.
    The others get a separate folder with a copy of the checkpoint from which
    to resume.
    """
    if is_chief(devices):
        yield run.folder
        return
    with tempfile.TemporaryDirectory() as own:
        path = run.checkpoint()
        if path is not None:
            checkpoints.copy_checkpoint(path, own)
        yield own
