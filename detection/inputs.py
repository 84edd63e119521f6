"""What is done to the Model Garden's batches before a model sees them."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# The source_id of an image that only fills a batch up.
PADDING = -1


def checked(batches: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
    """The batches, with an error at a class id outside the classes.

    Such an id would train without a word, at a class loss of 0.

    Args:
      batches: of (images, labels).
      num_classes: ids run from 1 to this less 1; -1 is padding.
    """

    def check(images: Any, labels: Mapping[str, Any]) -> tuple:
        found = labels.get("gt_classes")
        if found is None:
            found = labels["groundtruths"]["classes"]
        valid = (found == -1) | ((found > 0) & (found < num_classes))
        message = (
            f"A class id is outside 1 to {num_classes - 1} "
            f"(model.num_classes={num_classes}, 0 is the background). Received:"
        )
        refuse = tf.debugging.Assert(
            tf.reduce_all(valid), [message, tf.boolean_mask(found, ~valid)]
        )
        with tf.control_dependencies([refuse]):
            return tf.identity(images), labels

    return batches.map(check)


def whole(
    batches: tf.data.Dataset,
    examples: int,
    global_batch_size: int,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Evaluation batches, filled up so that every replica has a whole one.

    The last batch repeats its last image, and batches of padding follow
    until they divide among the replicas: an empty one fails in the model.
    What was filled in has the source_id `PADDING`.

    Args:
      batches: of (images, labels), the last one perhaps smaller.
      examples: images of the whole evaluation.
      global_batch_size: over all replicas.
      context: which of several replicas and input pipelines.

    Raises:
      ValueError: several input pipelines, whose shares are not known.
    """
    context = context or tf.distribute.InputContext(num_replicas_in_sync=1)
    if context.num_input_pipelines > 1:
        raise ValueError(
            "An evaluation is on one host. Train with --mode=train on all of "
            "them, then give the same command with --mode=train_and_eval on "
            "one: it evaluates and records the finished run. Received: "
            f"num_input_pipelines={context.num_input_pipelines}"
        )
    size = context.get_per_replica_batch_size(global_batch_size)

    def fill(count: Any, images: Any, labels: dict) -> tuple:
        count = tf.minimum(count, tf.shape(images)[0])
        last = tf.maximum(tf.shape(images)[0] - 1, 0)
        index = tf.minimum(tf.range(size), last)
        images, labels = tf.nest.map_structure(
            lambda part: tf.gather(part, index), (images, labels)
        )
        truth = dict(labels["groundtruths"])
        counts = tf.range(size) < count
        truth["source_id"] = tf.where(counts, truth["source_id"], PADDING)
        return images, labels | {"groundtruths": truth}

    extra = -math.ceil(examples / size) % context.num_replicas_in_sync
    padding = batches.take(1).repeat(extra)
    return batches.map(lambda *batch: fill(size, *batch)).concatenate(
        padding.map(lambda *batch: fill(0, *batch))
    )
