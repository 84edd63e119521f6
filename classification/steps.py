"""A classifier's training step as a function of tensors, for --preflight.

`preflight_module` is the training step without its data, which do not affect
whether it compiles and fits and what it costs.
"""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from classification import experiment, task
from evonorm_tf import nets, preflight
from training import accumulation, config, garden, preflights, schedule

_EXAMPLES = 1_281_167  # The schedule's constants do not affect the cost.


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int
) -> preflight.Module:
    """Returns the training step of one chip.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for the network without norm_act layers.
      batch: examples per step on the chip.
    """
    params = preflights.with_layer(params, layer)
    one = params.task
    experiment.fill_in(one)
    # The data only determine the size of the step's images.
    side = one.train_data.image_size or nets.get(one.model.network).image_size
    data, test = one.train_data, one.validation_data
    for part, split in ((data, "train"), (test, "test")):
        part.dataset, part.split, part.path = "jpeg_digits", split, ""
        part.tfds_data_dir, part.label_offset, part.examples = "", 0, 0
        part.image_size = side
    step, _ = train_step(params, task.Task(one), _EXAMPLES)
    specs = [
        tf.TensorSpec([batch, side, side, 3], tf.float32),
        tf.TensorSpec([batch], tf.int32),
    ]
    if data.mixup_alpha or data.cutmix_alpha:
        specs.append(tf.TensorSpec([batch, one.model.num_classes], tf.float32))
    module, _ = preflight.lower(step, *specs)
    return module


def train_step(
    params: config.Experiment, made: task.Task, examples: int
) -> tuple[Callable[..., tf.Tensor], tf_keras.Model]:
    """Returns the training step of the trainer on one device.

    Args:
      params: the resolved experiment, with its schedule.
      made: its task.
      examples: size of the training set, for the schedule.

    Returns:
      f(images, labels, [mixed labels]) -> loss, and the model it trains.

    Raises:
      ValueError: if the micro-batches do not divide the batch.
    """
    batch = params.task.train_data.global_batch_size
    schedule.resolve(params.trainer, params.task.schedule, examples, batch)
    model, optimizer = garden.built(params, made)
    parts = params.runtime.accumulation_steps

    def step(images, labels, *targets):
        if images.shape[0] % parts:
            raise ValueError(
                "The batch per chip must be divisible by the micro-batches. "
                f"Received: batch={images.shape[0]}, "
                f"accumulation_steps={parts}"
            )
        given = {"label": labels, "weight": tf.ones(labels.shape)}
        given |= dict(zip(["target"], targets))
        inputs = (images, given)
        if parts == 1:
            return made.train_step(inputs, model, optimizer)[made.loss]
        logs = accumulation.step(made, inputs, model, optimizer, None, parts)
        return logs[made.loss]

    return step, model
