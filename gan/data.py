"""The real images: batch k of a run is a pure function of (seed, k)."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf.training import datasets
from gan import architectures
from gan.experiment import Data, Model

_FOREVER = np.iinfo(np.int64).max
_MEMORY_LIMIT = 2**31  # bytes of decoded images


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of images in memory.

    Attributes:
      name: data set, split and how the pixels were made, for reports.
      pixels: [n, S, S, 3], uint8.
      labels: [n], int32.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def to_float(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 to [-1, 1], what the networks see."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """[-1, 1] to uint8: made images are measured with the grain of real."""
    levels = tf.round((tf.convert_to_tensor(images) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)


def inputs(
    images: Images,
    seed: int,
    batch: int,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of (images in [-1, 1], labels), for ever, each a replica's.

    Every epoch has its own order, a function of its number.

    Args:
      images: what there is.
      seed: of the order.
      batch: images of one step on one replica.
      start_step: the step that the run goes on from.
      context: which of several input pipelines this is.
    """
    context = context or tf.distribute.InputContext(1, 0, 1)
    replicas = context.num_replicas_in_sync
    here = replicas // context.num_input_pipelines
    first, skipped = divmod(start_step * replicas * batch, len(images))
    pixels, labels = tf.constant(images.pixels), tf.constant(images.labels)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(images)), seed=tf.stack([seed, number])
        )
        return tf.data.Dataset.from_tensor_slices(order)

    def is_here(number: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return number % replicas // here == context.input_pipeline_id

    def load(_: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return to_float(tf.gather(pixels, index)), tf.gather(labels, index)

    stream = tf.data.Dataset.range(first, _FOREVER).flat_map(epoch)
    stream = stream.skip(skipped).batch(batch, drop_remainder=True)
    # Each step's batches, a replica's each, are dealt out to the pipelines.
    stream = stream.enumerate().filter(is_here)
    stream = stream.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return stream.prefetch(tf.data.AUTOTUNE)


def open_images(data: Data, model: Model, split: str = "") -> Images:
    """Opens a split of a data set, decoded and of the network's size.

    Args:
      data: names the set.
      model: says which size and how many classes.
      split: instead of `data.split`.

    Raises:
      ValueError: no such data, or images or labels that do not fit.
    """
    split = split or data.split
    side = architectures.get(model.architecture).resolution
    if not data.dataset:
        raise ValueError(
            "No data set is named. Give a recipe, such as "
            "--config_file=configs/gan/cifar10.yaml, or "
            "task.train_data.dataset."
        )
    if data.dataset == "digits":
        images = _digits(split, side)
    else:
        images = _tfds(data, split)
    shape = images.pixels.shape[1:]
    if shape != (side, side, 3):
        raise ValueError(
            f"{model.architecture} makes images [{side}, {side}, 3]; those "
            f"of {data.dataset} are {list(shape)}. Choose the architecture "
            f"of their size. Received: dataset={data.dataset!r}"
        )
    classes = int(images.labels.max()) + 1
    if images.labels.min() < 0 or classes > model.num_classes:
        raise ValueError(
            f"{data.dataset} has labels outside the model's classes, 0 to "
            f"{model.num_classes - 1}. Set task.model.num_classes={classes}. "
            f"Received: labels {images.labels.min()} to {classes - 1}"
        )
    return images


def _digits(split: str, side: int) -> Images:
    scans, labels = datasets.digits(split)
    pixels = tf.image.resize(scans, (side, side)).numpy().round()
    pixels = np.repeat(pixels.astype(np.uint8), 3, axis=-1)
    return Images(f"digits/{split}, bilinear to {side} px", pixels, labels)


def _tfds(data: Data, split: str) -> Images:
    """A TFDS set whose images share one size, as its files decode."""
    builder, examples = datasets.tfds_builder(
        data.dataset, split, data.tfds_data_dir
    )
    shape = builder.info.features["image"].shape
    if None in shape or examples * np.prod(shape) > _MEMORY_LIMIT:
        raise ValueError(
            "Images must share one size and fit in memory, "
            f"{_MEMORY_LIMIT / 2**30:g} GiB. Received: "
            f"dataset={data.dataset!r}, {examples} images of {shape}"
        )
    pixels, labels = datasets.in_memory(builder, split, examples)
    name = f"{builder.info.full_name}/{split}, {_encoding(builder, split)}"
    return Images(name, pixels, labels)


def _encoding(builder: Any, split: str) -> str:
    """How the images are stored: JPEG alone moves a distance a lot."""
    import tensorflow_datasets as tfds  # Only TFDS sets need it.

    stored = builder.as_dataset(
        split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    start = next(iter(stored))["image"].numpy()[:4]
    known = {b"\xff\xd8": "JPEG", b"\x89P": "PNG"}
    return known.get(start[:2], f"unknown encoding {start!r}")
