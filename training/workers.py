"""What several workers need of the Model Garden's runner, and lack."""

import json
import tempfile
import zlib
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import train_lib

from training import runs
from training.images.order import Share


class Runner(train_lib.OrbitExperimentRunner):
    """The Model Garden's, with the checkpoints that it is given.

    Its own has a worker that is not the chief start from nothing when the
    chief goes on from a checkpoint.
    """

    def __init__(self, manager: runs.Checkpoints, *args, **settings):
        self._manager = manager
        super().__init__(*args, **settings)

    def _maybe_build_checkpoint_manager(self) -> runs.Checkpoints:
        return self._manager


def require_one_step(
    devices: tf.distribute.Strategy, step: int, model_dir: str
) -> None:
    """Refuses workers that would go on from different steps.

    Each reads where to go on from; the chief alone writes it.

    Args:
      devices: of this run; only several workers have anything to compare.
      step: where this process goes on from.
      model_dir: where it read that.

    Raises:
      ValueError: on every worker, where they disagree.
    """
    if not several(devices):
        return
    own = devices.experimental_distribute_values_from_function(
        lambda _: tf.constant([step])
    )
    steps = devices.gather(own, axis=0).numpy().tolist()
    if len(set(steps)) > 1:
        raise ValueError(
            "The workers go on from different steps. All of them need one "
            "model_dir, on storage that they share. Received: "
            f"model_dir={model_dir!r}, step by replica={steps}"
        )


def several(devices: tf.distribute.Strategy) -> bool:
    """Whether other processes run the same program on their part of the data.

    A TPU slice has one process for all of its hosts.
    """
    return isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(devices: tf.distribute.Strategy) -> bool:
    """Whether this process writes, of those that share a strategy."""
    return devices.extended.should_checkpoint


def share(devices: tf.distribute.Strategy) -> Share:
    """Which of the workers this process is."""
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
    """All workers' arrays in their order along the first axis, on all."""
    if not several(devices):
        return part
    local = len(devices.extended.worker_devices)

    def value(context: Any) -> tf.Tensor:
        first = context.replica_id_in_sync_group % local == 0
        return tf.constant(part if first else part[:0])

    values = devices.experimental_distribute_values_from_function(value)
    return devices.gather(values, axis=0).numpy()


def gather(value: Any, devices: tf.distribute.Strategy) -> list[Any]:
    """What each worker has, in their order, on all of them.

    It returns when every worker has called it.

    Args:
      value: of this process; whatever JSON holds.
      devices: the strategy that the workers share.
    """
    if not several(devices):
        return [value]
    text = zlib.compress(json.dumps(value).encode())
    # Collectives take no bytes; their number stands before the words.
    words = np.frombuffer(text + b"\0" * (-len(text) % 4), np.int32)
    own = np.concatenate([np.array([len(text)], np.int32), words])
    sizes = join(np.array([len(own)], np.int32), devices)
    parts = np.split(join(own, devices), np.cumsum(sizes)[:-1])
    return [
        json.loads(zlib.decompress(part[1:].tobytes()[: part[0]]))
        for part in parts
    ]


def aside(run: runs.Run) -> str:
    """Where a worker saves that is not the chief, with a copy to go on from.

    TensorFlow has every worker save, and all but the chief throw it away.
    """
    own = tempfile.mkdtemp()
    path = run.checkpoint()
    if path is not None:
        runs.copy_checkpoint(path, own)
    return own
