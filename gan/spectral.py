"""Layers whose kernel is divided by its largest singular value.

Spectral normalization (arXiv:1802.05957) with one power iteration per forward
pass. The kernel is an ordinary weight and only the quotient is used, so the
gradient passes through sigma as well. The vector `u` of the iteration is
updated only in training. The division is in float32 whatever the compute dtype.
"""

from typing import Any

import tensorflow as tf
import tf_keras

Tensor = tf.Tensor


def normalize(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divides a weight by its estimated largest singular value.

    One power iteration on the matrix [everything else, out]; sigma = v' W u is
    differentiable in W, with u and v held fixed, as for the exact value.

    Args:
      weight: [..., out].
      u: [out], the current right singular vector.

    Returns:
      weight / sigma, the next u, and sigma.
    """
    matrix = _matrix(weight)
    v, u = _iterate(tf.stop_gradient(matrix), u)
    sigma = tf.reduce_sum(v * tf.linalg.matvec(matrix, u))
    return weight / sigma, u, sigma


def _matrix(weight: Tensor) -> Tensor:
    return tf.reshape(weight, [-1, weight.shape[-1]])


def _iterate(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both singular vectors after a power iteration."""
    v = tf.math.l2_normalize(tf.linalg.matvec(matrix, u))
    return v, tf.math.l2_normalize(
        tf.linalg.matvec(matrix, v, transpose_a=True)
    )


# Traced once for kernels of all sizes, because eager iterations take most of
# the time of an evaluation of a small network.
@tf.function(
    autograph=False,
    input_signature=[
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([], tf.int32),
    ],
)
def _settled(matrix: Tensor, iterations: Tensor) -> Tensor:
    """Returns `u` after power iterations from a fixed start."""
    start = tf.random.stateless_normal(tf.shape(matrix)[1:], seed=[0, 0])
    return tf.while_loop(
        lambda step, u: step < iterations,
        lambda step, u: (step + 1, _iterate(matrix, u)[1]),
        [0, start],
    )[1]


class Spectral(tf_keras.layers.Layer):
    """Base class: a kernel, `u`, and optionally a bias.

    Args:
      units: output channels.
      initializer: of the kernel.
      use_bias: whether to add a bias, [units].
      dtype: dtype or dtype policy of the computation.
    """

    # The kernel's axis of `u`, -1 or 0.
    _axis = -1

    def __init__(
        self,
        units: int,
        initializer: Any,
        use_bias: bool = True,
        dtype: Any = None,
    ):
        super().__init__(dtype=dtype)
        self.units, self.use_bias = units, use_bias
        self._initializer = initializer

    def _add_weights(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(
            "kernel",
            shape,
            initializer=self._initializer,
            experimental_autocast=False,
        )
        self.u = self.add_weight(
            "u",
            (shape[self._axis],),
            initializer=tf_keras.initializers.RandomNormal(0.0, 1.0),
            trainable=False,
            experimental_autocast=False,
            # Each replica writes its own: equal kernels give equal vectors.
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (self.units,), initializer="zeros"
            )
        self.built = True

    def _oriented(self) -> Tensor:
        """Returns the kernel with the axis of `u` last."""
        kernel = tf.convert_to_tensor(self.kernel)
        return tf.transpose(kernel) if self._axis == 0 else kernel

    def _normalized(self, training: bool) -> Tensor:
        """Returns the kernel over sigma, in the compute dtype; updates `u`."""
        u = tf.convert_to_tensor(self.u)
        kernel, u, _ = normalize(self._oriented(), u)
        if training:
            self.u.assign(u)
        if self._axis == 0:
            kernel = tf.transpose(kernel)
        return tf.cast(kernel, self.compute_dtype)

    def sigma(self) -> Tensor:
        """Returns the largest singular value, as estimated with `u`."""
        return normalize(self._oriented(), tf.convert_to_tensor(self.u))[2]

    def settle(self, iterations: int) -> None:
        """Recomputes `u` from a fixed start, so that it depends only on W.

        Args:
          iterations: of the power method; 50 bring the sigma of a random
            kernel within about 1 %.
        """
        self.u.assign(_settled(_matrix(self._oriented()), iterations))


class Conv(Spectral):
    """A convolution, stride 1, padding SAME: [N, H, W, C] inputs.

    Args:
      units: see `Spectral`.
      size: side of the kernel.
      initializer: see `Spectral`.
      use_bias: see `Spectral`.
    """

    def __init__(
        self, units: int, size: int, initializer: Any, use_bias: bool = True
    ):
        super().__init__(units, initializer, use_bias)
        self._size = size

    def build(self, shape: Any) -> None:
        """Creates the weights."""
        self._add_weights((self._size, self._size, shape[-1], self.units))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N, H, W, C] to [N, H, W, units]."""
        y = tf.nn.conv2d(inputs, self._normalized(training), 1, "SAME")
        return y + self.bias if self.use_bias else y


class Dense(Spectral):
    """A matrix product: [N, C] inputs."""

    def build(self, shape: Any) -> None:
        """Creates the weights."""
        self._add_weights((shape[-1], self.units))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N, C] to [N, units]."""
        y = inputs @ self._normalized(training)
        return y + self.bias if self.use_bias else y


class Embedding(Spectral):
    """An embedding of integers [N]; `u` has one entry per class.

    Args:
      classes: number of rows.
      units: see `Spectral`.
      initializer: see `Spectral`.
    """

    _axis = 0

    def __init__(self, classes: int, units: int, initializer: Any):
        super().__init__(units, initializer, use_bias=False, dtype="float32")
        self._classes = classes

    def build(self, shape: Any) -> None:
        """Creates the weights."""
        self._add_weights((self._classes, self.units))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N] to [N, units]."""
        return tf.gather(self._normalized(training), inputs)


def layers(model: tf_keras.Model) -> list[Spectral]:
    """Returns all spectrally normalized layers of a model."""
    return [x for x in model._flatten_layers() if isinstance(x, Spectral)]


def largest(model: tf_keras.Model) -> tuple[Tensor, Tensor]:
    """Returns the largest singular value in a model, and its layer's index."""
    values = tf.stack([layer.sigma() for layer in layers(model)])
    return tf.reduce_max(values), tf.argmax(values)


def settle(model: tf_keras.Model, iterations: int = 50) -> None:
    """Applies `Spectral.settle` to a model, such as averaged weights."""
    for layer in layers(model):
        layer.settle(iterations)
