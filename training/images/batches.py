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
_as_written = tf.autograph.experimental.do_not_convert


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
    elements = reader.training(order, start_step, share)
    numbered = tf.data.Dataset.zip(
        (share.positions(order.batch, start_step), elements)
    )
    loaded = _decoded(numbered, reader, decode, size, at_once)
    return _finished(loaded, finish)


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
    numbered = tf.data.Dataset.zip(
        (
            tf.data.Dataset.range(first, last),
            reader.evaluation(batch, share),
        )
    )
    loaded = _decoded(numbered, reader, decode, size, at_once)
    return _finished(loaded, finish)


def _size(context: Context, batch: int) -> int:
    """Returns the number of examples in a replica's batch."""
    context = context or tf.distribute.InputContext()
    return context.get_per_replica_batch_size(batch)


def _decoded(
    numbered: tf.data.Dataset,
    reader: Any,
    decode: Decode,
    size: int,
    at_once: bool,
) -> tf.data.Dataset:
    def load(number: tf.Tensor, element: tuple[tf.Tensor, ...]) -> Any:
        record = reader.read(*element)
        return decode(number, *(record if type(record) is tuple else [record]))

    if at_once:
        numbered = numbered.batch(size, drop_remainder=True)
    # AutoGraph would convert all functions of a pipeline, none of which has
    # control flow; this took most of the time to the first batch.
    loaded = numbered.map(
        _as_written(load), num_parallel_calls=tf.data.AUTOTUNE
    )
    return loaded if at_once else loaded.batch(size, drop_remainder=True)


def _finished(
    loaded: tf.data.Dataset, finish: Decode | None
) -> tf.data.Dataset:
    if finish:
        loaded = loaded.map(
            _as_written(finish), num_parallel_calls=tf.data.AUTOTUNE
        )
    return loaded.prefetch(tf.data.AUTOTUNE)
