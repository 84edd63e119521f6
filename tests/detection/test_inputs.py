"""Evaluation batches: every image once, every replica a whole batch."""

import numpy as np
import pytest
import tensorflow as tf

from detection import inputs


def _batches(count, size):
    ids = tf.range(1, count + 1, dtype=tf.int64)
    labels = {
        "image_info": tf.ones([count, 4, 2]),
        "groundtruths": {"source_id": ids},
    }
    images = tf.reshape(tf.cast(ids, tf.float32), [-1, 1, 1, 1])
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def _ids(batches):
    return [
        labels["groundtruths"]["source_id"].numpy().tolist()
        for _, labels in batches
    ]


@pytest.mark.parametrize(
    ("count", "replicas", "expected"),
    [
        (4, 1, [[1, 2], [3, 4]]),
        (5, 1, [[1, 2], [3, 4], [5, -1]]),
        (4, 2, [[1, 2], [3, 4]]),
        (5, 2, [[1, 2], [3, 4], [5, -1], [-1, -1]]),
        (1, 3, [[1, -1], [-1, -1], [-1, -1]]),
    ],
)
def test_every_replica_gets_a_whole_batch(count, replicas, expected):
    context = tf.distribute.InputContext(num_replicas_in_sync=replicas)
    whole = inputs.whole(_batches(count, 2), count, 2 * replicas, context)
    assert _ids(whole) == expected
    assert whole.element_spec[0].shape == (2, 1, 1, 1)
    for images, labels in whole:
        assert images.shape == (2, 1, 1, 1)
        assert labels["image_info"].shape == (2, 4, 2)
        # What fills up is an image, not zeros that no model expects.
        assert np.all(images.numpy() >= 1)


def test_a_share_of_an_evaluation_is_refused():
    context = tf.distribute.InputContext(
        num_input_pipelines=2, num_replicas_in_sync=2
    )
    with pytest.raises(ValueError, match="num_input_pipelines=2"):
        inputs.whole(_batches(4, 2), 4, 4, context)
