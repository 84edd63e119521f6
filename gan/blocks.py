"""Building blocks of BigGAN's networks, arXiv:1809.11096, appendix B.

Each normalization and the activation after it are one `norm_act` layer. In a
generator's block it is class-conditional: gain = 1 + linear, bias = linear.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from gan import spectral

Tensor = tf.Tensor
Layer = tf_keras.layers.Layer


class Table(Layer):
    """An embedding without spectral normalization: [N] integers.

    "Applying SN to G's embedding seems to randomly cripple G", according to the
    author's code.
    """

    def __init__(self, classes: int, units: int, initializer: Any):
        super().__init__(dtype="float32")
        self._shape, self._initializer = (classes, units), initializer

    def build(self, shape: Any) -> None:
        """Creates the weights."""
        self.table = self.add_weight(
            "table", self._shape, initializer=self._initializer
        )
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N] to [N, units]."""
        del training  # For the same signature as all layers here.
        return tf.gather(tf.convert_to_tensor(self.table), inputs)


class ConditionalNormAct(Layer):
    """A norm-act layer whose gain and bias depend on a condition.

    Args:
      norm_act: a NormAct layer without its own affine.
      linear: creates the layer from a condition to [N, C].
    """

    def __init__(self, norm_act: Layer, linear: Callable[[], Layer]):
        super().__init__()
        self._norm_act = norm_act
        self._gain, self._bias = linear(), linear()

    def call(
        self, inputs: Tensor, condition: Tensor, training: bool = False
    ) -> Tensor:
        """Maps [N, H, W, C] and a condition to [N, H, W, C]."""
        # Centered at 1, because around 0 a block would start switched off.
        gamma = 1.0 + self._gain(condition, training=training)
        beta = self._bias(condition, training=training)
        return self._norm_act(inputs, gamma, beta, training=training)


class Attention(Layer):
    """Self-attention over pixels (arXiv:1805.08318), added with weight 0.

    Raises:
      ValueError: if there are too few channels.
    """

    def __init__(self, channels: int, initializer: Callable[[], Any]):
        super().__init__()
        if channels < 8:
            raise ValueError(
                "Attention needs at least 8 channels, because its queries have "
                "an eighth of them. Increase generator_width or "
                f"discriminator_width. Received: channels={channels}"
            )
        self._channels = channels

        def conv(units: int) -> spectral.Conv:
            return spectral.Conv(units, 1, initializer(), use_bias=False)

        self._query, self._key = conv(channels // 8), conv(channels // 8)
        self._value, self._out = conv(channels // 2), conv(channels)

    def build(self, shape: Any) -> None:
        """Creates the weight of the sum, a scalar."""
        self.gamma = self.add_weight("gamma", (), initializer="zeros")
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N, H, W, C] to the same shape."""
        height, width, channels = inputs.shape[1:]
        query = self._query(inputs, training=training)
        key = _max_pool(self._key(inputs, training=training))
        value = _max_pool(self._value(inputs, training=training))
        query = tf.reshape(query, [-1, height * width, channels // 8])
        key = tf.reshape(key, [-1, height * width // 4, channels // 8])
        value = tf.reshape(value, [-1, height * width // 4, channels // 2])
        scores = tf.matmul(query, key, transpose_b=True)
        # A softmax over many pixels needs more than 16 bits.
        weights = tf.nn.softmax(tf.cast(scores, tf.float32))
        y = tf.matmul(tf.cast(weights, value.dtype), value)
        y = tf.reshape(y, [-1, height, width, channels // 2])
        return inputs + self.gamma * self._out(y, training=training)


class GeneratorBlock(Layer):
    """norm-act, upsample, conv, norm-act, conv; a learned shortcut.

    Args:
      units: output channels.
      initializer: creates one for each kernel.
      norms: the two ConditionalNormAct.
    """

    def __init__(
        self,
        units: int,
        initializer: Callable[[], Any],
        norms: list[ConditionalNormAct],
    ):
        super().__init__()
        self._norms = norms
        self._convs = [spectral.Conv(units, 3, initializer()) for _ in range(2)]
        self._shortcut = spectral.Conv(units, 1, initializer())

    def call(
        self, inputs: Tensor, condition: Tensor, training: bool = False
    ) -> Tensor:
        """Maps [N, H, W, C] and a condition to [N, 2H, 2W, units]."""
        h = self._norms[0](inputs, condition, training=training)
        h = self._convs[0](upsample(h), training=training)
        h = self._norms[1](h, condition, training=training)
        h = self._convs[1](h, training=training)
        # A 1x1 convolution commutes with upsampling and costs a quarter here.
        shortcut = self._shortcut(inputs, training=training)
        return h + upsample(shortcut)


class DiscriminatorBlock(Layer):
    """relu, conv, relu, conv, pool; only the kernels are normalized.

    Args:
      units: output channels.
      initializer: creates one for each kernel.
      first: whether the input is images, so the first convolution has no
        activation before it.
      pooled: whether to halve the side.
    """

    def __init__(
        self,
        units: int,
        initializer: Callable[[], Any],
        first: bool,
        pooled: bool,
    ):
        super().__init__()
        self._first, self._pooled = first, pooled
        self._units, self._initializer = units, initializer
        self._convs = [spectral.Conv(units, 3, initializer()) for _ in range(2)]
        self._shortcut = None

    def build(self, shape: Any) -> None:
        """Creates a learned shortcut if the shape changes."""
        if shape[-1] != self._units or self._pooled:
            self._shortcut = spectral.Conv(self._units, 1, self._initializer())
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N, H, W, C] to [N, H/2, W/2, units] or [N, H, W, units]."""
        h = inputs if self._first else tf.nn.relu(inputs)
        h = self._convs[0](h, training=training)
        h = self._convs[1](tf.nn.relu(h), training=training)
        x = inputs
        if self._pooled:
            h, x = average_pool(h), average_pool(x)
        if self._shortcut is not None:
            x = self._shortcut(x, training=training)
        return h + x


def upsample(x: Tensor) -> Tensor:
    """Nearest neighbour, [N, H, W, C] to [N, 2H, 2W, C].

    The gradient of tiling is a sum in a fixed order. That of a resize is not on
    every device, and a resumed run must equal an uninterrupted one.
    """
    height, width, channels = x.shape[1:]
    x = tf.reshape(x, [-1, height, 1, width, 1, channels])
    x = tf.tile(x, [1, 1, 2, 1, 2, 1])
    return tf.reshape(x, [-1, 2 * height, 2 * width, channels])


def average_pool(x: Tensor) -> Tensor:
    """Average pooling, [N, H, W, C] to [N, H/2, W/2, C]."""
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def _max_pool(x: Tensor) -> Tensor:
    return tf.nn.max_pool2d(x, 2, 2, "VALID")
