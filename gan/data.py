"""The real images: batch k of a run is a pure function of (seed, k).

    python -m gan.data check --row=cifar10/biggan_small/evonorm_s0

looks at a data set before training.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from gan import architectures, stream
from gan.experiment import Data, Model
from training import commands, datasets
from training.images import batches, readers
from training.images.order import ALONE, Order, Share

_MEMORY_LIMIT = 2**31  # bytes of decoded images
# A JPEG's pixels hang on the decoder: by up to 17 of 255 on its DCT alone.
_DECODED = "JPEG (accurate DCT)"


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of images in memory.

    Attributes:
      name: data set, split and how the pixels were made, for reports.
      pixels: [n, S, S, 3], uint8.
      labels: [n], int32.
      classes: labels are below it.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of an image, either way."""
        return self.pixels.shape[1]

    @property
    def reader(self) -> readers.Indexed:
        """Gives the images' indices."""
        return readers.Indexed(len(self))

    def decode(
        self, numbers: tf.Tensor, indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Pixels [n, S, S, 3], uint8, and labels [n] of a batch at once."""
        del numbers  # Nothing is drawn.
        pixels, labels = tf.constant(self.pixels), tf.constant(self.labels)
        return tf.gather(pixels, indices), tf.gather(labels, indices)

    def in_order(
        self, batch: int, share: Share = ALONE
    ) -> Iterator[np.ndarray]:
        """A share of each `batch` pixels in turn, [n, S, S, 3], uint8.

        All once; of several shares the last batch is filled.
        """
        each = batch // share.pipelines
        begin = share.pipeline * each
        for first in range(0, len(self), batch):
            places = np.arange(first, first + batch)
            if share == ALONE:
                places = places[places < len(self)]
            yield self.pixels[places[begin : begin + each] % len(self)]


Source = Images | stream.Stream


def to_float(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 to [-1, 1], what the networks see."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """[-1, 1] to uint8: made images are measured with the grain of real."""
    levels = tf.round((tf.convert_to_tensor(images) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)


def inputs(
    images: Source,
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
      start_step: the step that the run resumes from.
      context: which of several input pipelines this is. Each reads its own
        share, and a replica's images do not depend on how many there are.
    """
    context = context or tf.distribute.InputContext(1, 0, 1)
    order = Order(
        seed,
        batch * context.num_replicas_in_sync,
        getattr(images, "buffer", 1),
    )
    return batches.training(
        images.reader,
        images.decode,
        order,
        start_step,
        context,
        at_once=isinstance(images, Images),
        finish=lambda pixels, labels: (to_float(pixels), labels),
    )


def open_images(data: Data, model: Model, split: str = "") -> Source:
    """Opens a split of a data set, of the network's size and classes.

    Args:
      data: names the set.
      model: says which size and how many classes.
      split: instead of `data.split`.

    Raises:
      ValueError: no such data, or images or classes that do not fit.
    """
    side = architectures.get(model.architecture).resolution
    images = open_set(data, side, split)
    if images.side != side:
        raise ValueError(
            f"{model.architecture} makes images [{side}, {side}, 3]; those "
            f"of {data.dataset} are {images.side} px. Choose the architecture "
            f"of their size. Received: dataset={data.dataset!r}"
        )
    if images.classes != model.num_classes:
        raise ValueError(
            f"{data.dataset} has other classes than the model makes. Set "
            f"task.model.num_classes={images.classes}. "
            f"Received: num_classes={model.num_classes}"
        )
    return images


def open_set(data: Data, side: int, split: str = "") -> Source:
    """Opens a split of a data set.

    Args:
      data: names the set.
      side: pixels that images of no fixed size are brought to.
      split: instead of `data.split`.

    Raises:
      ValueError: no such data, or labels that cannot be.
    """
    split = split or data.split
    if not data.dataset:
        raise ValueError(
            "No data set is named. Give a recipe, such as "
            "--config_file=configs/gan/cifar10.yaml, or "
            "task.train_data.dataset."
        )
    if data.dataset == "digits":
        return _digits(split, side)
    if data.dataset == "jpeg_digits":
        content, labels = datasets.jpeg_digits(split)
        reader = readers.Listed(tf.constant(content), tf.constant(labels))
        return stream.Stream(
            _named("jpeg_digits", split, side), reader, side, 10
        )
    return _tfds(data, split, side)


def _named(name: str, split: str, side: int) -> str:
    return f"{name}/{split}, {_DECODED}, centre square, area to {side} px"


def _digits(split: str, side: int) -> Images:
    scans, labels = datasets.digits(split)
    pixels = tf.image.resize(scans, (side, side)).numpy().round()
    pixels = np.repeat(pixels.astype(np.uint8), 3, axis=-1)
    return Images(f"digits/{split}, bilinear to {side} px", pixels, labels, 10)


def _tfds(data: Data, split: str, side: int) -> Source:
    """A TFDS set: in memory where its images share a size and fit."""
    builder, examples = datasets.tfds_builder(
        data.dataset, split, data.tfds_data_dir
    )
    name, features = builder.info.full_name, builder.info.features
    shape, classes = features["image"].shape, features["label"].num_classes
    if None in shape or examples * np.prod(shape) > _MEMORY_LIMIT:
        reader = readers.Shards(
            tuple(datasets.tfds_shards(builder, split)),
            functools.partial(datasets.tfds_parse, builder),
        )
        name, buffer = _named(name, split, side), data.shuffle_buffer_size
        return stream.Stream(name, reader, side, classes, buffer)
    if shape[0] != shape[1] or shape[2] != 3:
        raise ValueError(
            "Images must be square and have three channels. Received: "
            f"dataset={data.dataset!r} of {list(shape)}"
        )
    pixels, labels = datasets.in_memory(builder, split, examples)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{name} has labels outside its {classes} classes; prepare it "
            f"anew. Received: labels {labels.min()} to {labels.max()}"
        )
    name = f"{name}/{split}, {_encoding(builder, split)}"
    return Images(name, pixels, labels, classes)


def _encoding(builder: Any, split: str) -> str:
    """How the images are stored: JPEG alone moves a distance a lot."""
    import tensorflow_datasets as tfds  # Only TFDS sets need it.

    stored = builder.as_dataset(
        split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    start = next(iter(stored))["image"].numpy()[:4]
    known = {b"\xff\xd8": _DECODED, b"\x89P": "PNG"}
    return known.get(start[:2], f"unknown encoding {start!r}")


def _main() -> None:
    from gan import check  # It imports what is above.

    verbs = {"check": check.main}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit("Usage: python -m gan.data check --help")
    with commands.messages():
        sys.exit(verbs[sys.argv[1]](sys.argv[2:]))


if __name__ == "__main__":
    _main()
