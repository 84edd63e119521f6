"""Data sets: TFDS ones by name, TFRecords, folders of images, and digits.

A small set whose images share one size is decoded once and held in memory
(`Memory`); any other is read as it is trained on, each JPEG decoded once and
only where it is cropped (`Records`). Both give the same thing: batch k of a
run is a pure function of (seed, k), wherever the run was started and on
however many hosts.

    python -m classification.data check --dataset=cifar10 --tfds_data_dir=DIR

looks at a data set before training.
"""

import functools
import sys

import tensorflow as tf

from classification import augment, garden, mixing
from classification.datasets import (
    beside,
    open_source,
    require_alike,
    validate,
)
from classification.settings import Data
from classification.sources import Memory, Source
from training import commands
from training.images import batches
from training.images.order import Order

__all__ = [
    "Source",
    "beside",
    "inputs",
    "open_source",
    "require_alike",
    "validate",
]


def inputs(
    source: Source,
    config: Data,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of (images, {"label": [N], "weight": [N]}).

    With MixUp or CutMix also "target" [N, classes], the mixed labels. Both
    mix inside one replica's batch.

    Training goes on for ever from `start_step`; evaluation is one pass, its
    last batch filled up with examples of weight 0, so that every replica
    always has a whole one.

    Args:
      source: the opened data set.
      config: how to read it.
      start_step: the global step that training goes on from.
      context: which of several input pipelines this is. Each reads its own
        share, and the batch does not depend on how many there are.
    """
    loading = {
        "context": context,
        "at_once": isinstance(source, Memory),
        "finish": functools.partial(_finish, source, config),
    }
    decode, batch = source.decode(config), config.global_batch_size
    if not config.is_training:
        return batches.evaluation(source.reader, decode, batch, **loading)
    order = Order(config.seed, batch, config.shuffle_buffer_size)
    return batches.training(source.reader, decode, order, start_step, **loading)


def _finish(source, config, numbers, images, labels):
    """Normalises a batch, says which examples count, mixes them."""
    counts = numbers < source.examples
    if config.is_training:
        counts = tf.ones_like(counts)
    targets = {"label": labels, "weight": tf.cast(counts, tf.float32)}
    images = augment.normalize(images, config.mean, config.std)
    if config.is_training and (config.mixup_alpha or config.cutmix_alpha):
        mix = (images, labels, source.classes)
        mix += (config.mixup_alpha, config.cutmix_alpha)
        if config.augmenter == "official":
            images, target = garden.mix(*mix)
        else:
            seed = tf.stack([config.seed, numbers[0]])
            seed = tf.random.experimental.stateless_fold_in(seed, 2)
            images, target = mixing.mix(*mix, seed)
        targets["target"] = target
    return images, targets


def _main() -> None:
    from classification import check  # It imports what is above.

    verbs = {"check": check.main}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit("Usage: python -m classification.data check --help")
    with commands.messages():
        sys.exit(verbs[sys.argv[1]](sys.argv[2:]))


if __name__ == "__main__":
    _main()
