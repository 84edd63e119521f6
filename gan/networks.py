"""BigGAN's generator and discriminator, arXiv:1809.11096, appendix B."""

import functools
import itertools
from collections.abc import Callable, Iterator

import tensorflow as tf
import tf_keras

from evonorm_tf import legacy
from gan import architectures, blocks, deep, experiment, spectral
from training import config

Tensor = tf.Tensor

INITIALIZERS = {
    "orthogonal": tf_keras.initializers.Orthogonal,
    "normal": functools.partial(
        tf_keras.initializers.RandomNormal, mean=0.0, stddev=0.02
    ),
}


class Generator(tf_keras.Model):
    """Generates images of given classes: [N, latent_size], [N] to [N, S, S, 3].

    Args:
      model: the config of both networks.
    """

    def __init__(self, model: experiment.Model):
        super().__init__(name="generator", dtype="float32")
        row = architectures.get(model.architecture)
        first, *widths = (model.generator_width * m for m in row.generator)
        initializer = INITIALIZERS[model.initializer]
        self._deep = row.deep
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
        stage = _deep_stage if row.deep else _stage
        # Blocks by stage, with attention after one of them.
        self._stages, self._attention, self._attends = [], None, -1
        for index, (entering, units) in enumerate(
            zip([first, *widths], widths)
        ):
            self._stages.append(stage(model, entering, units))
            side = architectures.START << (index + 1)
            if side == row.generator_attention:
                self._attention = blocks.Attention(units, initializer)
                self._attends = index
        self._norm_act = model.norm_act.bind(legacy)()
        self._image = spectral.Conv(3, 3, initializer())

    def call(self, z: Tensor, labels: Tensor, training: bool = False) -> Tensor:
        """Returns images in [-1, 1], float32.

        Args:
          z: [N, latent_size].
          labels: [N], integers.
          training: whether to use batch statistics and to update `u` and
            moving statistics.
        """
        start, conditions = self._conditions(z, labels)
        x = self._start(self._linear(start, training=training))
        for index, (stage, condition) in enumerate(
            zip(self._stages, conditions)
        ):
            for block in stage:
                x = block(x, condition, training=training)
            if index == self._attends:
                x = self._attention(x, training=training)
        x = self._norm_act(x, training=training)
        x = self._image(x, training=training)
        return tf.tanh(tf.cast(x, tf.float32))

    def _conditions(
        self, z: Tensor, labels: Tensor
    ) -> tuple[Tensor, Iterator[Tensor]]:
        """Returns the first layer's input, and the norms' per stage."""
        if self._shared is None:
            return z, itertools.repeat(labels)
        shared = self._shared(labels)
        if self._deep:
            whole = tf.concat([shared, z], axis=-1)
            return whole, itertools.repeat(whole)
        first, *parts = tf.split(z, self._chunks, axis=-1)
        if not parts:
            return first, itertools.repeat(shared)
        return first, iter([tf.concat([shared, p], axis=-1) for p in parts])


