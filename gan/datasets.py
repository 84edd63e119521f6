"""The real images: batch k of a run is a function of (seed, k).

Files are preprocessed as for BigGAN: the central square of the shorter side,
resized to the network's size by area averaging (arXiv:1809.11096, appendix C).
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from gan import architectures
from gan.experiment import Data, Model
from training.images import batches, decoding, readers, sources
from training.images.order import ALONE, Order, Share
from training.images.sources import Files, Memory, Source

_MEMORY_LIMIT = 2**31  # bytes of decoded images
# A JPEG's pixels depend on the decoder: by up to 17 of 255 on its DCT alone.
_DECODED = "JPEG (accurate DCT)"
_ADVICE = "Fix or remove it; `python -m gan.data check` finds all of them."
_as_written = tf.autograph.experimental.do_not_convert


def to_float(pixels: tf.Tensor) -> tf.Tensor:
    """Converts uint8 to [-1, 1], the range of the networks."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Converts [-1, 1] to uint8, the precision of real images."""
    levels = tf.round((tf.convert_to_tensor(images) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)


def inputs(
    images: Source,
    seed: int,
    batch: int,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns batches of (images in [-1, 1], labels) per replica, endlessly.

    Every epoch has its own order, a function of its number.

    Args:
      images: the dataset.
      seed: of the order.
      batch: images per step on one replica.
      start_step: the step from which the run resumes.
      context: identifies one of several input pipelines. Each reads its own
        share, and a replica's images do not depend on their number.
    """
    context = context or tf.distribute.InputContext(1, 0, 1)
    buffer = images.buffer if isinstance(images, Files) else 1
    order = Order(seed, batch * context.num_replicas_in_sync, buffer)
    return batches.training(
        images.reader,
        _decoder(images),
        order,
        start_step,
        context,
        at_once=isinstance(images, Memory),
        finish=lambda pixels, labels: (to_float(pixels), labels),
    )


def _decoder(images: Source) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Returns f(number, record) to pixels [S, S, 3] uint8 and label.

    For images in memory it takes a whole batch at once. Nothing is random.
    """
    if isinstance(images, Memory):
        pixels, labels = images.tensors()
        return lambda _, indices: (
            tf.gather(pixels, indices),
            tf.gather(labels, indices),
        )

    def load(_, image, label, name):
        label = readers.label_inside(
            label, images.classes, name, "task.model.num_classes"
        )
        return centre(image, name, images.size), label

    return load


def in_order(
    images: Source, batch: int, share: Share = ALONE
) -> Iterator[np.ndarray]:
    """Yields a share of each `batch` pixels in turn, [n, S, S, 3], uint8.

    All images once; with several shares the last batch is padded.

    Args:
      images: the dataset.
      batch: over all shares.
      share: identifies one of several input pipelines.
    """
    each, count = batch // share.pipelines, images.examples
    if isinstance(images, Memory):
        begin = share.pipeline * each
        for first in range(0, count, batch):
            places = np.arange(first, first + batch)
            if share == ALONE:
                places = places[places < count]
            yield images.images[places[begin : begin + each] % count]
        return

    def load(*element: tf.Tensor) -> tf.Tensor:
        image, _, name = images.reader.read(*element)
        return centre(image, name, images.size)

    elements = images.reader.in_order()
    if share != ALONE:
        fill = elements.take(1).repeat(-count % batch)
        elements = share.of_batches(elements.concatenate(fill), batch)
    stream = elements.map(
        _as_written(load), num_parallel_calls=tf.data.AUTOTUNE
    ).batch(each)
    yield from stream.prefetch(2).as_numpy_iterator()


def open_images(data: Data, model: Model, split: str = "") -> Source:
    """Opens a split of a dataset, with the network's size and classes.

    Args:
      data: names the dataset.
      model: defines size and number of classes.
      split: instead of `data.split`.

    Raises:
      ValueError: if the data do not exist, or images or classes do not match.
    """
    side = architectures.get(model.architecture).resolution
    images = open_set(data, side, split)
    if images.shape[0] != side:
        raise ValueError(
            f"{model.architecture} generates images [{side}, {side}, 3]; those "
            f"of {data.dataset} have {images.shape[0]} px. Choose the matching "
            f"architecture. Received: dataset={data.dataset!r}"
        )
    if images.classes != model.num_classes:
        raise ValueError(
            f"{data.dataset} has other classes than the model. Set "
            f"task.model.num_classes={images.classes}. "
            f"Received: num_classes={model.num_classes}"
        )
    return images


def open_set(data: Data, side: int, split: str = "") -> Source:
    """Opens a split of a dataset.

    Args:
      data: names the dataset.
      side: side in pixels to which images without a fixed size are resized.
      split: instead of `data.split`.

    Raises:
      ValueError: if the data do not exist or labels are invalid.
    """
    split = split or data.split
    if not data.dataset:
        raise ValueError(
            "No dataset is set. Choose a recipe, such as "
            "--config_file=configs/gan/cifar10.yaml, or "
            "task.train_data.dataset."
        )
    if data.dataset in ("digits", "jpeg_digits") and data.tfds_data_dir:
        raise ValueError(
            "tfds_data_dir is only for datasets of TFDS. Set dataset to one of "
            "them, or omit tfds_data_dir. Received: "
            f"dataset={data.dataset!r}, tfds_data_dir={data.tfds_data_dir!r}"
        )
    if data.dataset == "digits":
        return _digits(split, side)
    if data.dataset == "jpeg_digits":
        found = sources.open_jpeg_digits(split, side)
        name = _named("jpeg_digits", split, side)
        return dataclasses.replace(found, name=name)
    return _tfds(data, split, side)


def _named(name: str, split: str, side: int) -> str:
    return f"{name}/{split}, {_DECODED}, centre square, area to {side} px"


def _digits(split: str, side: int) -> Memory:
    scans, labels = sources.digits(split)
    pixels = tf.image.resize(scans, (side, side)).numpy().round()
    pixels = np.repeat(pixels.astype(np.uint8), 3, axis=-1)
    name = f"digits/{split}, bilinear to {side} px"
    return Memory(pixels, labels, 10, name=name)


def _tfds(data: Data, split: str, side: int) -> Source:
    """Opens a TFDS dataset, in memory if its images have one size and fit."""
    found = sources.open_tfds(
        data.dataset, split, data.tfds_data_dir, side, _MEMORY_LIMIT
    )
    builder, _ = sources.tfds_builder(data.dataset, split, data.tfds_data_dir)
    full_name = builder.info.full_name
    if isinstance(found, Files):
        name, buffer = _named(full_name, split, side), data.shuffle_buffer_size
        return dataclasses.replace(found, name=name, buffer=buffer)
    height, width, channels = found.shape
    if height != width or channels != 3:
        raise ValueError(
            "Images must be square and have three channels. Received: "
            f"dataset={data.dataset!r} of {list(found.shape)}"
        )
    low, high = found.labels.min(), found.labels.max()
    if low < 0 or high >= found.classes:
        raise ValueError(
            f"{full_name} has labels outside its {found.classes} classes; "
            f"prepare it again. Received: labels {low} to {high}"
        )
    name = f"{full_name}/{split}, {_encoding(builder, split)}"
    return dataclasses.replace(found, name=name)


def _encoding(builder: Any, split: str) -> str:
    """Returns how images are stored; JPEG alone changes distances a lot."""
    stored = sources.encoded(builder, split)
    start = next(iter(stored))["image"].numpy()[:4]
    known = {b"\xff\xd8": _DECODED, b"\x89P": "PNG"}
    return known.get(start[:2], f"unknown encoding {start!r}")


def centre(image: tf.Tensor, name: tf.Tensor, side: int) -> tf.Tensor:
    """Returns the central square of an image, [side, side, 3], uint8.

    Args:
      image: a scalar string, the file's bytes.
      name: a scalar string, name of the image in errors.
      side: in pixels.
    """
    pixels = decoding.window(image, name, _square, _ADVICE)
    pixels = tf.image.resize(pixels, (side, side), "area")
    return tf.cast(tf.round(pixels), tf.uint8)


def _square(shape: tf.Tensor) -> tf.Tensor:
    """Returns top, left, height and width of the central square."""
    side = tf.minimum(shape[0], shape[1])
    return tf.stack(
        [(shape[0] - side) // 2, (shape[1] - side) // 2, side, side]
    )
