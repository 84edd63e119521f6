"""Decodes and augments examples, from files or memory.

The random numbers of an example that is decoded by itself are functions of the
seed and of its number in the run, and so is RandAugment. Images in memory are
cropped and flipped a replica's batch at a time: these numbers are functions of
the seed, of the number of the batch's first example, and of the place in the
batch, so they depend on the number of replicas, but not on that of the hosts.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from classification import augment, garden, randaugment
from classification.settings import Data
from training.images import decoding, readers
from training.images.sources import Files, Memory, Source

_ADVICE = (
    "Fix or remove it; `python -m classification.data check` finds all of them."
)
_SETTINGS = "task.model.num_classes or label_offset"
Decode = Callable[..., tuple[tf.Tensor, ...]]


def decoder(source: Source, config: Data) -> Decode:
    """Returns f(number, record) to (number, image [H, W, C] uint8, label).

    For images in memory it takes a whole batch at once.
    """
    if isinstance(source, Memory):
        return _from_memory(source, config)
    return _from_files(source, config)


def _from_memory(source: Memory, config: Data) -> Decode:
    images, known = source.tensors()

    def load(numbers: tf.Tensor, indices: tf.Tensor):
        pixels = tf.gather(images, indices)
        pixels = tf.ensure_shape(pixels, [numbers.shape[0], *source.shape])
        if config.is_training:
            seed = tf.stack([config.seed, numbers[0]])
            pixels = pad_crop_flip(pixels, config.augmentation, seed)
        if config.is_training and config.randaugment_layers:
            pixels = tf.map_fn(
                lambda one: _rand_augment(one[0], config, one[1]),
                (pixels, numbers),
                fn_output_signature=tf.TensorSpec(source.shape, tf.uint8),
            )
        return numbers, pixels, tf.gather(known, indices)

    return load


def _from_files(source: Files, config: Data) -> Decode:
    augmented = config.is_training and config.augmentation != "none"
    choose = functools.partial(augment.center_window, size=source.size)

    def load(number, encoded, label, name):
        label = readers.label_inside(label, source.classes, name, _SETTINGS)
        if augmented:
            image = _random_part(encoded, name, source.size, config, number)
        else:
            image = decoding.window(encoded, name, choose, _ADVICE)
            image = augment.resize(image, source.size)
        image = tf.ensure_shape(image, source.shape)
        if config.is_training and config.randaugment_layers:
            image = _rand_augment(image, config, number)
        return number, image, label

    return load


def _random_part(encoded, name, size, config, number):
    seed = tf.stack([config.seed, number])
    seeds = tf.random.experimental.stateless_split(seed, 2)
    choose = functools.partial(augment.inception_window, seed=seeds[0])
    image = decoding.window(encoded, name, choose, _ADVICE)
    image = augment.resize(image, size)
    if config.augmentation == "crop_flip":
        image = augment.random_flip_one(image, seeds[1])
    return image


def pad_crop_flip(images: tf.Tensor, kind: str, seed: tf.Tensor) -> tf.Tensor:
    """Applies CIFAR's augmentation: padding of 4 pixels on 32, in proportion.

    Args:
      images: [N, H, W, C].
      kind: one of `datasets.AUGMENTATIONS`.
      seed: [2], integers; one for all images.
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
        # A different seed than that of the crop.
        tf.random.experimental.stateless_fold_in(seed, 1),
        garden.OPERATIONS if config.augmenter == "official" else None,
    )