class Discriminator(tf_keras.Model):
    """Scores images and their classes (projection, arXiv:1802.05637).

    Args:
      model: the config of both networks.
    """

    def __init__(self, model: experiment.Model):
        super().__init__(name="discriminator", dtype="float32")
        row = architectures.get(model.architecture)
        initializer = INITIALIZERS[model.initializer]
        widths = [model.discriminator_width * m for m in row.discriminator]
        self._blocks, side = [], row.resolution
        if row.deep:
            self._blocks.append(spectral.Conv(widths.pop(0), 3, initializer()))
        for index, units in enumerate(widths):
            pooled = index < row.pooled
            if row.deep:
                self._blocks += [
                    deep.DiscriminatorBlock(units, pooled, initializer),
                    deep.DiscriminatorBlock(units, False, initializer),
                ]
            else:
                self._blocks.append(
                    blocks.DiscriminatorBlock(
                        units, initializer, index == 0, pooled
                    )
                )
            side = side // 2 if pooled else side
            # Once, directly after the stage that reaches this size.
            if pooled and side == row.discriminator_attention:
                self._blocks.append(blocks.Attention(units, initializer))
        self._linear = spectral.Dense(1, initializer(), dtype="float32")
        self._projection = spectral.Embedding(
            model.num_classes, units, initializer()
        )

    def call(
        self, images: Tensor, labels: Tensor, training: bool = False
    ) -> Tensor:
        """Returns [N] scores, float32: high for real images.

        Args:
          images: [N, S, S, 3] in [-1, 1].
          labels: [N], integers.
          training: whether to update `u`.
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
    """Builds both networks with their weights.

    Args:
      model: their config.

    Raises:
      ValueError: if the config is invalid.
    """
    generator = build_generator(model)
    discriminator = Discriminator(model)
    side = architectures.get(model.architecture).resolution
    discriminator(
        tf_keras.Input((side, side, 3)), tf_keras.Input((), dtype=tf.int32)
    )
    return generator, discriminator


@tf.autograph.experimental.do_not_convert
def build_generator(model: experiment.Model) -> Generator:
    """Builds a generator alone, with its weights; see `build`."""
    check(model)
    generator = Generator(model)
    generator(
        tf_keras.Input((model.latent_size,)), tf_keras.Input((), dtype=tf.int32)
    )
    return generator


def check(model: experiment.Model) -> None:
    """Rejects invalid configs.

    Raises:
      ValueError: says what is wrong, and how to fix it.
    """
    sizes = ("generator_width", "discriminator_width", "latent_size")
    least = {**dict.fromkeys((*sizes, "num_classes"), 1), "class_embedding": 0}
    config.require_at_least(model, least, "task.model.")
    if model.initializer not in INITIALIZERS:
        raise ValueError(
            f"Unknown initializer. Expected one of {sorted(INITIALIZERS)}. "
            f"Received: initializer={model.initializer!r}"
        )
    if model.hierarchical and not model.class_embedding:
        raise ValueError(
            "A hierarchical latent is added to the class embedding; set "
            "class_embedding above 0 (128 in the paper) or "
            "hierarchical=false. Received: hierarchical=True, "
            f"class_embedding={model.class_embedding}"
        )
    if architectures.get(model.architecture).deep and not model.hierarchical:
        raise ValueError(
            "BigGAN-deep passes the latent to every block; set "
            "hierarchical=true, or choose another architecture. Received: "
            f"architecture={model.architecture!r}, hierarchical=False"
        )


def _stage(
    model: experiment.Model, entering: int, units: int
) -> list[tf_keras.layers.Layer]:
    """Returns BigGAN's block that doubles the side."""
    norms = _norms(model, entering, units)
    initializer = INITIALIZERS[model.initializer]
    return [blocks.GeneratorBlock(units, initializer, norms)]


def _deep_stage(
    model: experiment.Model, entering: int, units: int
) -> list[tf_keras.layers.Layer]:
    """Returns BigGAN-deep's two blocks; the second doubles the side."""
    inside, made = entering // deep.RATIO, []
    initializer = INITIALIZERS[model.initializer]
    for width, upsampled in ((entering, False), (units, True)):
        norms = _norms(model, entering, inside, inside, inside)
        made.append(
            deep.GeneratorBlock(entering, width, upsampled, initializer, norms)
        )
    return made


def _norms(
    model: experiment.Model, *widths: int
) -> list[blocks.ConditionalNormAct]:
    norm_act = model.norm_act.bind(legacy)
    return [
        blocks.ConditionalNormAct(norm_act(affine=False), _linear(model, width))
        for width in widths
    ]


def _chunks(model: experiment.Model, count: int) -> list[int]:
    """Returns the sizes of the latent's parts: first layer, then stages."""
    if not model.hierarchical or architectures.get(model.architecture).deep:
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
    """Creates the layer from a block's condition to gain or bias."""
    initializer = INITIALIZERS[model.initializer]
    if not model.class_embedding:
        return lambda: blocks.Table(model.num_classes, channels, initializer())
    # In float32, because it multiplies a whole feature map.
    return lambda: spectral.Dense(
        channels, initializer(), use_bias=False, dtype="float32"
    )
