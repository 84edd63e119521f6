"""Batches: batch k of a run is a function of (seed, k).

A head defines how an example is decoded. Order, resuming, the share of each
host and the padding of an evaluation's last batch are common to all heads.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from training.images.order import Order, Share

Decode = Callable[..., Any]
Context = tf.distribute.InputContext | None


def training(
    reader: Any,
    decode: Decode,
    order: Order,
    start_step: int = 0,
    context: Context = None,
    at_once: bool = False,
    finish: Decode | None = None,
) -> tf.data.Dataset:
    """Yields training batches per replica without end, from a step on.

    Args:
      reader: see `readers`.
      decode: maps an example's number in the run, int64, and its record to the
        content of a batch. Anything random in it must be a function of the
        seed and that number.
      order: of the examples.
      start_step: the global step from which training resumes.
      context: identifies one of several input pipelines.
      at_once: whether to call `decode` on the numbers [n] and records of a
        whole batch, which then are indices into data in memory.
      finish: maps the content of a batch to the inputs of a step.
    """
    share, size = Share.of(context, order.batch), _size(context, order.batch)
    numbers = share.positions(order.batch, start_step)
    elements = reader.training(order, start_step, share)
    numbered = tf.data.Dataset.zip((numbers, elements))
    return _pipeline(numbered, reader, decode, size, at_once, finish)


def evaluation(
    reader: Any,
    decode: Decode,
    batch: int,
    context: Context = None,
    at_once: bool = False,
    finish: Decode | None = None,
) -> tf.data.Dataset:
    """Yields batches with all examples per replica, padded to full batches.

    Every pipeline has the same number of batches. Arguments are as in
    `training`. An example whose number is the reader's `examples` or more only
    pads a batch, and must not count.
    """
    share, size = Share.of(context, batch), _size(context, batch)
    first, last = share.of_evaluation(reader.examples, batch)
    numbers = tf.data.Dataset.range(first, last)
    numbered = tf.data.Dataset.zip((numbers, reader.evaluation(batch, share)))
    return _pipeline(numbered, reader, decode, size, at_once, finish)


def _size(context: Context, batch: int) -> int:
    """Returns the number of examples in a replica's batch."""
    context = context or tf.distribute.InputContext()
    return context.get_per_replica_batch_size(batch)


def _pipeline(
    numbered: tf.data.Dataset,
    reader: Any,
    decode: Decode,
    size: int,
    at_once: bool,
    finish: Decode | None,
) -> tf.data.Dataset:
    """Returns batches of elements, which have their numbers in the run."""

    def load(number: tf.Tensor, element: tuple[tf.Tensor, ...]) -> Any:
        record = reader.read(*element)
        return decode(number, *(record if type(record) is tuple else [record]))

    # AutoGraph would convert all functions of a pipeline, none of which has
    # control flow; this took most of the time to the first batch.
    def mapped(dataset: tf.data.Dataset, function: Decode) -> tf.data.Dataset:
        function = tf.autograph.experimental.do_not_convert(function)
        return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE)

    if at_once:
        loaded = mapped(numbered.batch(size, drop_remainder=True), load)
    else:
        loaded = mapped(numbered, load).batch(size, drop_remainder=True)
    if finish:
        loaded = mapped(loaded, finish)
    return loaded.prefetch(tf.data.AUTOTUNE)
