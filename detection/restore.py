"""A run's detector from its directory alone: no data are opened."""

import dataclasses
import os

import tensorflow as tf
import tf_keras
import yaml

from detection import draw, evaluate, settings, task
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
      names: category ids to names; {} where the annotations are gone.
      path: of the checkpoint.
      step: of the checkpoint.
      metrics: of an evaluation at this step; {} where there was none.
    """

    model: tf_keras.Model
    params: config.Experiment
    names: dict[int, str]
    path: str
    step: int
    metrics: dict[str, float]


def restore(model_dir: str | None, checkpoint: str = "latest") -> Restored:
    """Reads a run's model.

    Args:
      model_dir: the run's directory; None finds it from the checkpoint.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: no run, or no such checkpoint.
    """
    model_dir = _directory(model_dir, checkpoint)
    params = _params(model_dir)
    path, averaged = _find(params, model_dir, checkpoint)
    built = task.Task(params.task)
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = built.build_model()
        if params.trainer.optimizer_config.ema is not None and not averaged:
            saved.read_average(built, params, model, path)
        else:
            read = tf.train.Checkpoint(model=model).read(path)
            read.assert_existing_objects_matched().expect_partial()
    step = record.saved_step(path)
    return Restored(
        model,
        params,
        _names(params),
        path,
        step,
        saved.metrics(model_dir, step),
    )


def _directory(model_dir: str | None, checkpoint: str) -> str:
    """The run's directory: the nearest above the checkpoint."""
    if model_dir:
        return model_dir
    folder = os.path.dirname(os.path.abspath(checkpoint))
    if checkpoint not in CHECKPOINTS:
        for found in (folder, os.path.dirname(folder)):
            if os.path.isfile(os.path.join(found, record.CONFIG_FILE)):
                return found
    raise ValueError(
        "Give model_dir, or the path of a checkpoint in a run's directory. "
        f"Received: model_dir={model_dir!r}, checkpoint={checkpoint!r}"
    )


def _params(model_dir: str) -> config.Experiment:
    path = os.path.join(model_dir, record.CONFIG_FILE)
    if not os.path.isfile(path):
        raise ValueError(
            f"This is no run of detection.train: it has no "
            f"{record.CONFIG_FILE}. Received: model_dir={model_dir!r}"
        )
    # What an older config lacks has its class's default, not an experiment's.
    params = config.Experiment(
        task=settings.Task(),
        trainer=driver.trainer_config(),
        runtime=strategy.Runtime(),
    )
    with open(path, encoding="utf-8") as file:
        config.override(params, yaml.safe_load(file))
    return params


def _find(
    params: config.Experiment, model_dir: str, checkpoint: str
) -> tuple[str, bool]:
    """Path of a checkpoint, and whether averages are in it as weights."""
    subdir = params.trainer.best_checkpoint_export_subdir or "best"
    kept = os.path.join(model_dir, subdir)
    folders = {"latest": model_dir, "best": kept}
    if checkpoint in folders:
        path = tf.train.latest_checkpoint(folders[checkpoint])
    else:
        path = checkpoint.removesuffix(".index")
        path = path if tf.io.gfile.exists(f"{path}.index") else None
    if path is None:
        raise ValueError(
            "There is no such checkpoint; train first, with "
            "trainer.best_checkpoint_* set for the best. Received: "
            f"model_dir={model_dir!r}, checkpoint={checkpoint!r}"
        )
    inside = os.path.abspath(os.path.dirname(path)) == os.path.abspath(kept)
    return path, inside and best.info(kept) is not None


def _names(params: config.Experiment) -> dict[int, str]:
    path = params.task.annotation_file
    if not path or not os.path.isfile(path):
        return {}
    return draw.names(evaluate.load_annotations(path))
