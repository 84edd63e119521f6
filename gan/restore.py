"""A trained generator, read back from a run's directory."""

import dataclasses
import os

import tensorflow as tf
import yaml

from evonorm_tf.training import config, record, strategy
from gan import (
    experiment,  # noqa: F401  Registers the experiments.
    networks,
)


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
      params: the run's config, with the overrides asked for.
      generator: the averaged one; settle it before use.
      strategy: whose scope it was built in.
      step: global step.
      model_dir: the run's directory.
    """

    params: config.Experiment
    generator: networks.Generator
    strategy: tf.distribute.Strategy
    step: int
    model_dir: str


def restore(checkpoint: str, params_override: str | None = None) -> Restored:
    """Reads the averaged generator of a run.

    Args:
      checkpoint: a run's directory, for its last checkpoint, or the prefix
        of one, such as runs/gan-digits/ckpt-300.
      params_override: laid over the run's config; not over its model.

    Raises:
      ValueError: no checkpoint, no config beside it, or another model.
    """
    path = checkpoint
    if os.path.isdir(checkpoint):
        path = tf.train.latest_checkpoint(checkpoint) or ""
    if not os.path.exists(path + ".index"):
        raise ValueError(
            "There is no checkpoint. Give a run's directory or the prefix of "
            f"a checkpoint in it. Received: checkpoint={checkpoint!r}"
        )
    model_dir = os.path.dirname(path)
    recorded = os.path.join(model_dir, record.CONFIG_FILE)
    if not os.path.exists(recorded):
        raise ValueError(
            f"There is no {record.CONFIG_FILE} beside the checkpoint to say "
            f"what network it is. Received: checkpoint={checkpoint!r}"
        )
    params = config.parse("biggan", [recorded], None, params_override)
    with open(recorded, encoding="utf-8") as file:
        before = yaml.safe_load(file)["task"]["model"]
    if params.task.model.as_dict() != before:
        raise ValueError(
            "task.model is the checkpoint's own and cannot be overridden. "
            f"Received: params_override={params_override!r}"
        )
    devices = strategy.build(params.runtime)
    with devices.scope():
        generator = networks.build_generator(params.task.model)
        step = tf.Variable(0, dtype=tf.int64)
    reader = tf.train.Checkpoint(average=generator, global_step=step)
    try:
        status = reader.restore(path).expect_partial()
        status.assert_existing_objects_matched()
    # What TensorFlow raises on other shapes and on missing weights.
    except (AssertionError, ValueError) as error:
        model = params.task.model
        raise ValueError(
            "The checkpoint holds another network than the config beside it "
            f"says, {model.architecture} with {model.norm_act.name}: "
            f"{str(error).strip().splitlines()[0]} Put back the params.yaml "
            f"it was trained with. Received: checkpoint={checkpoint!r}"
        ) from error
    return Restored(params, generator, devices, int(step.numpy()), model_dir)
