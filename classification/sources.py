"""Where images come from: memory, or records decoded while training.

Both give the same: `epoch` orders the examples of one pass, and `batches`
loads and augments them by their position in the run.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from classification import augment
from classification.settings import Data


@dataclasses.dataclass(frozen=True)
class Memory:
    """Decoded images, all of one size.

    Attributes:
      images: [examples, H, W, C], uint8.
      labels: [examples], int32.
      classes: how many classes the set has.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int

    @property
    def examples(self) -> int:
        """Size of the set."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what `batches` gives."""
        return self.images.shape[1:]

    def epoch(self, config: Data, number: tf.Tensor) -> tf.data.Dataset:
        """Every example's index once, in the order of this epoch."""
        order = tf.range(self.examples, dtype=tf.int64)
        if config.is_training:
            order = tf.random.experimental.stateless_shuffle(
                order, seed=tf.stack([config.seed, number])
            )
        return tf.data.Dataset.from_tensor_slices(order)

    def batches(
        self, stream: tf.data.Dataset, config: Data, batch: int
    ) -> tf.data.Dataset:
        """Batches of a stream of (position in the run, index)."""
        images, labels = tf.constant(self.images), tf.constant(self.labels)

        def load(position, index):
            pixels = tf.gather(images, index)
            pixels = tf.ensure_shape(pixels, [batch, *self.shape])
            if config.is_training:
                seed = tf.stack([config.seed, position[0]])
                pixels = _pad_crop_flip(pixels, config.augmentation, seed)
            pixels = augment.normalize(pixels, config.mean, config.std)
            return position, pixels, tf.gather(labels, index)

        stream = stream.batch(batch, drop_remainder=True)
        return stream.map(load, num_parallel_calls=tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class Records:
    """JPEGs of any size, decoded while training.

    Attributes:
      dataset: of (JPEG bytes, label).
      examples: size of the set.
      classes: how many classes the set has.
      size: side of the images that `batches` gives, in pixels.
    """

    dataset: tf.data.Dataset
    examples: int
    classes: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what `batches` gives."""
        return self.size, self.size, 3

    def epoch(self, config: Data, number: tf.Tensor) -> tf.data.Dataset:
        """Every (JPEG, label) once, in the order of this epoch."""
        if not config.is_training:
            return self.dataset
        # The seed of this function's graph: the order must not hang on the
        # global seed, and TensorFlow cannot add a tensor to a global 0.
        tf.random.set_seed(1)
        return self.dataset.shuffle(
            config.shuffle_buffer_size,
            seed=config.seed * 1_000_003 + number,
            reshuffle_each_iteration=False,
        )

    def batches(
        self, stream: tf.data.Dataset, config: Data, batch: int
    ) -> tf.data.Dataset:
        """Batches of a stream of (position in the run, (JPEG, label))."""

        def load(position, record):
            encoded, label = record
            label = _in_range(label, self.classes)
            if config.is_training and config.augmentation != "none":
                seed = tf.stack([config.seed, position])
                image = augment.inception_crop(encoded, self.size, seed)
            else:
                image = augment.center_crop(encoded, self.size)
            image = tf.ensure_shape(image, self.shape)
            image = augment.normalize(image, config.mean, config.std)
            return position, image, label

        stream = stream.map(load, num_parallel_calls=tf.data.AUTOTUNE)
        return stream.batch(batch, drop_remainder=True)


Source = Memory | Records


def _pad_crop_flip(images: tf.Tensor, kind: str, seed: tf.Tensor) -> tf.Tensor:
    """CIFAR's augmentation: 4 pixels of padding on 32, the same share else."""
    seeds = tf.random.experimental.stateless_split(seed, 2)
    if kind != "none":
        images = augment.random_crop(images, images.shape[1] // 8, seeds[0])
    if kind == "crop_flip":
        images = augment.random_flip(images, seeds[1])
    return images


def _in_range(label: tf.Tensor, classes: int) -> tf.Tensor:
    """A label outside the classes would train silently, at loss 0."""
    inside = tf.logical_and(label >= 0, label < classes)
    message = f"A label is outside the {classes} classes. Received: label="
    check = tf.debugging.Assert(inside, [message, label])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.cast(label, tf.int32)
