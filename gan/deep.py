"""The bottleneck blocks of BigGAN-deep, arXiv:1809.11096, appendix B.

1x1, 3x3, 3x3 and 1x1 convolutions, with a quarter of the width inside.
Shortcuts are convolved only where necessary: a generator's drops superfluous
channels, a discriminator's concatenates missing ones.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from gan import blocks, spectral

Tensor = tf.Tensor
RATIO = 4  # of a block's width to that inside


class GeneratorBlock(tf_keras.layers.Layer):
    """Four times norm-act and conv; optionally upsampled after the first conv.

    Args:
      entering: input channels.
      units: output channels, at most as many.
      upsampled: whether to double the side.
      initializer: creates one for each kernel.
      norms: the four ConditionalNormAct.
    """

    def __init__(
        self,
        entering: int,
        units: int,
        upsampled: bool,
        initializer: Callable[[], Any],
        norms: list[blocks.ConditionalNormAct],
    ):
        super().__init__()
        self._units, self._upsampled, self._norms = units, upsampled, norms
        self._convs = _convs(entering // RATIO, units, initializer)

    def call(
        self, inputs: Tensor, condition: Tensor, training: bool = False
    ) -> Tensor:
        """Maps [N, H, W, C] to [N, H, W, units], or [N, 2H, 2W, units]."""
        h, x = inputs, inputs[..., : self._units]
        for index, (norm, conv) in enumerate(zip(self._norms, self._convs)):
            h = norm(h, condition, training=training)
            # After the second norm-act, which then has a quarter of the work.
            if index == 1 and self._upsampled:
                h, x = blocks.upsample(h), blocks.upsample(x)
            h = conv(h, training=training)
        return h + x


class DiscriminatorBlock(tf_keras.layers.Layer):
    """Four times relu and conv; optionally pooled before the last conv.

    Args:
      units: output channels, at least as many as the input's.
      pooled: whether to halve the side.
      initializer: creates one for each kernel.
    """

    def __init__(
        self, units: int, pooled: bool, initializer: Callable[[], Any]
    ):
        super().__init__()
        self._units, self._pooled = units, pooled
        self._initializer = initializer
        self._convs = _convs(units // RATIO, units, initializer)
        self._missing = None

    def build(self, shape: Any) -> None:
        """Creates a convolution for channels that the shortcut lacks."""
        missing = self._units - shape[-1]
        if missing:
            self._missing = spectral.Conv(missing, 1, self._initializer())
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maps [N, H, W, C] to [N, H/2, W/2, units], or [N, H, W, units]."""
        h, x = inputs, inputs
        for index, conv in enumerate(self._convs):
            h = tf.nn.relu(h)
            if index == len(self._convs) - 1 and self._pooled:
                h, x = blocks.average_pool(h), blocks.average_pool(x)
            h = conv(h, training=training)
        if self._missing is not None:
            missing = self._missing(x, training=training)
            x = tf.concat([x, missing], axis=-1)
        return h + x


def _convs(
    inside: int, units: int, initializer: Callable[[], Any]
) -> list[spectral.Conv]:
    """Returns the convolutions of a block, with `inside` channels within."""
    shapes = ((inside, 1), (inside, 3), (inside, 3), (units, 1))
    return [spectral.Conv(width, size, initializer()) for width, size in shapes]
