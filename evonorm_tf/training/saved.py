"""What the heads read of a run that is there: averages, metrics."""

import tensorflow as tf
import tf_keras
from official.core import base_task, train_utils
from official.modeling import optimization

from evonorm_tf.training import config, progress


def read_average(
    built: base_task.Task,
    params: config.Experiment,
    model: tf_keras.Model,
    path: str,
) -> None:
    """Reads a checkpoint's weight averages into the model.

    Args:
      built: the run's task, which makes the optimizer.
      params: the run's config, with `trainer.optimizer_config.ema`.
      model: the run's, built.
      path: of the checkpoint.
    """
    optimizer = train_utils.create_optimizer(built, params)
    if not isinstance(optimizer, optimization.ExponentialMovingAverage):
        raise TypeError(
            "The config asks for a weight average and the optimizer makes "
            f"none. Received: {type(optimizer).__name__}"
        )
    optimizer.shadow_copy(model)
    read = tf.train.Checkpoint(model=model, optimizer=optimizer).read(path)
    read.assert_nontrivial_match().expect_partial()
    optimizer.swap_weights()


def metrics(model_dir: str, step: int) -> dict[str, float]:
    """The metrics of the last evaluation at this step, {} for none."""
    lines = [
        line
        for line in progress.read(model_dir)
        if line["kind"] == "eval" and line["step"] == step
    ]
    return {k: v for k, v in lines[-1].items() if k != "kind"} if lines else {}
