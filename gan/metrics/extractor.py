"""Features and logits of images."""

import hashlib
import os
from typing import Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from gan import data

Array = np.ndarray


class Extractor(Protocol):
    """What a distance and a score are measured through.

    Attributes:
      prefix: what their names begin with.
      about: name, hash and resize: without them a number means nothing.
      classes: of the logits.
      size: of the features.
    """

    prefix: str
    about: str
    classes: int
    size: int

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """Features [n, d] and logits [n, K] of images [n, S, S, 3], uint8."""


class KerasClassifier:
    """Any tf_keras classifier of images in [-1, 1] that ends in a Dense layer.

    The features are what enters that layer. Distances through it are never
    called FID: they compare with nothing but each other.
    """

    prefix = "classifier"

    def __init__(self, model: tf_keras.Model, name: str):
        """Cuts the model at its last layer.

        Args:
          model: functional or sequential, built.
          name: for reports.

        Raises:
          ValueError: it does not end in a Dense layer.
        """
        last = model.layers[-1]
        if not isinstance(last, tf_keras.layers.Dense):
            raise ValueError(
                "A classifier must end in a Dense layer, whose input are the "
                f"features. Received: {name} ends in {type(last).__name__}"
            )
        self._trunk = tf_keras.Model(model.inputs, last.input)
        self._last = last
        self._side = model.input_shape[1]
        self.classes, self.size = last.units, last.input.shape[-1]
        self.about = f"{name} (sha256 {digest(model)[:12]}), no resize"
        self._run = tf.function(self._compute, reduce_retracing=True)

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """As `Extractor.__call__`.

        Raises:
          ValueError: images of another size than the classifier's.
        """
        if pixels.shape[1] != self._side:
            raise ValueError(
                f"The classifier reads images of {self._side} px. "
                f"Received: shape={list(pixels.shape)}"
            )
        features, logits = self._run(pixels)
        return features.numpy(), logits.numpy()

    def _compute(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self._trunk(data.to_float(pixels), training=False)
        # Whatever the layer's own activation: a softmax is no logit.
        return features, features @ self._last.kernel + self._last.bias


def load(path: str) -> KerasClassifier:
    """Reads a classifier that tf_keras saved.

    Raises:
      ValueError: there is none.
    """
    if not os.path.exists(path):
        raise ValueError(
            "There is no classifier; give a model that tf_keras saved, or an "
            "empty path to train a small one. Received: "
            f"task.evaluation.classifier={path!r}"
        )
    model = tf_keras.models.load_model(path, compile=False)
    return KerasClassifier(model, os.path.basename(path))


def digest(model: tf_keras.Model) -> str:
    """SHA-256 of a model's weights, in order, with their shapes."""
    result = hashlib.sha256()
    for weight in model.get_weights():
        result.update(f"{weight.dtype}{weight.shape}".encode())
        result.update(np.ascontiguousarray(weight).tobytes())
    return result.hexdigest()
