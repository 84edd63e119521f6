"""Image files decoded while training: a set that does not fit in memory.

The preprocessing is BigGAN's: the centre square of the shorter side, brought
to the network's size by averaging areas (arXiv:1809.11096, appendix C).
"""

import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

_SHARDS_AT_ONCE = 16
_RECORDS_IN_TURN = 16
_as_written = tf.autograph.experimental.do_not_convert


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
        paths, skips, takes = map(tf.constant, zip(*self.shards))
        # Not converted: TensorFlow's constants of ints are int32.
        skips, takes = tf.cast(skips, tf.int64), tf.cast(takes, tf.int64)

        def read(shard: tf.Tensor) -> tf.data.Dataset:
            path, skip = paths[shard], skips[shard]
            records = tf.data.TFRecordDataset(path)
            records = records.skip(skip).take(takes[shard])
            places = tf.data.Dataset.range(skip, tf.int64.max)
            files = tf.data.Dataset.from_tensors(path).repeat()
            return tf.data.Dataset.zip((records, files, places))

        dataset = tf.data.Dataset.from_tensor_slices(
            _order(len(self.shards), seed, number)
        ).interleave(
            read,
            cycle_length=min(len(self.shards), _SHARDS_AT_ONCE),
            block_length=_RECORDS_IN_TURN,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # A file that has grown or shrunk would shift every epoch after it.
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(self.examples)
        )
        if number is not None:
            # The order must not hang on the global seed.
            tf.random.set_seed(1)
            dataset = dataset.shuffle(
                self.buffer,
                seed=seed * 1_000_003 + number,
                reshuffle_each_iteration=False,
            )

        def named(record: tf.Tensor, file: tf.Tensor, place: tf.Tensor):
            encoded, label = self.parse(record)
            place = tf.strings.as_string(place)
            name = tf.strings.join(["record ", place, " of ", file])
            return encoded, label, name

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

        order = _order(self.examples, seed, number)
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

        def read(encoded: tf.Tensor, label: tf.Tensor, name: tf.Tensor):
            label = tf.cast(label, tf.int32)
            return centre(encoded, name, self.side), label

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


def centre(encoded: tf.Tensor, name: tf.Tensor, side: int) -> tf.Tensor:
    """The centre square of an image, [side, side, 3], uint8.

    Args:
      encoded: a scalar string, the file's bytes.
      name: a scalar string, what an error calls the image.
      side: in pixels.
    """

    def jpeg() -> tf.Tensor:
        square = _square(tf.image.extract_jpeg_shape(encoded))
        return tf.image.decode_and_crop_jpeg(encoded, square, channels=3)

    def other() -> tf.Tensor:
        pixels = tf.numpy_function(_pillow, [encoded, name], tf.uint8)
        pixels.set_shape([None, None, 3])
        top, left, height, width = tf.unstack(_square(tf.shape(pixels)))
        return pixels[top : top + height, left : left + width]

    # TensorFlow's own error would not say which of a million images it was:
    # what is no whole JPEG file goes through Pillow.
    length = tf.strings.length(encoded)
    begins = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    ends = tf.strings.substr(encoded, tf.maximum(length - 2, 0), 2)
    pixels = tf.cond(begins & (ends == b"\xff\xd9"), jpeg, other)
    pixels = tf.image.resize(pixels, (side, side), "area")
    return tf.cast(tf.round(pixels), tf.uint8)


def _square(shape: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of the largest square in the middle."""
    side = tf.minimum(shape[0], shape[1])
    return tf.stack(
        [(shape[0] - side) // 2, (shape[1] - side) // 2, side, side]
    )


def _order(examples: int, seed: int, number: tf.Tensor | None) -> tf.Tensor:
    indices = tf.range(examples, dtype=tf.int64)
    if number is None:
        return indices
    return tf.random.experimental.stateless_shuffle(
        indices, seed=tf.stack([tf.constant(seed, tf.int64), number])
    )


def _pillow(encoded: bytes | np.ndarray, name: bytes | np.ndarray):
    # In a graph they are bytes, outside of one arrays.
    encoded, name = (np.asarray(x, object).item() for x in (encoded, name))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    # What Pillow raises on broken files, SyntaxError by its PNG reader.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"{name.decode(errors='replace')} is no image that can be "
            f"decoded ({error}). Mend or remove it. Received: "
            f"{len(encoded)} bytes, the first {encoded[:8]!r}"
        ) from error
