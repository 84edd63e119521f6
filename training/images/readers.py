"""Where image files and their labels come from, and in which order.

A reader has `examples`; `training` and `evaluation`, which give this input
pipeline's share of the examples, as elements that are as unread as can be; and
`read`, which turns an element into a record: (content, label, name), or what
its parser makes of an example. The order of training is a function of (seed,
epoch): a run that resumes, on however many hosts, reads what the unbroken run
would have read.
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
# More shards at once would neither shuffle nor read better.
_MOST_LANES = 128

Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
_as_written = tf.autograph.experimental.do_not_convert


def label_inside(
    label: tf.Tensor, classes: int, name: tf.Tensor, settings: str
) -> tf.Tensor:
    """The label, int32, with an error where it is not 0 to classes - 1.

    Such an example would train silently.

    Args:
      label: a scalar.
      classes: how many there are.
      name: a scalar string, what an error calls the example.
      settings: what could be set instead of fixing the label.
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
    """Examples of known number, shuffled as a whole."""

    examples: int

    def training(
        self, order: Order, start_step: int, share: Share
    ) -> tf.data.Dataset:
        """(index,) of each example of this share, for ever."""
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
        """(index,) of each example of this share, filled to whole batches."""
        first, last = share.of_evaluation(self.examples, batch)
        places = np.arange(first, last)
        return tf.data.Dataset.from_tensor_slices(
            (np.where(places < self.examples, places, 0),)
        )

    def in_order(self) -> tf.data.Dataset:
        """(index,) of each example once."""
        return self.evaluation(1, Share())


@dataclasses.dataclass(frozen=True)
class Indexed(_Whole):
    """Examples in memory, for whoever gathers them by their index.

    Attributes:
      examples: how many.
    """

    examples: int

    def identity(self) -> str:
        """What tells the examples from others."""
        return f"{self.examples} examples in memory"

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """The record of an element: the index itself."""
        return index


@dataclasses.dataclass(frozen=True)
class Listed(_Whole):
    """Image files, by their paths or by their content.

    Attributes:
      images: [n] strings, paths or content: tensors, for a function that uses
        an array makes it part of its graph.
      labels: [n], int32.
      are_paths: which of the two.
    """

    images: tf.Tensor
    labels: tf.Tensor
    are_paths: bool = False

    @property
    def examples(self) -> int:
        """How many."""
        return len(self.labels)

    def identity(self) -> str:
        """What tells the examples from others; wherever the files are."""
        names = self.images.numpy().tolist()
        if self.are_paths:
            names = [b"/".join(name.split(b"/")[-2:]) for name in names]
        else:
            names = [str(len(name)).encode() for name in names]
        labels = np.asarray(self.labels).tobytes()
        return f"{self.examples} images, {_digest([*names, labels])}"

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """(content, label, name) of an element."""
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
      take: how many of its records.
      skip: records before them.
    """

    path: str
    take: int
    skip: int = 0


@dataclasses.dataclass(frozen=True)
class Shards:
    """Records in TFRecord files.

    In training, an epoch lays the shards end to end in an order of its own and
    cuts them into lanes; a global batch takes as many records of each lane.
    With k input pipelines each has one k-th of the lanes, in one piece, so it
    opens about one k-th of the shards, and the batch is the same whatever k
    is. Records are shuffled within a lane by its part of the buffer.

    Attributes:
      shards: where the records are.
      parse: from a serialized example to what `read` gives before the name.
    """

    shards: tuple[Shard, ...]
    parse: Callable[[tf.Tensor], Any]

    @property
    def examples(self) -> int:
        """How many."""
        return sum(shard.take for shard in self.shards)

    def identity(self) -> str:
        """What tells the records from others; wherever the files are."""
        parts = [
            f"{files.name(one.path)} {one.skip} {one.take}".encode()
            for one in self.shards
        ]
        return (
            f"{self.examples} records in {len(parts)} shards, {_digest(parts)}"
        )

    def lanes(self, batch: int) -> int:
        """Into how many lanes a global batch is divided.

        The number of pipelines must divide it for each to read its own share.
        So it is the common divisor of shards and batch that itself has most
        divisors.
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
        """(serialized, file, index in the file) of this share, for ever."""
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
        """As `training`, once, filled to whole batches with the first."""
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
        found = tf.data.Dataset.from_tensor_slices(
            tuple(map(list, zip(*parts)))
        ).interleave(
            _read,
            cycle_length=min(len(parts), _SHARDS_AT_ONCE),
            block_length=_RECORDS_IN_TURN,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return found.concatenate(fill)

    def in_order(self) -> tf.data.Dataset:
        """(serialized, file, index in the file) of each record once.

        The files of one turn follow one another a few records at a time.
        """
        return self.evaluation(1, Share())

    def read(
        self, serialized: tf.Tensor, file: tf.Tensor, index: tf.Tensor
    ) -> tuple[Any, ...]:
        """The record of an element, its name last."""
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
        # Where lanes are few, each reads some shards at once.
        self._at_once = min(
            -(-len(shards) // lanes), max(_SHARDS_AT_ONCE // lanes, 1)
        )

    def _taken(self, examples: tf.Tensor) -> tf.Tensor:
        """[lanes], what the first so many examples of a run take of each."""
        batch, lanes = self._order.batch, tf.range(self._lanes, dtype=tf.int64)
        each = batch // self._lanes
        inside = tf.clip_by_value(examples % batch - lanes * each, 0, each)
        return examples // batch * each + inside

    @_as_written
    def stream(self, lane: tf.Tensor) -> tf.data.Dataset:
        """A lane from the start step on."""
        first = self._start // self._examples
        epochs = tf.data.Dataset.range(first, FOREVER)
        stream = epochs.flat_map(
            _as_written(lambda number: self._epoch(lane, number))
        )
        begin = tf.constant(first * self._examples, tf.int64)
        start = tf.constant(self._start, tf.int64)
        return stream.skip((self._taken(start) - self._taken(begin))[lane])

    def _epoch(self, lane: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        """A lane's part of an epoch."""
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
        found = tf.data.Dataset.from_tensor_slices(parts).interleave(
            _read,
            cycle_length=self._at_once,
            block_length=_RECORDS_IN_TURN,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # The seed of this function's graph: the order must not hang on the
        # global seed, and TensorFlow cannot add a tensor to a global 0.
        tf.random.set_seed(1)
        return found.shuffle(
            self._buffer,
            seed=(seed * 1_000_003 + number) * self._lanes + lane,
            reshuffle_each_iteration=False,
        )


# Not converted: TensorFlow's constants of ints would be int32.
@_as_written
def _read(path: Any, skip: Any, take: Any) -> tf.data.Dataset:
    """(serialized, file, index in the file) of records of a file."""
    skip, take = tf.cast(skip, tf.int64), tf.cast(take, tf.int64)
    content = tf.data.TFRecordDataset(path).skip(skip).take(take)
    # A file that has shrunk would shift every epoch after it.
    content = content.apply(tf.data.experimental.assert_cardinality(take))
    places = tf.data.Dataset.range(skip, tf.int64.max)
    names = tf.data.Dataset.from_tensors(path).repeat()
    return tf.data.Dataset.zip((content, names, places))
