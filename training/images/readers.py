"""Readers of image files and labels, and their order.

A reader has `examples`; `training` and `evaluation`, which yield this input
pipeline's share of the examples as elements that are not read yet; and `read`,
which turns an element into a record: (content, label, name), or what its parser
returns for an example. The order of training is a function of (seed, epoch): a
resumed run reads the same as an uninterrupted one, on any number of hosts.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf import files
from training.images.order import FOREVER, Order, Share, shuffled

_SHARDS_AT_ONCE = 16
_RECORDS_IN_TURN = 16
# More shards at once would improve neither shuffling nor speed.
_MOST_LANES = 128

Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
_as_written = tf.autograph.experimental.do_not_convert


def label_inside(
    label: tf.Tensor, classes: int, name: tf.Tensor, settings: str
) -> tf.Tensor:
    """Returns the label, int32, with an error unless it is a valid class.

    Such an example would otherwise be trained silently.

    Args:
      label: a scalar.
      classes: number of classes.
      name: a scalar string, name of the example in errors.
      settings: settings to change instead of fixing the label.
    """
    label = tf.cast(label, tf.int64)
    message = tf.strings.join(
        [
            "A label is outside the classes, 0 to ",
            f"{classes - 1}: of ",
            name,
            f". Fix it, or set {settings}. Received: label=",
            tf.strings.as_string(label),
        ]
    )
    valid = tf.logical_and(label >= 0, label < classes)
    check = tf.debugging.Assert(valid, [message])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.cast(label, tf.int32)


class _Whole:
    """A known number of examples, shuffled as a whole."""

    examples: int

    def training(
        self, order: Order, start_step: int, share: Share
    ) -> tf.data.Dataset:
        """Yields (index,) of each example of this share, without end."""
        first, skipped = divmod(start_step * order.batch, self.examples)

        @_as_written
        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(
                shuffled(self.examples, order.seed, number)
            )

        indices = tf.data.Dataset.range(first, FOREVER).flat_map(epoch)
        return share.of_batches(indices.skip(skipped), order.batch).map(
            _as_written(lambda index: (index,))
        )

    def evaluation(self, batch: int, share: Share) -> tf.data.Dataset:
        """Yields (index,) of this share, padded to full batches."""
        first, last = share.of_evaluation(self.examples, batch)
        places = np.arange(first, last)
        return tf.data.Dataset.from_tensor_slices(
            (np.where(places < self.examples, places, 0),)
        )

    def in_order(self) -> tf.data.Dataset:
        """Yields (index,) of each example once."""
        return self.evaluation(1, Share())


@dataclasses.dataclass(frozen=True)
class Indexed(_Whole):
    """Examples in memory, which are gathered by index.

    Attributes:
      examples: number of examples.
    """

    examples: int

    def identity(self) -> str:
        """Returns what identifies the examples."""
        return f"{self.examples} examples in memory"

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Returns the record of an element: the index itself."""
        return index


@dataclasses.dataclass(frozen=True)
class Listed(_Whole):
    """Image files, by path or by content.

    Attributes:
      images: [n] strings, paths or content, as tensors, because arrays would
        become part of a function's graph.
      labels: [n], int32.
      are_paths: whether they are paths.
    """

    images: tf.Tensor
    labels: tf.Tensor
    are_paths: bool = False

    @property
    def examples(self) -> int:
        """Returns the number of examples."""
        return len(self.labels)

    def identity(self) -> str:
        """Returns what identifies the examples, wherever the files are."""
        names = self.images.numpy().tolist()
        if self.are_paths:
            names = [b"/".join(name.split(b"/")[-2:]) for name in names]
        else:
            names = [str(len(name)).encode() for name in names]
        labels = np.asarray(self.labels).tobytes()
        return f"{self.examples} images, {_digest([*names, labels])}"

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns (content, label, name) of an element."""
        image, label = self.images[index], self.labels[index]
        if self.are_paths:
            return tf.io.read_file(image), label, image
        name = tf.strings.join(["image ", tf.strings.as_string(index)])
        return image, label, name


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a TFRecord file.

    Attributes:
      path: the file.
      take: number of records to read.
      skip: number of records before them.
    """

    path: str
    take: int
    skip: int = 0


