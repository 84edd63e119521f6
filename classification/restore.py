"""A finished or unfinished run's model, from its directory alone.

No data are opened: `run.json` says how large the images are.
"""

import dataclasses
import json
import os
from typing import Any

import tensorflow as tf
import tf_keras
import yaml

from classification import settings, task
from evonorm_tf.training import (
    best,
    config,
    driver,
    record,
    saved,
    strategy,
)

CHECKPOINTS = ("latest", "best")


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's model.

    Attributes:
      model: the network, with the weights that an evaluation would use.
      params: the run's config.
      about: what `run.json` says.
      path: of the checkpoint.
      step: of the checkpoint.
      averaged: whether the weights are averages over training.
      metrics: of an evaluation at this step; {} where there was none.
    """

    model: tf_keras.Model
    params: config.Experiment
    about: dict[str, Any]
    path: str
    step: int
    averaged: bool
    metrics: dict[str, float]


class _Task(task.Task):
    """The task without its data: a model needs their shape alone."""

    def __init__(self, params: Any, shape: list[int]):
        super().__init__(params)
        self.shape = shape

    def source(self, training: bool) -> Any:
        """Stands for either data set."""
        del training
        return self


def restore(model_dir: str, checkpoint: str = "latest") -> Restored:
    """Reads a run's model.

    Args:
      model_dir: the run's directory.
      checkpoint: "latest" or "best".

    Raises:
      ValueError: no run, no such checkpoint, or a run of an older version.
    """
    params, about = _read(model_dir)
    path, metrics = _find(params, model_dir, checkpoint)
    built = _Task(params.task, about["input_shape"])
    ema = params.trainer.optimizer_config.ema is not None
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = built.build_model()
        # A best checkpoint has the average in the model's place already.
        if ema and checkpoint == "latest":
            saved.read_average(built, params, model, path)
        else:
            read = tf.train.Checkpoint(model=model).read(path)
            read.assert_existing_objects_matched().expect_partial()
    step = record.saved_step(path)
    if checkpoint == "latest":
        metrics = saved.metrics(model_dir, step)
    return Restored(model, params, about, path, step, ema, metrics)


def _read(model_dir: str) -> tuple[config.Experiment, dict[str, Any]]:
    found = []
    for name in (record.CONFIG_FILE, record.ABOUT_FILE):
        path = os.path.join(model_dir, name)
        if not os.path.isfile(path):
            raise ValueError(
                f"This is no run of classification.train: it has no {name}. "
                f"Received: model_dir={model_dir!r}"
            )
        with open(path, encoding="utf-8") as file:
            found.append(file.read())
    # What an older config lacks has its class's default, not an experiment's.
    params = config.Experiment(
        task=settings.Task(),
        trainer=driver.trainer_config(),
        runtime=strategy.Runtime(),
    )
    config.override(params, yaml.safe_load(found[0]))
    about = json.loads(found[1])
    if "input_shape" not in about:
        raise ValueError(
            "run.json does not say how large the images are; start the run's "
            "command once more, which writes it anew. Received: "
            f"model_dir={model_dir!r}"
        )
    return params, about


def _find(
    params: config.Experiment, model_dir: str, checkpoint: str
) -> tuple[str, dict[str, float]]:
    if checkpoint not in CHECKPOINTS:
        raise ValueError(
            f"checkpoint must be one of {CHECKPOINTS}. "
            f"Received: checkpoint={checkpoint!r}"
        )
    folder, metrics = model_dir, {}
    if checkpoint == "best":
        folder = os.path.join(
            model_dir, params.trainer.best_checkpoint_export_subdir or "best"
        )
        metrics = best.info(folder) or {}
    path = tf.train.latest_checkpoint(folder)
    if path is None:
        raise ValueError(
            "There is no such checkpoint; train first, with "
            "trainer.best_checkpoint_* set for the best. Received: "
            f"model_dir={model_dir!r}, checkpoint={checkpoint!r}"
        )
    return path, metrics
