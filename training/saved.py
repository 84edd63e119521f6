"""The model of a finished or unfinished run: read from its folder, exported.

A head writes its formats to a temporary folder and compares them with the model
there. A difference raises an error, and the output folder is not changed.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from absl import flags
from official.core import base_task, config_definitions, train_utils
from official.modeling import optimization

from evonorm_tf import files
from training import checkpoints, config, driver, runs

CHECKPOINTS = ("latest", "best")
ABOUT = "export.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One of a run's checkpoints; no weights are read yet.

    Attributes:
      path: its prefix.
      step: the global step at which it was saved.
      swapped: whether the model's weights are already those of a weight
        average, if the run has one.
      metrics: of an evaluation at this step; {} if there was none.
    """

    path: str
    step: int
    swapped: bool
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's model.

    Attributes:
      model: the network, with the weights that an evaluation uses.
      params: the run's config.
      run: the run's folder.
      path: of the checkpoint.
      step: of the checkpoint.
      metrics: of an evaluation at this step; {} if there was none.
    """

    model: tf_keras.Model
    params: config.Experiment
    run: runs.Run
    path: str
    step: int
    metrics: dict[str, float]

    @property
    def averaged(self) -> bool:
        """Returns whether the weights are averages over training."""
        return self.params.trainer.optimizer_config.ema is not None


def restore(
    task: config_definitions.TaskConfig,
    build: Callable[[config.Experiment, runs.Run], base_task.Task],
    model_dir: str | None,
    checkpoint: str = "latest",
) -> Restored:
    """Reads a run's model; no data are opened.

    Args:
      task: the head's task config, with its class's defaults.
      build: creates the head's task from a run's config and folder; the task
        builds the model without data.
      model_dir: the run's folder; None to find it from the checkpoint.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: if there is no run or checkpoint, or it has another model.
    """
    run = runs.Run(directory(model_dir, checkpoint))
    params = parameters(run.folder, task)
    found = find(params, run.folder, checkpoint)
    model = _read(build(params, run), params, found)
    return Restored(model, params, run, found.path, found.step, found.metrics)


def parameters(
    model_dir: str, task: config_definitions.TaskConfig
) -> config.Experiment:
    """Returns a run's config, from its folder.

    Args:
      model_dir: the run's folder.
      task: the head's task config. Settings that an older config lacks get the
        defaults of its class, not those of an experiment.

    Raises:
      ValueError: if there is no run.
    """
    recorded = runs.Run(model_dir).require_config()
    params = driver.experiment(task)
    config.override(params, recorded)
    return params


def directory(model_dir: str | None, checkpoint: str) -> str:
    """Returns the run's folder: the nearest one above the checkpoint.

    Args:
      model_dir: the folder, if it is known; None or "" to find it.
      checkpoint: otherwise, the path of a checkpoint.

    Raises:
      ValueError: if it cannot be found.
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
    """Returns one of a run's checkpoints.

    Args:
      params: the run's config.
      model_dir: the run's folder.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: if there is no such checkpoint.
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
    step = checkpoints.saved_step(path)
    # The best is saved while the model has the weights that were evaluated.
    folder = files.absolute(files.parent(path))
    swapped = folder == files.absolute(run.path(best))
    found = run.best(best) or {} if swapped else run.metrics_at(step)
    return Checkpoint(path, step, swapped, found)


def _read(
    task: base_task.Task, params: config.Experiment, found: Checkpoint
) -> tf_keras.Model:
    """Returns the run's model with the weights that an evaluation uses."""
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = task.build_model()
        if params.trainer.optimizer_config.ema is None or found.swapped:
            reader = tf.train.Checkpoint(model=model)
            checkpoints.restore(reader, found.path, {"model": model})
            return model
        optimizer = train_utils.create_optimizer(task, params)
        if not isinstance(optimizer, optimization.ExponentialMovingAverage):
            raise TypeError(
                "The config has a weight average, but the optimizer has none. "
                f"Received: {type(optimizer).__name__}"
            )
        optimizer.shadow_copy(model)
        reader = tf.train.Checkpoint(model=model, optimizer=optimizer)
        checkpoints.restore(reader, found.path, {"model": model})
        optimizer.swap_weights()
    return model


@contextlib.contextmanager
def staging(
    run: Restored, output_dir: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Provides a temporary folder to export to, and metadata to fill in.

    If there is no error, its files replace those of the same names in
    `output_dir`, with `export.json` last. That file has the origin of the
    weights, their metrics, the run's config and facts, and what was added.

    Args:
      run: the run whose model is exported.
      output_dir: destination; created if needed.

    Yields:
      The folder, and a dictionary that is added to `export.json`.
    """
    about = {
        "checkpoint": run.path,
        "step": run.step,
        "weights": "averaged" if run.averaged else "as trained",
        "metrics": run.metrics,
    }
    with files.staging(output_dir, last=ABOUT) as folder:
        yield folder, about
        about |= {"run": run.run.facts(), "config": run.params.as_dict()}
        text = json.dumps(about, indent=2) + "\n"
        files.write(files.join(folder, ABOUT), text)


def define_flags() -> None:
    """Defines --model_dir, --output_dir and --checkpoint."""
    flags.DEFINE_string("model_dir", None, "Folder of the run.")
    flags.DEFINE_string("output_dir", None, "Folder for the exported files.")
    flags.DEFINE_string("checkpoint", "latest", "latest, best or a path.")
    flags.mark_flag_as_required("output_dir")
