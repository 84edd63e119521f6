"""What the heads read of a run that is there: config, weights, metrics."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.core import base_task, config_definitions, train_utils
from official.modeling import optimization

from evonorm_tf import files
from training import config, driver, runs, strategy

CHECKPOINTS = ("latest", "best")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One of a run's checkpoints; no weights are read yet.

    Attributes:
      path: its prefix.
      step: the global step it was saved at.
      swapped: whether a weight average, if the run has one, is in the place
        of the model's weights already.
      metrics: of an evaluation at this step; {} where there was none.
    """

    path: str
    step: int
    swapped: bool
    metrics: dict[str, float]


def parameters(
    model_dir: str, task: config_definitions.TaskConfig
) -> config.Experiment:
    """A run's config, from its directory.

    Args:
      model_dir: the run's directory.
      task: the head's task config, with its class's defaults: what an older
        config lacks has those, not an experiment's.

    Raises:
      ValueError: no run.
    """
    recorded = runs.Run(model_dir).require_config()
    params = config.Experiment(
        task=task,
        trainer=driver.trainer_config(),
        runtime=strategy.Runtime(),
    )
    config.override(params, recorded)
    return params


def directory(model_dir: str | None, checkpoint: str) -> str:
    """The run's directory: the nearest above the checkpoint.

    Args:
      model_dir: where it is known; None or "" finds it.
      checkpoint: the path of one, where it is not.

    Raises:
      ValueError: neither says it.
    """
    if model_dir:
        return model_dir
    if checkpoint not in CHECKPOINTS:
        folder = files.parent(files.absolute(checkpoint))
        for found in (folder, files.parent(folder)):
            if runs.Run(found).has(runs.CONFIG_FILE):
                return found
    raise ValueError(
        "Give model_dir, or the path of a checkpoint in a run's directory. "
        f"Received: model_dir={model_dir!r}, checkpoint={checkpoint!r}"
    )


def find(
    params: config.Experiment, model_dir: str, checkpoint: str
) -> Checkpoint:
    """One of a run's checkpoints.

    Args:
      params: the run's config.
      model_dir: the run's directory.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: no such checkpoint.
    """
    run = runs.Run(model_dir)
    best = params.trainer.best_checkpoint_export_subdir or "best"
    folders = {"latest": "", "best": best}
    if checkpoint in folders:
        path = run.checkpoint(folders[checkpoint])
    else:
        path = files.normalize(checkpoint).removesuffix(".index")
        path = path if files.exists(f"{path}.index") else None
    if path is None:
        raise ValueError(
            "There is no such checkpoint; train first, with "
            "trainer.best_checkpoint_* set for the best. Received: "
            f"model_dir={model_dir!r}, checkpoint={checkpoint!r}"
        )
    step = runs.saved_step(path)
    # The best is saved while the model holds what was evaluated.
    folder = files.absolute(files.parent(path))
    swapped = folder == files.absolute(run.path(best))
    found = run.best(best) or {} if swapped else run.metrics_at(step)
    return Checkpoint(path, step, swapped, found)


def read(
    built: base_task.Task, params: config.Experiment, found: Checkpoint
) -> tf_keras.Model:
    """The run's model, with the weights that an evaluation would use.

    Args:
      built: the run's task, which makes model and optimizer.
      params: the run's config.
      found: whose weights to read.
    """
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = built.build_model()
        if params.trainer.optimizer_config.ema is None or found.swapped:
            status = tf.train.Checkpoint(model=model).read(
                runs.readable(found.path)
            )
            status.assert_existing_objects_matched().expect_partial()
        else:
            _read_average(built, params, model, found.path)
    return model


def _read_average(
    built: base_task.Task,
    params: config.Experiment,
    model: tf_keras.Model,
    path: str,
) -> None:
    """Reads a checkpoint's weight averages into the model."""
    optimizer = train_utils.create_optimizer(built, params)
    if not isinstance(optimizer, optimization.ExponentialMovingAverage):
        raise TypeError(
            "The config asks for a weight average and the optimizer makes "
            f"none. Received: {type(optimizer).__name__}"
        )
    optimizer.shadow_copy(model)
    reader = tf.train.Checkpoint(model=model, optimizer=optimizer)
    status = reader.read(runs.readable(path))
    status.assert_nontrivial_match().expect_partial()
    optimizer.swap_weights()
