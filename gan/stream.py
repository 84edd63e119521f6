"""Image files decoded while training: a set that does not fit in memory.

The preprocessing is BigGAN's: the centre square of the shorter side, brought
to the network's size by averaging areas (arXiv:1809.11096, appendix C).
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from training import encoded
from training.images import decoding

_as_written = tf.autograph.experimental.do_not_convert
_ADVICE = "Fix or remove it; `python -m gan.data check` finds all such."


@dataclasses.dataclass(frozen=True)
class Shards:
    """Records in TFRecord files.

    Attributes:
      shards: of each file its path, records to skip, records to take.
      parse: from a serialized example to (encoded image, label).
      examples: how many in all.
      buffer: records that are shuffled among each other.
    """

    shards: tuple[tuple[str, int, int], ...]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    examples: int
    buffer: int

    def epoch(self, seed: int, number: tf.Tensor | None) -> tf.data.Dataset:
        """(encoded, label, name) of each record, in the order of an epoch.

        Args:
          seed: of the order.
          number: of the epoch; None for the order of the files.
        """
        dataset = encoded.records(
            self.shards, self.examples, seed, number, self.buffer
        )

        def named(record: tf.Tensor, file: tf.Tensor, place: tf.Tensor):
            image, label = self.parse(record)
            return image, label, encoded.record_name(file, place)

        return dataset.map(_as_written(named))


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Image files in memory.

    Attributes:
      files: their bytes.
      labels: [n], int32.
    """

    files: list[bytes]
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """How many."""
        return len(self.files)

    def epoch(self, seed: int, number: tf.Tensor | None) -> tf.data.Dataset:
        """As `Shards.epoch`."""
        files, labels = tf.constant(self.files), tf.constant(self.labels)

        def named(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            name = tf.strings.join(["image ", tf.strings.as_string(index)])
            return files[index], labels[index], name

        order = encoded.order(self.examples, seed, number)
        dataset = tf.data.Dataset.from_tensor_slices(order)
        return dataset.map(_as_written(named))


@dataclasses.dataclass(frozen=True)
class Stream:
    """A set of images that are read as they are needed.

    Attributes:
      name: data set, split and how the pixels were made, for reports.
      reader: gives the files' bytes.
      side: pixels of an image, either way.
      classes: labels are below it.
    """

    name: str
    reader: Shards | Encoded
    side: int
    classes: int

    def __len__(self) -> int:
        return self.reader.examples

    def epoch(self, seed: int, number: tf.Tensor) -> tf.data.Dataset:
        """Every image's (encoded, label, name), in the order of an epoch."""
        return self.reader.epoch(seed, number)

    def load(self, stream: tf.data.Dataset, batch: int) -> tf.data.Dataset:
        """Batches of `epoch`'s elements as (pixels, labels).

        Returns:
          Of [batch, S, S, 3], uint8, and [batch], int32.
        """

        def read(image: tf.Tensor, label: tf.Tensor, name: tf.Tensor):
            label = tf.cast(label, tf.int32)
            return centre(image, name, self.side), label

        stream = stream.unbatch().map(
            _as_written(read), num_parallel_calls=tf.data.AUTOTUNE
        )
        return stream.batch(batch, drop_remainder=True)

    def in_order(self, batch: int) -> Iterator[np.ndarray]:
        """All pixels once, [at most batch, S, S, 3], uint8."""
        stream = self.reader.epoch(0, None).map(
            _as_written(lambda image, _, name: centre(image, name, self.side)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        yield from stream.batch(batch).prefetch(2).as_numpy_iterator()


def centre(image: tf.Tensor, name: tf.Tensor, side: int) -> tf.Tensor:
    """The centre square of an image, [side, side, 3], uint8.

    Args:
      image: a scalar string, the file's bytes.
      name: a scalar string, what an error calls the image.
      side: in pixels.
    """
    pixels = decoding.window(image, name, _square, _ADVICE)
    pixels = tf.image.resize(pixels, (side, side), "area")
    return tf.cast(tf.round(pixels), tf.uint8)


def _square(shape: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of the largest square in the middle."""
    side = tf.minimum(shape[0], shape[1])
    return tf.stack(
        [(shape[0] - side) // 2, (shape[1] - side) // 2, side, side]
    )
