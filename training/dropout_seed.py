"""Dropout that is a pure function of (seed, step, replica, layer).

tf_keras draws dropout from a state that no checkpoint stores, so a resumed run
would drop other units than an uninterrupted one. Here each step first sets the
state of every layer that draws.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

_LAYERS = 2**20  # More than any model has, so that keys are unique.


@contextlib.contextmanager
def seedable() -> Iterator[None]:
    """Lets layers built inside draw from generators that `seed` can set."""
    settings = tf_keras.backend.experimental
    before = settings.is_tf_random_generator_enabled()
    settings.enable_tf_random_generator()
    try:
        yield
    finally:
        if not before:
            settings.disable_tf_random_generator()


def generators(model: tf_keras.Model) -> list[tf.random.Generator]:
    """Returns the generators of a model built in `seedable`, in order."""
    # tf_keras hides them to exclude them from checkpoints.
    found = [
        getattr(layer, "_random_generator", None)
        for layer in model._flatten_layers()
    ]
    return [each._generator for each in found if each is not None]


def seed(model: tf_keras.Model, seed: int, step: tf.Tensor) -> None:
    """Sets every generator of `model` for one step; call it in the replica.

    TensorFlow includes the replica's number in each draw.

    Args:
      model: built in `seedable`.
      seed: the run's.
      step: scalar, the optimizer's step.
    """
    counter = tf.stack([tf.zeros([], tf.int64), tf.cast(step, tf.int64)])
    for index, generator in enumerate(generators(model)):
        generator.reset_from_key_counter(seed * _LAYERS + index, counter)
