"""A trained generator, read back from a run's directory."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.modeling import performance

from evonorm_tf import files
from gan import experiment, networks
from training import config, runs, strategy


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
      params: the run's config, with the overrides asked for.
      generator: the averaged one; settle it before use.
      strategy: whose scope it was built in.
      step: global step.
      run: where it is from.
    """

    params: config.Experiment
    generator: networks.Generator
    strategy: tf.distribute.Strategy
    step: int
    run: runs.Run


def restore(checkpoint: str, params_override: str | None = None) -> Restored:
    """Reads the averaged generator of a run.

    Args:
      checkpoint: a run's directory, for its last checkpoint, or the prefix
        of one, such as runs/gan-digits/ckpt-300.
      params_override: laid over the run's config; not over its model.

    Raises:
      ValueError: no checkpoint, no config beside it, or another model.
    """
    path = files.normalize(checkpoint).removesuffix(".index")
    if files.is_folder(path):
        path = runs.Run(path).checkpoint() or ""
    if not files.exists(f"{path}.index"):
        raise ValueError(
            "There is no checkpoint. Give a run's directory or the prefix of "
            f"a checkpoint in it. Received: checkpoint={checkpoint!r}"
        )
    run = runs.Run(files.parent(path))
    recorded = run.path(runs.CONFIG_FILE)
    if not run.has(runs.CONFIG_FILE):
        raise ValueError(
            f"There is no {runs.CONFIG_FILE} beside the checkpoint to say "
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
    return Restored(params, generator, devices, int(step.numpy()), run)


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
    reason, plain = "", runs.readable(path)
    try:
        status = reader.restore(plain).expect_partial()
        status.assert_existing_objects_matched()
    # What TensorFlow raises on other shapes and on missing weights.
    except (AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    saved = [name for name, _ in tf.train.list_variables(plain)]
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
