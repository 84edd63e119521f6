"""The steps of both networks as functions of tensors, for --preflight.

These are the training steps without data, which do not affect whether they
compile and fit and what they cost.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from evonorm_tf import preflight
from evonorm_tf.ops.custom_gradient import custom_gradient
from gan import architectures, latent, trainer
from training import config, preflights

STEPS = ("discriminator", "generator")


class _Nothing(tf_keras.layers.Layer):
    """Replaces a norm-act layer, to measure the cost of everything else."""

    def call(
        self, x: tf.Tensor, *affine: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns its input, [N, H, W, C]."""
        del training  # For the same signature as all layers here.
        return _without(x, *affine)


@custom_gradient
def _without(x: tf.Tensor, *affine: tf.Tensor):
    # Zeros for the layer's inputs, so that the optimizer works unchanged.
    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (dy, *map(tf.zeros_like, affine))

    return tf.identity(x), gradient


class _Bare(config.NormAct):
    """Replaces every norm_act layer by `_Nothing`."""

    def bind(self, layers: Any) -> Callable[..., _Nothing]:
        """Returns a function that creates layers that do nothing."""
        del layers
        return lambda **_: _Nothing()


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int, which: str
) -> preflight.Module:
    """Returns a step of one chip.

    Args:
      params: the experiment.
      layer: catalog name; None for a generator without norm_act layers.
      batch: images per step on the chip.
      which: one of `STEPS`. The generator's includes updating the average.

    Raises:
      ValueError: if the micro-batches do not divide the batch.
    """
    params = preflights.with_layer(params, layer, _Bare)
    task = params.task
    trainer.check(params, batch)
    with preflights.precision(params):
        tf_keras.utils.set_random_seed(task.seed)
        made = trainer.Trainer(params, tf.distribute.get_strategy(), [])
    side = architectures.get(task.model.architecture).resolution
    parts = task.accumulation

    def keys() -> list[tf.Tensor]:
        return [
            latent.key(task.seed, made.global_step, 0, k) for k in range(parts)
        ]

    def discriminate(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        pieces = zip(tf.split(images, parts), tf.split(labels, parts))
        return made.discriminator_step(list(pieces), keys())

    def generate() -> tf.Tensor:
        loss = made.generator_step(batch // parts, keys())
        made.average_step()
        return loss

    if which == "generator":
        return preflight.lower(generate)[0]
    images = tf.TensorSpec([batch, side, side, 3], tf.float32)
    labels = tf.TensorSpec([batch], tf.int32)
    return preflight.lower(discriminate, images, labels)[0]


def report(
    params: config.Experiment, topology: str, json_file: str | None = None
) -> None:
    """Prints the TPU compiler's figures of both steps.

    Args:
      params: the experiment; its batch is divided among the chips.
      topology: such as "v5e:2x2".
      json_file: also write the report to this file.

    Raises:
      ValueError: if the topology is unknown or the chips do not divide the
        batch.
    """
    found: dict[str, Any] = {}
    for which in STEPS:
        print(f"step of the {which}", flush=True)
        module = functools.partial(preflight_module, which=which)
        # The memory of one step does not include the other network's.
        found[which] = preflights.run(params, module, topology, largest=False)
    preflights.write(found, json_file)
