"""Features and logits of images."""

import dataclasses
import hashlib
from typing import Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from evonorm_tf import files
from gan import datasets

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of the metrics computed with an extractor."""

    distance: str
    score: str
    kernel: str


class Extractor(Protocol):
    """Computes the features for a distance and the logits for a score.

    Attributes:
      names: of the metrics; only those of one network are called FID etc.
      facts: extractor, sha256 and resize, without which a number is
        meaningless.
      classes: number of logits.
      size: number of features.
    """

    names: Names
    facts: dict[str, str]
    classes: int
    size: int

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """Returns features [n, d] and logits [n, K] of uint8 [n, S, S, 3]."""


class KerasClassifier:
    """Any tf_keras classifier of images in [-1, 1] that ends in a Dense layer.

    The features are the input of that layer. Distances with it are never called
    FID: they can be compared only with each other.
    """

    names = Names(
        "classifier_distance", "classifier_score", "classifier_kernel_distance"
    )

    def __init__(self, model: tf_keras.Model, name: str):
        """Splits the model before its last layer.

        Args:
          model: functional or sequential, built.
          name: for reports.

        Raises:
          ValueError: if it does not end in a Dense layer.
        """
        last = model.layers[-1]
        if not isinstance(last, tf_keras.layers.Dense):
            raise ValueError(
                "A classifier must end in a Dense layer, whose inputs are the "
                f"features. Received: {name} ends in {type(last).__name__}"
            )
        self._trunk = tf_keras.Model(model.inputs, last.input)
        self._last = last
        self._sides = tuple(model.input_shape[1:3])
        self.classes, self.size = last.units, last.input.shape[-1]
        self.facts = {
            "extractor": name,
            "sha256": digest(model),
            "resize": "no resize",
        }
        self._run = tf.function(self._compute, reduce_retracing=True)

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """Returns features and logits; see `Extractor.__call__`.

        Raises:
          ValueError: if images do not have the classifier's size.
        """
        pairs = zip(self._sides, pixels.shape[1:3])
        if any(side not in (None, found) for side, found in pairs):
            raise ValueError(
                "The classifier reads images of "
                f"{'x'.join(map(str, self._sides))} px (height x width). "
                f"Received: shape={list(pixels.shape)}"
            )
        features, logits = self._run(pixels)
        return features.numpy(), logits.numpy()

    def _compute(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self._trunk(datasets.to_float(pixels), training=False)
        # A model trained in 16 bits returns 16-bit features.
        features = tf.cast(features, tf.float32)
        # Without the layer's activation: a softmax does not return logits.
        logits = features @ self._last.kernel
        if self._last.use_bias:
            logits += self._last.bias
        return features, logits


def about(facts: dict[str, str]) -> str:
    """Describes an extractor's facts."""
    return (
        f"{facts['extractor']} (sha256 {facts['sha256'][:12]}), "
        f"{facts['resize']}"
    )


def load(path: str, sha256: str = "") -> KerasClassifier:
    """Reads a classifier saved by tf_keras.

    Args:
      path: its file.
      sha256: what the hash of its weights must be, or begin with.

    Raises:
      ValueError: if there is none, or its hash is different.
    """
    if not files.exists(path):
        raise ValueError(
            "There is no classifier; use a model saved by tf_keras. "
            f"Received: path={path!r}"
        )
    try:
        with files.local(path) as place:
            model = tf_keras.models.load_model(
                files.without_wildcards(place), compile=False
            )
    # The readers raise various errors for files of other formats.
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The file is not a model that tf_keras can read ({error}). "
            f"Received: path={path!r}"
        ) from error
    found = KerasClassifier(model, files.name(path))
    check_digest(found.facts["sha256"], sha256, path)
    return found


def digest(model: tf_keras.Model) -> str:
    """Returns the SHA-256 of a model's weights, in order, with shapes."""
    result = hashlib.sha256()
    for weight in model.get_weights():
        result.update(f"{weight.dtype}{weight.shape}".encode())
        result.update(np.ascontiguousarray(weight).tobytes())
    return result.hexdigest()


def check_digest(found: str, expected: str, path: str) -> None:
    """Rejects a network with another hash than requested.

    Raises:
      ValueError: if `found` does not begin with `expected`.
    """
    if not found.startswith(expected.lower()):
        raise ValueError(
            "The extractor is not the requested one. Use the right file, or "
            f"pass the hash of this one. Received: sha256={expected!r}, "
            f"that of {path!r} is {found}"
        )
