"""BigGAN's generator and discriminator, arXiv:1809.11096, appendix B."""

import functools
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from evonorm_tf import legacy
from gan import architectures, blocks, experiment, spectral

Tensor = tf.Tensor

INITIALIZERS = {
    "orthogonal": tf_keras.initializers.Orthogonal,
    "normal": functools.partial(
        tf_keras.initializers.RandomNormal, mean=0.0, stddev=0.02
    ),
}


class Generator(tf_keras.Model):
    """Images of given classes: [N, latent_size] and [N] to [N, S, S, 3].

    Args:
      model: the pair's config.
    """

    def __init__(self, model: experiment.Model):
        super().__init__(name="generator", dtype="float32")
        row = architectures.get(model.architecture)
        first, *widths = (model.generator_width * m for m in row.generator)
        initializer = INITIALIZERS[model.initializer]
        norm_act = model.norm_act.bind(legacy)
        self._chunks = _chunks(model, len(widths))
        shape = (architectures.START, architectures.START, first)
        self._start = tf_keras.layers.Reshape(shape)
        size = architectures.START**2 * first
        self._linear = spectral.Dense(size, initializer())
        self._shared = None
        if model.class_embedding:
            self._shared = blocks.Table(
                model.num_classes, model.class_embedding, initializer()
            )
        self._blocks = []
        for index, (entering, units) in enumerate(
            zip([first, *widths], widths)
        ):
            norms = [
                blocks.ConditionalNormAct(
                    norm_act(affine=False), _linear(model, channels)
                )
                for channels in (entering, units)
            ]
            self._blocks.append(
                blocks.GeneratorBlock(units, initializer, norms)
            )
            side = architectures.START << (index + 1)
            if side == row.generator_attention:
                self._blocks.append(blocks.Attention(units, initializer))
        self._norm_act = norm_act()
        self._image = spectral.Conv(3, 3, initializer())

    def call(self, z: Tensor, labels: Tensor, training: bool = False) -> Tensor:
        """Images in [-1, 1], float32.

        Args:
          z: [N, latent_size].
          labels: [N], integers.
          training: batch statistics, and `u` and moving ones written.
        """
        parts = tf.split(z, self._chunks, axis=-1)
        x = self._start(self._linear(parts[0], training=training))
        parts = iter(parts[1:])
        if self._shared is not None:
            shared = self._shared(labels)
        for block in self._blocks:
            if isinstance(block, blocks.Attention):
                x = block(x, training=training)
                continue
            condition = labels
            if self._shared is not None:
                part = next(parts, None)
                condition = shared
                if part is not None:
                    condition = tf.concat([shared, part], axis=-1)
            x = block(x, condition, training=training)
        x = self._norm_act(x, training=training)
        x = self._image(x, training=training)
        return tf.tanh(tf.cast(x, tf.float32))


class Discriminator(tf_keras.Model):
    """Scores of images and their classes (projection, arXiv:1802.05637).

    Args:
      model: the pair's config.
    """

    def __init__(self, model: experiment.Model):
        super().__init__(name="discriminator", dtype="float32")
        row = architectures.get(model.architecture)
        initializer = INITIALIZERS[model.initializer]
        self._blocks, side = [], row.resolution
        for index, multiple in enumerate(row.discriminator):
            pooled = index < row.pooled
            units = model.discriminator_width * multiple
            self._blocks.append(
                blocks.DiscriminatorBlock(
                    units, initializer, index == 0, pooled
                )
            )
            side = side // 2 if pooled else side
            # Once, right after the block that arrives at that size.
            if pooled and side == row.discriminator_attention:
                self._blocks.append(blocks.Attention(units, initializer))
        self._linear = spectral.Dense(1, initializer(), dtype="float32")
        self._projection = spectral.Embedding(
            model.num_classes, units, initializer()
        )

    def call(
        self, images: Tensor, labels: Tensor, training: bool = False
    ) -> Tensor:
        """[N] scores, float32: high for real.

        Args:
          images: [N, S, S, 3] in [-1, 1].
          labels: [N], integers.
          training: `u` is written.
        """
        x = images
        for block in self._blocks:
            x = block(x, training=training)
        x = tf.reduce_sum(tf.cast(tf.nn.relu(x), tf.float32), axis=[1, 2])
        score = self._linear(x, training=training)[:, 0]
        classes = self._projection(labels, training=training)
        return score + tf.reduce_sum(classes * x, axis=-1)


@tf.autograph.experimental.do_not_convert
def build(model: experiment.Model) -> tuple[Generator, Discriminator]:
    """A pair of networks with their weights.

    Raises:
      ValueError: a config that no network fits.
    """
    generator, discriminator = build_generator(model), Discriminator(model)
    side = architectures.get(model.architecture).resolution
    discriminator(
        tf_keras.Input((side, side, 3)), tf_keras.Input((), dtype=tf.int32)
    )
    return generator, discriminator


@tf.autograph.experimental.do_not_convert
def build_generator(model: experiment.Model) -> Generator:
    """A generator alone, with its weights."""
    _check(model)
    generator = Generator(model)
    generator(
        tf_keras.Input((model.latent_size,)), tf_keras.Input((), dtype=tf.int32)
    )
    return generator


def _check(model: experiment.Model) -> None:
    """Raises ValueError for what no network can be."""
    if model.initializer not in INITIALIZERS:
        raise ValueError(
            f"Unknown initializer. Expected one of {sorted(INITIALIZERS)}. "
            f"Received: initializer={model.initializer!r}"
        )
    if model.hierarchical and not model.class_embedding:
        raise ValueError(
            "A hierarchical latent joins the shared class embedding; set "
            "class_embedding above 0 (128 in the paper) or "
            "hierarchical=false. Received: hierarchical=True, "
            f"class_embedding={model.class_embedding}"
        )


def _chunks(model: experiment.Model, count: int) -> list[int]:
    """Sizes of the latent's parts: the first layer's, then each block's."""
    if not model.hierarchical:
        return [model.latent_size]
    parts = count + 1
    if model.latent_size % parts:
        raise ValueError(
            f"A hierarchical latent of {model.architecture} has {parts} equal "
            f"parts. Set latent_size to a multiple of {parts}. Received: "
            f"latent_size={model.latent_size}"
        )
    return [model.latent_size // parts] * parts


def _linear(
    model: experiment.Model, channels: int
) -> Callable[[], tf_keras.layers.Layer]:
    """Makes the layer from a block's condition to gain or bias."""
    initializer = INITIALIZERS[model.initializer]
    if not model.class_embedding:
        return lambda: blocks.Table(model.num_classes, channels, initializer())
    # In float32: what multiplies a whole feature map.
    return lambda: spectral.Dense(
        channels, initializer(), use_bias=False, dtype="float32"
    )
