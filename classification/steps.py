"""A classifier's training step as a function of tensors; --preflight.

`preflight_module` is the step as it trains, without its data: what compiles,
fits and costs does not depend on them.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import optimization

from classification import experiment, settings, task
from evonorm_tf import nets, preflight
from training import accumulation, config, preflights, schedule

_EXAMPLES = 1_281_167  # The schedule's constants are no part of the cost.


class _Task(task.Task):
    """The task, where the network can do without its norm_act layers."""

    def __init__(self, params: settings.Task, bare: bool = False):
        super().__init__(params)
        self._bare = bare

    def norm_act(self) -> Any:
        """As the task's, or a layer that does nothing."""
        if self._bare:
            return lambda **_: tf_keras.layers.Activation("linear")
        return super().norm_act()


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int
) -> preflight.Module:
    """The training step of one chip.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for the network without its norm_act layers.
      batch: examples a step on the chip.
    """
    params = params.replace()  # A copy.
    one = params.task
    one.model.norm_act.name = layer or one.model.norm_act.name
    experiment.fill_in(one)
    # The data give the step its images' size and nothing else.
    side = one.train_data.image_size or nets.get(one.model.network).image_size
    for data, split in (
        (one.train_data, "train"),
        (one.validation_data, "test"),
    ):
        data.dataset, data.split, data.path = "jpeg_digits", split, ""
        data.image_size = side
    made = _Task(one, bare=layer is None)
    # The order of a module's text goes by the layers' names: equal programs
    # are to be equal texts, whatever was built before.
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
    """The step as the trainer takes it on one device.

    Args:
      params: the resolved experiment; its schedule is filled in.
      made: its task.
      examples: size of the training set, for the schedule.

    Returns:
      f(images, labels, [mixed labels]) -> loss, and the model it trains.

    Raises:
      ValueError: a batch that the micro-batches cannot share.
    """
    batch = params.task.train_data.global_batch_size
    schedule.resolve(params.trainer, params.task.schedule, examples, batch)
    with preflights.precision(params):
        tf_keras.utils.set_random_seed(made.seed)
        model = made.build_model()
        optimizer = made.create_optimizer(
            params.trainer.optimizer_config, params.runtime
        )
    if isinstance(optimizer, optimization.ExponentialMovingAverage):
        optimizer.shadow_copy(model)  # As the trainer does.
    create = getattr(optimizer, "_create_all_weights", None)
    (create or optimizer.build)(model.trainable_variables)
    parts = params.runtime.accumulation_steps

    def step(images, labels, *targets):
        if images.shape[0] % parts:
            raise ValueError(
                "The batch of a chip must divide into the micro-batches. "
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
