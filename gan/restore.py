"""Reads a trained generator from a run's folder."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from evonorm_tf import files
from gan import experiment, networks
from training import checkpoints, config, overrides, runs, saved, strategy

_DEVICES = ("distribution_strategy", "tpu", "num_gpus", "cpu_replicas")


@dataclasses.dataclass(frozen=True)
class Restored(saved.Restored):
    """A run's averaged generator; settle it before use.

    Attributes:
      strategy: in whose scope it was built.
    """

    strategy: tf.distribute.Strategy

    @property
    def generator(self) -> networks.Generator:
        """Returns the model."""
        return self.model

    @property
    def averaged(self) -> bool:
        """Returns True: the trainer averages weights, not an optimizer."""
        return True


def restore(
    checkpoint: str, params_override: str | Sequence[str] | None = None
) -> Restored:
    """Reads the averaged generator of a run, on the devices of this machine.

    Args:
      checkpoint: a run's folder, for its last checkpoint, or the prefix of
        one, such as runs/debug/gan-digits/ckpt-300.
      params_override: overrides of the run's config, except of its model.

    Raises:
      ValueError: if there is no checkpoint or config, or another model.
    """
    path = files.normalize(checkpoint).removesuffix(".index")
    if files.is_folder(path):
        path = runs.Run(path).checkpoint() or ""
    if not files.exists(f"{path}.index"):
        raise ValueError(
            "There is no checkpoint. Pass a run's folder or the prefix of "
            f"a checkpoint in it. Received: checkpoint={checkpoint!r}"
        )
    run = runs.Run(files.parent(path))
    before = saved.parameters(run.folder, experiment.Task())
    params = config.parse("biggan", [run.path(runs.CONFIG_FILE)])
    for key in _DEVICES:  # Where the run was trained does not matter here.
        setattr(params.runtime, key, getattr(strategy.Runtime(), key))
    config.override(params, overrides.parse(params_override))
    if params.task.model.as_dict() != before.task.model.as_dict():
        raise ValueError(
            "task.model belongs to the checkpoint and cannot be overridden. "
            f"Received: params_override={params_override!r}"
        )
    devices = strategy.build(params.runtime)
    # In the precision of the run, like its samples.
    strategy.set_precision(params.runtime)
    with devices.scope():
        generator = networks.build_generator(params.task.model)
    reader = tf.train.Checkpoint(average=generator)
    checkpoints.restore(reader, path, {"average": generator})
    step = checkpoints.saved_step(path)
    found = run.metrics_at(step)
    return Restored(generator, params, run, path, step, found, devices)
