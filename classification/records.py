"""Encoded images: files of records, image files, or bytes in memory.

Each reader gives the records of an epoch, unread as far as that goes, in an
order that depends on seed and epoch alone, and turns one into (encoded,
label, name). What a resumed run skips is never read further than its order
needs: bytes at most, never pixels.
"""

import dataclasses
import struct
from collections.abc import Callable

import tensorflow as tf

from classification.settings import Data
from training import encoded

# Of a TFRecord: length, its checksum; the record's checksum.
_HEAD, _TAIL = 12, 4
_GZIP = b"\x1f\x8b"

Record = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a TFRecord file.

    Attributes:
      path: the file.
      skip: its records left out at the beginning.
      take: its records after that; -1 for all.
    """

    path: str
    skip: int = 0
    take: int = -1


@dataclasses.dataclass(frozen=True)
class Shards:
    """Records in TFRecord files.

    Shuffled in the order of the files and, within a buffer, of the records.

    Attributes:
      shards: where they are.
      parse: from a serialized example to (encoded image, label).
      examples: how many in all; reading other than that many is an error.
    """

    shards: tuple[Shard, ...]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    examples: int

    def epoch(self, config: Data, number: tf.Tensor) -> tf.data.Dataset:
        """(serialized, file, index in the file) of each, in this order."""
        shards = [dataclasses.astuple(shard) for shard in self.shards]
        return encoded.records(
            shards,
            self.examples,
            config.seed,
            number if config.is_training else None,
            config.shuffle_buffer_size,
        )

    def read(
        self, serialized: tf.Tensor, file: tf.Tensor, index: tf.Tensor
    ) -> Record:
        """One record of `epoch`'s."""
        image, label = self.parse(serialized)
        return image, label, encoded.record_name(file, index)


@dataclasses.dataclass(frozen=True)
class Listed:
    """Images of known number: files, or their bytes.

    Shuffled whole.

    Attributes:
      images: [n] strings, paths or bytes: tensors, for a function that uses
        an array makes it part of its graph.
      labels: [n], int32.
      are_paths: which of the two.
    """

    images: tf.Tensor
    labels: tf.Tensor
    are_paths: bool

    @property
    def examples(self) -> int:
        """How many."""
        return len(self.labels)

    def epoch(self, config: Data, number: tf.Tensor) -> tf.data.Dataset:
        """The index of each, in the order of this epoch."""
        return tf.data.Dataset.from_tensor_slices(
            (order(self.examples, config, number),)
        )

    def read(self, index: tf.Tensor) -> Record:
        """One record of `epoch`'s."""
        image, label = self.images[index], self.labels[index]
        if self.are_paths:
            return tf.io.read_file(image), label, image
        name = tf.strings.join(["image ", tf.strings.as_string(index)])
        return image, label, name


Reader = Shards | Listed


def order(examples: int, config: Data, number: tf.Tensor) -> tf.Tensor:
    """0 to examples - 1, int64, shuffled by (seed, epoch) in training."""
    shuffled = number if config.is_training else None
    return encoded.order(examples, config.seed, shuffled)


def count(path: str) -> int:
    """Number of records in a TFRecord file, from their lengths.

    Raises:
      ValueError: the file ends within a record.
    """
    size = tf.io.gfile.stat(path).length
    place = records = 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while place < size:
            file.seek(place)
            head = file.read(_HEAD)
            if len(head) == _HEAD:
                place += _HEAD + struct.unpack("<Q", head[:8])[0] + _TAIL
            if not records and head.startswith(_GZIP):
                raise ValueError(
                    "A TFRecord file is compressed by gzip. Unpack it first, "
                    f"with gunzip or zcat. Received: path={path!r}"
                )
            if len(head) < _HEAD or place > size:
                raise ValueError(
                    f"{path} is no whole TFRecord file: it ends within a "
                    "record. Copy it again, or remove it. "
                    f"Received: record={records}, bytes={size}"
                )
            records += 1
    return records


def imagenet_parser(
    label_offset: int,
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Of the standard layout: image/encoded and image/class/label."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(serialized):
        row = tf.io.parse_single_example(serialized, features)
        return row["image/encoded"], row["image/class/label"] - label_offset

    return parse
