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
    """What numbers through an extractor are called."""

    distance: str
    score: str
    kernel: str


class Extractor(Protocol):
    """What a distance and a score are measured through.

    Attributes:
      names: of the numbers; only one network's distance is FID.
      facts: extractor, sha256 and resize: without them a number means
        nothing.
      classes: of the logits.
      size: of the features.
    """

    names: Names
    facts: dict[str, str]
    classes: int
    size: int

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """Features [n, d] and logits [n, K] of images [n, S, S, 3], uint8."""


class KerasClassifier:
    """Any tf_keras classifier of images in [-1, 1] that ends in a Dense layer.

    The features are what enters that layer. Distances through it are never
    called FID: they compare with nothing but each other.
    """

    names = Names(
        "classifier_distance", "classifier_score", "classifier_kernel_distance"
    )

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
        self._sides = tuple(model.input_shape[1:3])
        self.classes, self.size = last.units, last.input.shape[-1]
        self.facts = {
            "extractor": name,
            "sha256": digest(model),
            "resize": "no resize",
        }
        self._run = tf.function(self._compute, reduce_retracing=True)

    def __call__(self, pixels: Array) -> tuple[Array, Array]:
        """As `Extractor.__call__`.

        Raises:
          ValueError: images of another size than the classifier's.
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
        # One that was trained in 16 bits gives features of 16.
        features = tf.cast(features, tf.float32)
        # Whatever the layer's own activation: a softmax is no logit.
        logits = features @ self._last.kernel
        if self._last.use_bias:
            logits += self._last.bias
        return features, logits


def about(facts: dict[str, str]) -> str:
    """An extractor's facts in words."""
    return (
        f"{facts['extractor']} (sha256 {facts['sha256'][:12]}), "
        f"{facts['resize']}"
    )


def load(path: str, sha256: str = "") -> KerasClassifier:
    """Reads a classifier that tf_keras saved.

    Args:
      path: its file.
      sha256: what the hash of its weights must be, or begin with.

    Raises:
      ValueError: there is none, or one of another hash.
    """
    if not files.exists(path):
        raise ValueError(
            "There is no classifier; give a model that tf_keras saved. "
            f"Received: path={path!r}"
        )
    try:
        with files.local(path) as place:
            model = tf_keras.models.load_model(
                files.without_wildcards(place), compile=False
            )
    # Whatever the format's reader says of a file that is none of its own.
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The file is no model that tf_keras can read ({error}). "
            f"Received: path={path!r}"
        ) from error
    found = KerasClassifier(model, files.name(path))
    check_digest(found.facts["sha256"], sha256, path)
    return found


def digest(model: tf_keras.Model) -> str:
    """SHA-256 of a model's weights, in order, with their shapes."""
    result = hashlib.sha256()
    for weight in model.get_weights():
        result.update(f"{weight.dtype}{weight.shape}".encode())
        result.update(np.ascontiguousarray(weight).tobytes())
    return result.hexdigest()


def check_digest(found: str, expected: str, path: str) -> None:
    """Refuses a network of another hash than was asked for.

    Raises:
      ValueError: `found` does not begin with `expected`.
    """
    if not found.startswith(expected.lower()):
        raise ValueError(
            "The extractor is not the one that was asked for. Get the right "
            f"file, or give this one's hash. Received: sha256={expected!r}, "
            f"that of {path!r} is {found}"
        )
