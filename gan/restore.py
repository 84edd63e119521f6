"""A trained generator, read back from a run's directory."""

import dataclasses
import os

import tensorflow as tf
import tf_keras
from official.modeling import performance

from gan import experiment, networks
from training import config, record, strategy


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
    # Parsed too: a record may be older than a setting.
    before = config.parse("biggan", [recorded])
    if params.task.model.as_dict() != before.task.model.as_dict():
        raise ValueError(
            "task.model is the checkpoint's own and cannot be overridden. "
            f"Received: params_override={params_override!r}"
        )
    devices = strategy.build(params.runtime)
    # As in the run: what it made in 16 bits is made so again.
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
    with devices.scope():
        generator = networks.build_generator(params.task.model)
        step = tf.Variable(0, dtype=tf.int64)
    reader = tf.train.Checkpoint(average=generator, global_step=step)
    read(reader, {"average": generator}, path, params.task.model)
    return Restored(params, generator, devices, int(step.numpy()), model_dir)


def read(
    reader: tf.train.Checkpoint,
    parts: dict[str, tf_keras.Model],
    path: str,
    model: experiment.Model,
) -> None:
    """Reads a checkpoint, if its networks are those that are to be read.

    Args:
      reader: what is read.
      parts: its networks, by name.
      path: of the checkpoint.
      model: the networks' config.

    Raises:
      ValueError: weights of other shapes, or too few or too many of them.
    """
    reason = ""
    try:
        status = reader.restore(path).expect_partial()
        status.assert_existing_objects_matched()
    # What TensorFlow raises on other shapes and on missing weights.
    except (AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    saved = [name for name, _ in tf.train.list_variables(path)]
    for name, network in parts.items():
        # A layer of fewer weights would find all of its own.
        there = sum(key.startswith(f"{name}/") for key in saved)
        if not reason and there != len(network.weights):
            reason = (
                f"its {name} has {there} weights, not {len(network.weights)}."
            )
    if reason:
        raise ValueError(
            "The checkpoint holds another network than the config says, "
            f"{model.architecture} with {model.norm_act.name}: {reason} Put "
            "back the params.yaml it was trained with. "
            f"Received: checkpoint={path!r}"
        )
