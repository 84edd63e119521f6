"""The training step of a tf_keras model, for `lower`."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def keras_step(model: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns one step of `model.fit` as a function of a batch.

    Args:
      model: a compiled and built tf_keras model.

    Returns:
      f(inputs, targets) -> the loss of `compile`, with its loss weights; it
      changes the model's weights. Metrics, but those of the loss, are not
      included. The model is not compiled again.

    Raises:
      TypeError: if it is not a tf_keras model (Keras 3 has its own training
        loop).
      ValueError: if the model is not built or not compiled.
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
    # Slots created inside the traced step would be new in each call.
    model.optimizer.build(model.trainable_variables)

    def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(inputs, targets, outputs)
        model.optimizer.minimize(loss, model.trainable_variables, tape=tape)
        return loss

    return step
