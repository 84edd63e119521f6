"""A classifier's training step as a function of tensors, for --preflight.

`preflight_module` is the training step without its data, which do not affect
whether it compiles and fits and what it costs.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from classification import experiment, settings, task
from evonorm_tf import nets, preflight
from training import accumulation, config, garden, schedule

_EXAMPLES = 1_281_167  # The schedule's constants do not affect the cost.


class _Task(task.Task):
    """The task, with an option to omit the norm_act layers."""

    def __init__(self, params: settings.Task, bare: bool = False):
        super().__init__(params)
        self._bare = bare

    def norm_act(self) -> Any:
        """Returns the task's layer, or a layer that does nothing."""
        if self._bare:
            return lambda **_: tf_keras.layers.Activation("linear")
        return super().norm_act()


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int
) -> preflight.Module:
    """Returns the training step of one chip.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for the network without norm_act layers.
      batch: examples per step on the chip.
    """
    params = params.replace()  # A copy.
    one = params.task
    one.model.norm_act.name = layer or one.model.norm_act.name
    experiment.fill_in(one)
    # The data only determine the size of the step's images.
    side = one.train_data.image_size or nets.get(one.model.network).image_size
    for data, split in (
        (one.train_data, "train"),
        (one.validation_data, "test"),
    ):
        data.dataset, data.split, data.path = "jpeg_digits", split, ""
        data.image_size = side
    made = _Task(one, bare=layer is None)
    # The order in a module depends on the layers' names, so these are reset:
    # equal programs must have equal texts, whatever was built before.
    tf_keras.backend.reset_uids()
    step, _ = train_step(params, made, _EXAMPLES)
    images = tf.TensorSpec([batch, side, side, 3], tf.float32)
    labels = tf.TensorSpec([batch], tf.int32)
    data = one.train_data
    if not (data.mixup_alpha or data.cutmix_alpha):
        module, _ = preflight.lower(step, images, labels)
        return module
    target = tf.TensorSpec([batch, one.model.num_classes], tf.float32)
    module, _ = preflight.lower(step, images, labels, target)
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
