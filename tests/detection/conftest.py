"""A run's directory with the smallest model, saved as a run saves it."""

import os
import types

import pytest
import tensorflow as tf

from detection import task
from tests.detection import small
from training import runs


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory):
    """Its `folder`, `model`, `task` and `images`, paths of its scenes.

    Scenes larger than the network's input, so that boxes are scaled, and few
    classes: the graph of an export has a loop for each.
    """
    folder = tmp_path_factory.mktemp("saved")
    params = small.parameters(task={"scenes": {"size": 96}})
    prepared = task.prepare(params, str(folder))
    params.task.model.num_classes = 4
    model = prepared.build_model()
    saved = tf.train.Checkpoint(
        model=model, global_step=tf.Variable(7, dtype=tf.int64)
    )
    manager = tf.train.CheckpointManager(saved, str(folder), 1)
    path = manager.save(7)
    (folder / runs.CONFIG_FILE).write_text(runs.as_yaml(params))
    scenes = os.path.splitext(params.task.annotation_file)[0]
    images = [f"{scenes}/{number:06d}.png" for number in (1, 2)]
    return types.SimpleNamespace(
        **{"folder": str(folder), "model": model, "task": prepared},
        **{"images": images, "path": path},
    )


@pytest.fixture(scope="session")
def restored(saved_run):
    """It, as everyone who uses it reads it."""
    return task.restore(saved_run.folder)
