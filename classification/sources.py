"""What is in a data set, and how its examples are decoded and augmented.

Images are in memory, or files that are decoded while training. Both give a
reader, which says in which order examples come, and `decode`, which makes an
image of one: whatever it draws is a function of the seed and of the example's
number in the run.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from classification import augment, garden, randaugment
from classification.settings import Data
from training.images import decoding, labels, readers

_ADVICE = (
    "Fix or remove it; `python -m classification.data check` finds all such."
)
_SETTINGS = "task.model.num_classes or label_offset"


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
    def reader(self) -> readers.Indexed:
        """Gives the examples' indices."""
        return readers.Indexed(len(self.labels))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.images.shape[1:]

    def decode(self, config: Data) -> Callable[..., tuple[tf.Tensor, ...]]:
        """f(numbers [N], indices [N]) of a batch at once.

        It gives (numbers, images [N, H, W, C] uint8, labels [N] int32).
        """
        images, known = tf.constant(self.images), tf.constant(self.labels)

        def load(numbers: tf.Tensor, indices: tf.Tensor):
            pixels = tf.gather(images, indices)
            pixels = tf.ensure_shape(pixels, [numbers.shape[0], *self.shape])
            if config.is_training:
                seed = tf.stack([config.seed, numbers[0]])
                pixels = pad_crop_flip(pixels, config.augmentation, seed)
                pixels = self._rand_augment(pixels, config, numbers)
            return numbers, pixels, tf.gather(known, indices)

        return load

    def _rand_augment(self, pixels, config, numbers):
        if not config.randaugment_layers:
            return pixels
        return tf.map_fn(
            lambda one: _rand_augment(one[0], config, one[1]),
            (pixels, numbers),
            fn_output_signature=tf.TensorSpec(self.shape, tf.uint8),
        )


@dataclasses.dataclass(frozen=True)
class Records:
    """Image files of any size, decoded while training.

    Attributes:
      reader: gives their bytes.
      classes: labels are below it.
      size: side of the images that `decode` gives, in pixels.
      class_names: of the labels, where they are known.
      notes: what a person should know of what was left out.
    """

    reader: readers.Listed | readers.Shards
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
        """Height, width and channels of an image."""
        return self.size, self.size, 3

    def decode(self, config: Data) -> Callable[..., tuple[tf.Tensor, ...]]:
        """f(number, encoded, label, name) of one example.

        It gives (number, image [H, W, C] uint8, label int32).
        """
        augmented = config.is_training and config.augmentation != "none"
        choose = functools.partial(augment.center_window, size=self.size)

        def load(number, encoded, label, name):
            label = labels.inside(label, self.classes, name, _SETTINGS)
            if augmented:
                image = self._random_part(encoded, name, config, number)
            else:
                image = decoding.window(encoded, name, choose, _ADVICE)
                image = augment.resize(image, self.size)
            image = tf.ensure_shape(image, self.shape)
            if config.is_training and config.randaugment_layers:
                image = _rand_augment(image, config, number)
            return number, image, label

        return load

    def _random_part(self, encoded, name, config, number):
        seed = tf.stack([config.seed, number])
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
      kind: one of `datasets.AUGMENTATIONS`.
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
