"""Data sets: TFDS ones by name, and the digits inside scikit-learn.

A small set whose images share one size is decoded once and held in memory
(`Memory`); any other is read as it is trained on, each JPEG decoded once and
only where it is cropped (`Records`). Both give the same thing: batch k of a
run is a pure function of (seed, k), wherever the run was started.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from classification.settings import Data
from classification.sources import Memory, Records, Source
from evonorm_tf.training import datasets

_FOREVER = np.iinfo(np.int64).max
_MEMORY_LIMIT = 2**30  # bytes of decoded images


def inputs(
    source: Source,
    config: Data,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of (images, {"label": [N], "weight": [N]}).

    Training goes on for ever from `start_step`; evaluation is one pass, its
    last batch filled up with examples of weight 0, so that every replica
    always has a whole one.

    Args:
      source: the opened data set.
      config: how to read it.
      start_step: the global step that training goes on from.
      context: which of several input pipelines this is.
    """
    context = context or tf.distribute.InputContext()
    epoch = functools.partial(source.epoch, config)
    if config.is_training:
        start = start_step * config.global_batch_size
        first, skipped = divmod(start, source.examples)
        epochs = tf.data.Dataset.range(first, _FOREVER)
        stream = epochs.flat_map(epoch).skip(skipped)
    else:
        start = 0
        batches = math.ceil(source.examples / config.global_batch_size)
        stream = epoch(tf.constant(0, tf.int64)).repeat()
        stream = stream.take(batches * config.global_batch_size)
    positions = tf.data.Dataset.range(start, _FOREVER)
    stream = tf.data.Dataset.zip((positions, stream))
    stream = stream.shard(
        context.num_input_pipelines, context.input_pipeline_id
    )
    batch = context.get_per_replica_batch_size(config.global_batch_size)

    def label(position, images, labels):
        counts = config.is_training or position < source.examples
        weight = tf.cast(tf.broadcast_to(counts, [batch]), tf.float32)
        return images, {"label": labels, "weight": weight}

    stream = source.batches(stream, config, batch)
    return stream.map(label).prefetch(tf.data.AUTOTUNE)


def open_source(config: Data, num_classes: int) -> Source:
    """Opens a data set.

    Args:
      config: names it.
      num_classes: classes that the model tells apart.

    Raises:
      ValueError: no such data, or a label outside the classes.
    """
    if config.dataset == "digits":
        source = Memory(*datasets.digits(config.split), 10)
    else:
        source = _tfds(config)
    largest = source.classes - 1
    if isinstance(source, Memory):
        largest = int(source.labels.max())
        if source.labels.min() < 0:
            raise ValueError(
                f"{config.dataset} has labels below 0. Received: "
                f"label={source.labels.min()}"
            )
    if largest >= num_classes:
        raise ValueError(
            f"{config.dataset} has labels outside the model's classes, 0 to "
            f"{num_classes - 1}. Set task.model.num_classes="
            f"{max(source.classes, largest + 1)}. Received: label={largest}"
        )
    return source


def _tfds(config: Data) -> Source:
    """A TFDS data set, in memory if it is small and of one image size."""
    builder, examples = datasets.tfds_builder(
        config.dataset, config.split, config.tfds_data_dir
    )
    features = builder.info.features
    classes = features["label"].num_classes
    shape = features["image"].shape
    small = None not in shape and examples * math.prod(shape) < _MEMORY_LIMIT
    if small and not config.image_size:
        images, labels = datasets.in_memory(builder, config.split, examples)
        return Memory(images, labels, classes)
    dataset = builder.as_dataset(
        config.split,
        shuffle_files=False,
        decoders={"image": datasets.skip_decoding()},
    )
    pairs = dataset.map(lambda row: (row["image"], row["label"]))
    return Records(pairs, examples, classes, config.image_size or 224)
