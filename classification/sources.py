"""Where images come from: memory, or records decoded while training.

Both give the same: `epoch` orders the examples of one pass, and `batches`
loads and augments them by their position in the run.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from classification import augment, garden, randaugment, records
from classification.settings import Data
from training.images import decoding

# AutoGraph would rewrite all that a pipeline calls for control flow that none
# of it has: most of the time to the first batch.
_as_written = tf.autograph.experimental.do_not_convert
_ADVICE = (
    "Fix or remove it; `python -m classification.data check` finds all such."
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Decoded images, all of one size.

    Attributes:
      images: [examples, H, W, C], uint8.
      labels: [examples], int32.
      classes: labels are below it.
      class_names: of the labels, where they are known.
      notes: what a person should know of what was left out.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
        return tf.data.Dataset.from_tensor_slices(
            records.order(self.examples, config, number)
        )

    def batches(
        self, stream: tf.data.Dataset, config: Data, batch: int
    ) -> tf.data.Dataset:
        """Batches of a stream of (position in the run, index).

        Returns:
          Of (positions [N], images [N, H, W, C] uint8, labels [N] int32).
        """
        images, labels = tf.constant(self.images), tf.constant(self.labels)

        def load(position, index):
            pixels = tf.gather(images, index)
            pixels = tf.ensure_shape(pixels, [batch, *self.shape])
            if config.is_training:
                seed = tf.stack([config.seed, position[0]])
                pixels = pad_crop_flip(pixels, config.augmentation, seed)
                pixels = self._rand_augment(pixels, config, position)
            return position, pixels, tf.gather(labels, index)

        stream = stream.batch(batch, drop_remainder=True)
        return stream.map(
            _as_written(load), num_parallel_calls=tf.data.AUTOTUNE
        )

    def _rand_augment(self, pixels, config, position):
        if not config.randaugment_layers:
            return pixels
        return tf.map_fn(
            lambda one: _rand_augment(one[0], config, one[1]),
            (pixels, position),
            fn_output_signature=tf.TensorSpec(self.shape, tf.uint8),
        )


@dataclasses.dataclass(frozen=True)
class Records:
    """Image files of any size, decoded while training.

    Attributes:
      reader: gives their bytes.
      classes: labels are below it.
      size: side of the images that `batches` gives, in pixels.
      class_names: of the labels, where they are known.
      notes: what a person should know of what was left out.
    """

    reader: records.Reader
    classes: int
    size: int
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        """Size of the set."""
        return self.reader.examples

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what `batches` gives."""
        return self.size, self.size, 3

    def epoch(self, config: Data, number: tf.Tensor) -> tf.data.Dataset:
        """Every record once, in the order of this epoch."""
        return self.reader.epoch(config, number)

    def batches(
        self, stream: tf.data.Dataset, config: Data, batch: int
    ) -> tf.data.Dataset:
        """Batches of a stream of (position in the run, record).

        Returns:
          Of (positions [N], images [N, H, W, C] uint8, labels [N] int32).
        """

        def load(position, record):
            encoded, label, name = self.reader.read(*record)
            label = _in_range(label, self.classes, name)
            if config.is_training and config.augmentation != "none":
                image = self._random_part(encoded, name, config, position)
            else:
                choose = functools.partial(
                    augment.center_window, size=self.size
                )
                image = decoding.window(encoded, name, choose, _ADVICE)
                image = augment.resize(image, self.size)
            image = tf.ensure_shape(image, self.shape)
            if config.is_training and config.randaugment_layers:
                image = _rand_augment(image, config, position)
            return position, image, label

        stream = stream.map(
            _as_written(load), num_parallel_calls=tf.data.AUTOTUNE
        )
        return stream.batch(batch, drop_remainder=True)

    def _random_part(self, encoded, name, config, position):
        seed = tf.stack([config.seed, position])
        seeds = tf.random.experimental.stateless_split(seed, 2)
        choose = functools.partial(augment.inception_window, seed=seeds[0])
        image = decoding.window(encoded, name, choose, _ADVICE)
        image = augment.resize(image, self.size)
        if config.augmentation == "crop_flip":
            image = augment.random_flip_one(image, seeds[1])
        return image


Source = Memory | Records


def pad_crop_flip(images: tf.Tensor, kind: str, seed: tf.Tensor) -> tf.Tensor:
    """CIFAR's augmentation: 4 pixels of padding on 32, the same share else.

    Args:
      images: [N, H, W, C].
      kind: one of `opening.AUGMENTATIONS`.
      seed: [2], integers.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    if kind != "none":
        images = augment.random_crop(images, images.shape[1] // 8, seeds[0])
    if kind == "crop_flip":
        images = augment.random_flip(images, seeds[1])
    return images


def _rand_augment(
    image: tf.Tensor, config: Data, position: tf.Tensor
) -> tf.Tensor:
    seed = tf.stack([config.seed, position])
    return randaugment.rand_augment(
        image,
        config.randaugment_layers,
        config.randaugment_magnitude,
        # Other draws than those of the crop, which has the seed itself.
        tf.random.experimental.stateless_fold_in(seed, 1),
        garden.OPERATIONS if config.augmenter == "official" else None,
    )


def _in_range(label: tf.Tensor, classes: int, name: tf.Tensor) -> tf.Tensor:
    """A label outside the classes would train silently, at loss 0."""
    label = tf.cast(label, tf.int64)
    message = tf.strings.join(
        [
            "A label is outside the classes, 0 to ",
            f"{classes - 1}: of ",
            name,
            ". Mend it, or set task.model.num_classes or label_offset. "
            "Received: label=",
            tf.strings.as_string(label),
        ]
    )
    inside = tf.logical_and(label >= 0, label < classes)
    check = tf.debugging.Assert(inside, [message])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.cast(label, tf.int32)
