"""The train step of a user's own model, for `lower`."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def keras_step(model: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """One step of `model.fit` as a function of a batch.

    Args:
      model: a tf_keras model after `compile`, with its weights built.

    Returns:
      f(inputs, targets) -> the loss; it changes the model's weights.

    Raises:
      TypeError: no tf_keras model (Keras 3 keeps its own train loop).
      ValueError: it has no weights yet, or was not compiled.
    """
    if not hasattr(model, "compiled_loss") or not hasattr(model, "optimizer"):
        raise TypeError(
            "Expected a tf_keras model. A Keras 3 model can be rebuilt with "
            "`tf_keras` and `evonorm_tf.legacy`. "
            f"Received: model={type(model).__name__}"
        )
    if not model.built or model.optimizer is None:
        raise ValueError(
            "Build the model (call it once) and compile it first. Received: "
            f"built={model.built}, optimizer={model.optimizer}"
        )
    # Slots made inside the traced step would be its own, new each time.
    model.optimizer.build(model.trainable_variables)
    # Metrics are no part of what the step costs, and theirs are made late.
    model.compile(optimizer=model.optimizer, loss=model.loss)

    def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(inputs, targets, outputs)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return loss

    return step
