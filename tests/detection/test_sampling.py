"""Boxes that train: how many of which kind, and what a seed decides."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.modeling.layers import roi_sampler
from official.vision.ops import anchor

from detection import sampling


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (2, 6, (2, 2, 0)),  # (positives, negatives, neither) of 4 chosen
        (5, 3, (2, 2, 0)),
        (1, 1, (1, 1, 2)),
        (7, 1, (3, 1, 0)),  # One more positive than half, for want of others.
    ],
)
def test_positives_up_to_their_share_then_negatives(
    positives, negatives, expected
):
    kinds = np.array([1] * positives + [2] * negatives + [0] * 8)[:8]
    draws = tf.random.stateless_uniform([8], [0, 1])
    found = sampling.choose(
        tf.constant(kinds == 1), tf.constant(kinds == 2), draws, 2, 4
    ).numpy()
    assert len(set(found)) == 4
    chosen = kinds[found].tolist()
    counts = tuple(chosen.count(kind) for kind in (1, 2, 0))
    assert counts == expected
    # The mask head takes the first of them.
    assert chosen[: min(positives, 2)] == [1] * min(positives, 2)


def test_every_box_has_the_same_chance():
    draws = tf.random.stateless_uniform([4000, 8], [0, 7])
    positive = tf.broadcast_to(tf.constant([True] * 4 + [False] * 4), [4000, 8])
    chosen = sampling.choose(positive, ~positive, draws, 2, 4).numpy()
    share = np.bincount(chosen.ravel(), minlength=8) / 4000
    # Half of each; the standard deviation of a share is 0.008.
    np.testing.assert_allclose(share, 0.5, atol=0.05)


def test_rois_are_as_the_model_gardens_but_for_which_at_random():
    tf.random.set_seed(0)
    boxes = tf.random.uniform([2, 60, 2], maxval=40.0)
    boxes = tf.concat([boxes, boxes + tf.random.uniform([2, 60, 2]) * 30], -1)
    truth = tf.concat([boxes[:, :3], -tf.ones([2, 2, 4])], 1)
    classes = tf.constant([[1, 2, 3, -1, -1]] * 2)
    settings = {"num_sampled_rois": 16, "foreground_fraction": 0.25}
    ours, theirs = (
        kind(**settings)(boxes, truth, classes)
        for kind in (sampling.ROISampler, roi_sampler.ROISampler)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
    # At most a quarter of 16; here there are as many.
    objects = [np.sum(found[2].numpy() > 0, 1) for found in (ours, theirs)]
    np.testing.assert_array_equal(*objects)


def test_anchors_are_labelled_as_the_model_gardens_but_for_which_at_random():
    anchors = anchor.build_anchor_generator(2, 4, 1, [0.5, 1.0, 2.0], 8.0)(
        image_size=(64, 64)
    )
    boxes = tf.constant([[4.0, 4.0, 40.0, 40.0], [30.0, 8.0, 60.0, 30.0]])
    kinds = tf.constant([[1.0], [2.0]])

    def ours(seed, count):
        labeler = sampling.AnchorLabeler(tf.constant([0, seed]), count)
        return labeler.label_anchors(anchors, boxes, kinds)

    def counts(scores):
        flat = tf.concat([tf.reshape(s, [-1]) for s in scores.values()], 0)
        return [
            int(tf.reduce_sum(tf.cast(flat == k, tf.int32))) for k in (1, 0)
        ]

    for count in (8, 64):
        theirs, boxes_of_theirs = anchor.RpnAnchorLabeler(
            rpn_batch_size_per_im=count
        ).label_anchors(anchors, boxes, kinds)
        scores, offsets = ours(0, count)
        assert counts(scores) == counts(theirs)
        assert sum(counts(scores)) == count
        for level, values in boxes_of_theirs.items():
            np.testing.assert_array_equal(offsets[level], values)
    again, other = ours(0, 8)[0], ours(1, 8)[0]
    same = [np.array_equal(again[k], ours(0, 8)[0][k]) for k in again]
    assert all(same)
    assert not all(np.array_equal(again[k], other[k]) for k in again)