@dataclasses.dataclass(frozen=True)
class Shards:
    """Records in TFRecord files.

    In training, an epoch concatenates the shards in an order of its own and
    cuts them into lanes; a global batch takes the same number of records from
    each lane. With k input pipelines, each has a contiguous k-th of the lanes,
    so it opens about one k-th of the shards, and the batch is the same for any
    k. Records are shuffled within a lane, with its part of the buffer.

    Attributes:
      shards: the records.
      parse: maps a serialized example to the record without the name.
    """

    shards: tuple[Shard, ...]
    parse: Callable[[tf.Tensor], Any]

    @property
    def examples(self) -> int:
        """Returns the number of examples."""
        return sum(shard.take for shard in self.shards)

    def identity(self) -> str:
        """Returns what identifies the records, wherever the files are."""
        parts = [
            f"{files.name(one.path)} {one.skip} {one.take}".encode()
            for one in self.shards
        ]
        return (
            f"{self.examples} records in {len(parts)} shards, {_digest(parts)}"
        )

    def lanes(self, batch: int) -> int:
        """Returns the number of lanes of a global batch.

        Each pipeline reads only its own share if their number divides it. It is
        the common divisor of shards and batch that has the most divisors.
        """
        shards = len(self.shards)
        common = [
            n
            for n in range(1, min(shards, batch, _MOST_LANES) + 1)
            if shards % n == batch % n == 0
        ]

        def divisors(n: int) -> int:
            return sum(n % k == 0 for k in range(1, n + 1))

        return max(common, key=lambda n: (divisors(n), n))

    def training(
        self, order: Order, start_step: int, share: Share
    ) -> tf.data.Dataset:
        """Yields (serialized, file, index in the file) without end."""
        lanes = self.lanes(order.batch)
        own = share if lanes % share.pipelines == 0 else Share()
        if own != share:
            share.say_that_all_is_read(len(self.shards), order.batch)
        first, count = own.pipeline * lanes // own.pipelines, lanes
        count //= own.pipelines
        stream = tf.data.Dataset.range(first, first + count).interleave(
            _Lanes(self, order, lanes, start_step).stream,
            cycle_length=count,
            block_length=order.batch // lanes,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return stream if own == share else share.of_batches(stream, order.batch)

    def evaluation(self, batch: int, share: Share) -> tf.data.Dataset:
        """Like `training`, once, padded to full batches with the first."""
        first, last = share.of_evaluation(self.examples, batch)
        ends = np.cumsum([shard.take for shard in self.shards])
        parts = []
        for shard, end in zip(self.shards, ends.tolist()):
            begin = end - shard.take
            skip = min(max(first - begin, 0), shard.take)
            stop = min(max(last - begin, 0), shard.take)
            if stop > skip:
                parts.append((shard.path, shard.skip + skip, stop - skip))
        missing = last - first - sum(take for _, _, take in parts)
        shard = next(shard for shard in self.shards if shard.take)
        fill = _read(shard.path, shard.skip, 1).repeat(missing)
        if not parts:
            return fill
        at_once = min(len(parts), _SHARDS_AT_ONCE)
        found = _read_in_turns(tuple(map(list, zip(*parts))), at_once)
        return found.concatenate(fill)

    def in_order(self) -> tf.data.Dataset:
        """Yields (serialized, file, index in the file) of each record once.

        Several files are read in turns of a few records.
        """
        return self.evaluation(1, Share())

    def read(
        self, serialized: tf.Tensor, file: tf.Tensor, index: tf.Tensor
    ) -> tuple[Any, ...]:
        """Returns the record of an element, its name last."""
        index = tf.strings.as_string(index)
        name = tf.strings.join(["record ", index, " of ", file])
        return *self.parse(serialized), name


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


class _Lanes:
    """The lanes of one order of shards."""

    def __init__(
        self, reader: Shards, order: Order, lanes: int, start_step: int
    ):
        shards = reader.shards
        self._paths = tf.constant([shard.path for shard in shards])
        self._skips = tf.constant([shard.skip for shard in shards], tf.int64)
        self._takes = tf.constant([shard.take for shard in shards], tf.int64)
        self._examples, self._order = reader.examples, order
        self._lanes, self._start = lanes, start_step * order.batch
        self._buffer = max(order.buffer // lanes, 1)
        # With few lanes, each reads several shards at once.
        self._at_once = min(
            -(-len(shards) // lanes), max(_SHARDS_AT_ONCE // lanes, 1)
        )

    def _taken(self, examples: tf.Tensor) -> tf.Tensor:
        """Returns [lanes], how many of the first examples each lane has."""
        batch, lanes = self._order.batch, tf.range(self._lanes, dtype=tf.int64)
        each = batch // self._lanes
        inside = tf.clip_by_value(examples % batch - lanes * each, 0, each)
        return examples // batch * each + inside

    @_as_written
    def stream(self, lane: tf.Tensor) -> tf.data.Dataset:
        """Yields a lane from the start step on."""
        first = self._start // self._examples
        epochs = tf.data.Dataset.range(first, FOREVER)
        stream = epochs.flat_map(
            _as_written(lambda number: self._epoch(lane, number))
        )
        begin = tf.constant(first * self._examples, tf.int64)
        start = tf.constant(self._start, tf.int64)
        return stream.skip((self._taken(start) - self._taken(begin))[lane])

    def _epoch(self, lane: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        """Yields a lane's part of an epoch."""
        begin = number * self._examples
        counts = self._taken(begin + self._examples) - self._taken(begin)
        last = tf.cumsum(counts)[lane]
        first = last - counts[lane]
        seed = self._order.seed
        order = shuffled(self._takes.shape[0], seed, number)
        takes = tf.gather(self._takes, order)
        begins = tf.cumsum(takes, exclusive=True)
        skip = tf.clip_by_value(first - begins, 0, takes)
        take = tf.clip_by_value(last - begins, 0, takes) - skip
        mine = tf.where(take > 0)[:, 0]
        order, skip, take = (tf.gather(x, mine) for x in (order, skip, take))
        parts = (
            tf.gather(self._paths, order),
            tf.gather(self._skips, order) + skip,
            take,
        )
        found = _read_in_turns(parts, self._at_once)
        # The seed of this function's graph, so that the order is independent
        # of the global seed; TensorFlow cannot add a tensor to a global 0.
        tf.random.set_seed(1)
        return found.shuffle(
            self._buffer,
            seed=(seed * 1_000_003 + number) * self._lanes + lane,
            reshuffle_each_iteration=False,
        )


def _read_in_turns(parts: tuple[Any, ...], at_once: int) -> tf.data.Dataset:
    """Yields the records of parts of files: paths, skips and takes."""
    return tf.data.Dataset.from_tensor_slices(parts).interleave(
        _read,
        cycle_length=at_once,
        block_length=_RECORDS_IN_TURN,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


# Not converted by AutoGraph, whose integer constants would be int32.
@_as_written
def _read(path: Any, skip: Any, take: Any) -> tf.data.Dataset:
    """Yields (serialized, file, index in the file) of a file's records."""
    skip, take = tf.cast(skip, tf.int64), tf.cast(take, tf.int64)
    content = tf.data.TFRecordDataset(path).skip(skip).take(take)
    # A truncated file would shift every later epoch.
    content = content.apply(tf.data.experimental.assert_cardinality(take))
    places = tf.data.Dataset.range(skip, tf.int64.max)
    names = tf.data.Dataset.from_tensors(path).repeat()
    return tf.data.Dataset.zip((content, names, places))
