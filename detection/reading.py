"""Training batches from TFRecords: batch k is a function of (seed, k).

So a run that was killed goes on with the examples, in the order and with the
augmentation, that the unbroken run would have had.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from official.core import input_reader
from official.vision.dataloaders import tf_example_decoder

from detection import parser
from detection.settings import Data, Model

_FOREVER = np.iinfo(np.int64).max
_FILES_AT_ONCE = 16


def training(
    model: Model,
    data: Data,
    seed: int,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of (images, labels), for ever.

    Args:
      model: whose anchors and sizes.
      data: where the records are, and how they are augmented; its own `seed`,
        where it has one, stands before the run's.
      seed: of the run.
      start_step: the global step that training goes on from.
      context: which of several input pipelines this is. Each reads every
        record and parses its own.

    Raises:
      ValueError: no such files, or none with an example in it.
    """
    context = context or tf.distribute.InputContext()
    # Sorted: epochs shuffle places in this list, on whatever machine.
    files = sorted(input_reader.match_files(data.input_path))
    examples = data.num_examples
    if examples < 1:
        examples = count(files)
    seed = seed if data.seed is None else data.seed
    start = start_step * data.global_batch_size
    first, skipped = divmod(start, examples)
    stream = (
        tf.data.Dataset.range(first, _FOREVER)
        .flat_map(lambda epoch: _epoch(files, data, examples, seed, epoch))
        .skip(skipped)
    )
    numbered = tf.data.Dataset.zip(
        (tf.data.Dataset.range(start, _FOREVER), stream)
    ).shard(context.num_input_pipelines, context.input_pipeline_id)
    batch = context.get_per_replica_batch_size(data.global_batch_size)
    return (
        numbered.map(
            _parse(model, data, seed), num_parallel_calls=tf.data.AUTOTUNE
        )
        .batch(batch, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _parse(model: Model, data: Data, seed: int) -> Callable:
    """(number, serialized example) to (image, labels)."""
    decoder = tf_example_decoder.TfExampleDecoder(
        include_mask=model.include_mask,
        mask_binarize_threshold=(
            data.decoder.simple_decoder.mask_binarize_threshold
        ),
    )
    parse = parser.build(model, data).parse_fn(is_training=True)

    def run(number, serialized):
        decoded = decoder.decode(serialized)
        return parse(decoded | {"seed": tf.stack([seed, number])})

    return run


def _epoch(
    files: list[str], data: Data, examples: int, seed: int, number: tf.Tensor
) -> tf.data.Dataset:
    """The serialized examples in the order of one epoch."""
    order = tf.random.experimental.stateless_shuffle(
        tf.constant(files), seed=tf.stack([tf.cast(seed, tf.int64), number])
    )
    records = tf.data.Dataset.from_tensor_slices(order).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(len(files), _FILES_AT_ONCE),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Another number of records would shift every epoch after it.
    records = records.apply(tf.data.experimental.assert_cardinality(examples))
    # The seed of this function's graph: the order must not hang on the global
    # seed, and TensorFlow cannot add a tensor to a global 0.
    tf.random.set_seed(1)
    return records.shuffle(
        data.shuffle_buffer_size,
        seed=seed * 1_000_003 + number,
        reshuffle_each_iteration=False,
    )


def count(files: list[str]) -> int:
    """Number of records, by reading them.

    Raises:
      ValueError: there is none.
    """
    records = tf.data.TFRecordDataset(files, num_parallel_reads=8)
    found = int(records.reduce(np.int64(0), lambda total, _: total + 1))
    if not found:
        raise ValueError(
            f"The files have no example. Received: input_path={files}"
        )
    return found
