"""What several workers need of the Model Garden's runner, and lack."""

import tempfile

import tensorflow as tf
from official.core import train_lib

from training import runs


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
    if not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy):
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


def aside(run: runs.Run) -> str:
    """Where a worker saves that is not the chief, with a copy to go on from.

    TensorFlow has every worker save, and all but the chief throw it away.
    """
    own = tempfile.mkdtemp()
    path = run.checkpoint()
    if path is not None:
        runs.copy_checkpoint(path, own)
    return own
