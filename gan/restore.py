"""A trained generator, read back from a run's folder."""

import dataclasses

import tensorflow as tf
from official.modeling import performance

from evonorm_tf import files
from gan import experiment, networks
from training import checkpoints, config, runs, saved, strategy


@dataclasses.dataclass(frozen=True)
class Restored(saved.Restored):
    """A run's averaged generator; settle it before use.

    Attributes:
      strategy: whose scope it was built in.
    """

    strategy: tf.distribute.Strategy

    @property
    def generator(self) -> networks.Generator:
        """The model."""
        return self.model

    @property
    def averaged(self) -> bool:
        """The trainer averages its weights, not an optimizer."""
        return True


def restore(checkpoint: str, params_override: str | None = None) -> Restored:
    """Reads the averaged generator of a run.

    Args:
      checkpoint: a run's folder, for its last checkpoint, or the prefix of
        one, such as runs/gan-digits/ckpt-300.
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
    before = saved.parameters(run.folder, experiment.Task())
    params = config.parse(
        "biggan", [run.path(runs.CONFIG_FILE)], None, params_override
    )
    if params.task.model.as_dict() != before.task.model.as_dict():
        raise ValueError(
            "task.model is the checkpoint's own and cannot be overridden. "
            f"Received: params_override={params_override!r}"
        )
    devices = strategy.build(params.runtime)
    # In the precision of the run, as its samples were.
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
    with devices.scope():
        generator = networks.build_generator(params.task.model)
    reader = tf.train.Checkpoint(average=generator)
    checkpoints.restore(reader, path, {"average": generator})
    step = checkpoints.saved_step(path)
    found = run.metrics_at(step)
    return Restored(generator, params, run, path, step, found, devices)
