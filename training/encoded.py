"""Image files as bytes, read from records in an order.

The order of an epoch is a function of seed and epoch alone, so a run that
goes on reads what an unbroken one would have.
"""

from collections.abc import Sequence

import tensorflow as tf

_SHARDS_AT_ONCE = 16
_RECORDS_IN_TURN = 16


def order(examples: int, seed: int, number: tf.Tensor | None) -> tf.Tensor:
    """0 to examples - 1, int64, in the order of an epoch.

    Args:
      examples: how many.
      seed: of the order.
      number: of the epoch, int64; None for the order as it is.
    """
    indices = tf.range(examples, dtype=tf.int64)
    if number is None:
        return indices
    return tf.random.experimental.stateless_shuffle(
        indices, seed=tf.stack([tf.constant(seed, tf.int64), number])
    )


def records(
    shards: Sequence[tuple[str, int, int]],
    examples: int,
    seed: int,
    number: tf.Tensor | None,
    buffer: int,
) -> tf.data.Dataset:
    """(serialized, file, index in the file) of each record of an epoch.

    Shuffled in the order of the files and, within a buffer, of the records.

    Args:
      shards: of each TFRecord file its path, records to skip, and records to
        take, -1 for all.
      examples: how many in all; reading other than that many is an error.
      seed: of the order.
      number: of the epoch, int64; None for the order of the files.
      buffer: records that are shuffled among each other.
    """
    paths = tf.constant([path for path, _, _ in shards])
    begins = tf.constant([skip for _, skip, _ in shards], tf.int64)
    counts = tf.constant([take for _, _, take in shards], tf.int64)

    # Not converted: TensorFlow's constants of ints would be int32.
    @tf.autograph.experimental.do_not_convert
    def read(shard: tf.Tensor) -> tf.data.Dataset:
        # Not tf.unstack: TensorFlow 2.20 dies of a count that is an
        # operation's second output.
        path, skip, take = paths[shard], begins[shard], counts[shard]
        content = tf.data.TFRecordDataset(path).skip(skip).take(take)
        places = tf.data.Dataset.range(skip, tf.int64.max)
        files = tf.data.Dataset.from_tensors(path).repeat()
        return tf.data.Dataset.zip((content, files, places))

    dataset = tf.data.Dataset.from_tensor_slices(
        order(len(shards), seed, number)
    ).interleave(
        read,
        cycle_length=min(len(shards), _SHARDS_AT_ONCE),
        block_length=_RECORDS_IN_TURN,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # A file that has grown or shrunk would shift every epoch after it.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(examples))
    if number is None:
        return dataset
    # The seed of this function's graph: the order must not hang on the
    # global seed, and TensorFlow cannot add a tensor to a global 0.
    tf.random.set_seed(1)
    return dataset.shuffle(
        buffer,
        seed=seed * 1_000_003 + number,
        reshuffle_each_iteration=False,
    )


def record_name(file: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """What an error calls a record of `records`: scalars."""
    index = tf.strings.as_string(index)
    return tf.strings.join(["record ", index, " of ", file])
