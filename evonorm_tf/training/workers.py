"""What several workers need of the Model Garden's runner, and lack."""

import glob
import os
import shutil
import tempfile

import tensorflow as tf
from official.core import train_lib

from evonorm_tf.training import progress


class Runner(train_lib.OrbitExperimentRunner):
    """The Model Garden's, with the checkpoints that it is given.

    Its own has a worker that is not the chief start from nothing when the
    chief goes on from a checkpoint.
    """

    def __init__(self, manager: tf.train.CheckpointManager, *args, **settings):
        self._manager = manager
        super().__init__(*args, **settings)

    def _maybe_build_checkpoint_manager(self) -> tf.train.CheckpointManager:
        return self._manager


def aside(model_dir: str) -> str:
    """Where a worker saves that is not the chief, with a copy to go on from.

    TensorFlow has every worker save, and all but the chief throw it away.
    """
    own = tempfile.mkdtemp()
    path = tf.train.latest_checkpoint(model_dir)
    if path is not None:
        for file in glob.glob(glob.escape(path) + ".*"):
            shutil.copy(file, own)
        # What tf.train.latest_checkpoint reads; relative to its folder.
        state = f'model_checkpoint_path: "{os.path.basename(path)}"\n'
        progress.write_atomically(os.path.join(own, "checkpoint"), state)
    return own
