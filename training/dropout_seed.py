"""Dropout that is a pure function of (seed, step, replica, layer).

tf_keras draws dropout from a state that no checkpoint stores, so a resumed run
would drop other units than an uninterrupted one. Here each step first sets the
state of every layer that draws.

The numbers do not depend on what is compiled either (`runtime.compile`).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

_LAYERS = 2**20  # More than any model has, so that keys are unique.

# For each dtype: the integers of its size, the bits of its mantissa, and 1.0.
_FLOATS = {
    tf.float32: (tf.uint32, 0x7FFFFF, 0x3F800000),
    tf.float16: (tf.uint16, 0x3FF, 0x3C00),
    tf.bfloat16: (tf.uint16, 0x7F, 0x3F80),
}


class _Generator(tf.random.Generator):
    """Draws the same numbers in a program that XLA compiles and outside of it.

    Both get the same random bits, but make other floats of them. Here they are
    made as TensorFlow's kernels do: a random mantissa, in [1, 2), minus 1.
    """

    def uniform(
        self,
        shape: Any,
        minval: float = 0.0,
        maxval: float | None = None,
        dtype: tf.DType = tf.float32,
    ) -> tf.Tensor:
        """Draws uniform numbers in [minval, maxval); None for 1."""
        dtype = tf.as_dtype(dtype)
        integer, mantissa, one = _FLOATS[dtype]
        bits = self.uniform_full_int(shape, tf.uint32)
        bits = tf.cast(bits & mantissa | one, integer)
        unit = tf.bitcast(bits, dtype) - tf.ones([], dtype)
        return unit * ((1.0 if maxval is None else maxval) - minval) + minval


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
    found = [each for each in found if each is not None]
    for each in found:
        old = each._generator
        if not isinstance(old, _Generator):
            each._generator = _Generator(state=old.state, alg=old.algorithm)
    return [each._generator for each in found]


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


class Seeded:
    """Mixin for a Model Garden task with `seed`: its draws follow the step."""

    # There is no control flow on tensors here: AutoGraph would only convert
    # every layer's source.
    @tf.autograph.experimental.do_not_convert
    def train_step(
        self,
        inputs: Any,
        model: tf_keras.Model,
        optimizer: Any,
        metrics: Any = None,
    ) -> dict[str, tf.Tensor]:
        """Runs one step of the Model Garden, with seeded draws."""
        seed(model, self.seed, optimizer.iterations)
        return super().train_step(inputs, model, optimizer, metrics)
