"""A detector's training step as a function of tensors, for --preflight.

This is the training step without its data, which do not affect whether it
compiles and fits and what it costs. Evaluation is not included.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from detection import parser, settings, task
from evonorm_tf import preflight
from training import config, garden, preflights


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int
) -> preflight.Module:
    """Returns the training step of one chip.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for the network without norm_act layers.
      batch: images per step on the chip.
    """
    params = preflights.with_layer(params, layer)
    step, _ = train_step(params, task.Task(params.task))
    inputs = tf.nest.flatten(specs(params.task, batch))
    module, _ = preflight.lower(step, *inputs)
    return module


def parse_function(params: settings.Task) -> Any:
    """Returns the traced function of a decoded training example."""
    decoded = {
        "image": tf.TensorSpec([None, None, 3], tf.uint8),
        "groundtruth_boxes": tf.TensorSpec([None, 4], tf.float32),
        "groundtruth_classes": tf.TensorSpec([None], tf.int64),
        "groundtruth_is_crowd": tf.TensorSpec([None], tf.bool),
        "groundtruth_instance_masks": tf.TensorSpec([None] * 3, tf.float32),
        "seed": tf.TensorSpec([2], tf.int64),
    }
    parse = parser.build(params.model, params.train_data).parse_fn(True)
    # Nor does AutoGraph convert it in the pipeline: see `images.batches`.
    traced = tf.function(parse, autograph=False)
    return traced.get_concrete_function(decoded)


def specs(params: settings.Task, batch: int) -> tuple[tf.TensorSpec, dict]:
    """Returns the specs of a training batch, images and labels."""
    size = [*params.model.input_size[:2], 3]
    _, labels = parse_function(params).structured_outputs
    return (
        tf.TensorSpec([batch, *size], params.train_data.dtype),
        tf.nest.map_structure(
            lambda one: tf.TensorSpec([batch, *one.shape], one.dtype), labels
        ),
    )


def train_step(
    params: config.Experiment, made: task.Task
) -> tuple[Callable[..., tf.Tensor], tf_keras.Model]:
    """Returns the training step of the trainer on one device.

    Args:
      params: the resolved experiment.
      made: its task.

    Returns:
      f(images, *labels) -> loss, the labels in the order of `tf.nest.flatten`;
      and the model it trains.

    Raises:
      ValueError: for micro-batches, whose statistics a preflight lacks.
    """
    if params.runtime.accumulation_steps != 1:
        raise ValueError(
            "A preflight needs one whole batch. Received: "
            f"accumulation_steps={params.runtime.accumulation_steps}"
        )
    model, optimizer = garden.built(params, made)
    structure = specs(params.task, 1)

    def step(*flat):
        inputs = tf.nest.pack_sequence_as(structure, flat)
        return made.train_step(inputs, model, optimizer)[made.loss]

    return step, model
