"""Samples the boxes of a training step from seeds.

The Model Garden samples proposals and anchors with TensorFlow's stateful
generator, whose state no checkpoint stores, so a resumed run would train on
other boxes than an uninterrupted one. Here every draw is a function of a seed.
"""

from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.modeling.layers import roi_sampler
from official.vision.ops import anchor


def choose(
    positive: tf.Tensor,
    negative: tf.Tensor,
    draws: tf.Tensor,
    most_positive: int,
    count: int,
) -> tf.Tensor:
    """Returns indices of `count` boxes, random among equals.

    Up to `most_positive` positives come first, then negatives; if there are too
    few of both, boxes that are neither follow, and positives above the limit
    come last.

    Args:
      positive: [..., N], bool.
      negative: [..., N], bool.
      draws: [..., N], uniform in [0, 1).
      most_positive: maximum number of positives.
      count: at most N.

    Returns:
      [..., count], int32, the positives first.
    """
    place = _rank(tf.where(positive, draws, -1.0))
    within = positive & (place < most_positive)
    order = tf.where(within, 3.0, tf.where(negative, 2.0, 1.0))
    order = tf.where(positive & ~within, 0.0, order)
    return tf.math.top_k(order + draws, count).indices


def _rank(values: tf.Tensor) -> tf.Tensor:
    """Returns how many are larger, [..., N]: the inverse of sorting."""
    order = tf.argsort(values, direction="DESCENDING", stable=True)
    return tf.argsort(order, stable=True)


class _BoxSampler(tf_keras.__internal__.layers.BaseRandomLayer):
    """Like the Model Garden's BoxSampler: [B, N] bools to indices [B, K].

    Its generator is set before each step: see `training.dropout_seed`.
    """

    def __init__(self, num_samples: int, foreground_fraction: float):
        super().__init__()
        self._count = num_samples
        self._most = int(num_samples * foreground_fraction)
        self.build(None)  # A traced step must not create a generator.

    def call(
        self, positive: tf.Tensor, negative: tf.Tensor, ignored: tf.Tensor
    ) -> tf.Tensor:
        """Returns indices [B, K] of the sampled boxes."""
        draws = self._random_generator.random_uniform(tf.shape(positive))
        return choose(
            positive & ~ignored,
            negative & ~ignored,
            draws,
            self._most,
            self._count,
        )


class ROISampler(roi_sampler.ROISampler):
    """The Model Garden's, with the sampler above."""

    def __init__(
        self, num_sampled_rois: int, foreground_fraction: float, **settings: Any
    ):
        """Takes the arguments of the parent.

        Args:
          num_sampled_rois: boxes per image.
          foreground_fraction: maximum fraction of them that are objects.
          **settings: the parent's; an unknown one raises TypeError.
        """
        super().__init__(
            num_sampled_rois=num_sampled_rois,
            foreground_fraction=foreground_fraction,
            **settings,
        )
        self._sampler = _BoxSampler(num_sampled_rois, foreground_fraction)


class AnchorLabeler(anchor.RpnAnchorLabeler):
    """The Model Garden's, with a sample drawn from a seed."""

    def __init__(self, seed: tf.Tensor, count: int, **settings: Any):
        """Labels the anchors of one image.

        Args:
          seed: [2].
          count: number of sampled anchors per image.
          **settings: the parent's; an unknown one raises TypeError.
        """
        super().__init__(rpn_batch_size_per_im=count, **settings)
        self._seed, self._count = seed, count

    def _get_rpn_samples(self, match_results: tf.Tensor) -> tuple:
        """Returns [N], 1 for sampled objects, 0 for background, else -1."""
        positive, negative = match_results > -1, match_results == -1
        size = match_results.shape[0]
        count = min(self._count, size)
        draws = tf.random.stateless_uniform([size], self._seed)
        most = int(self._count * self._rpn_fg_fraction)
        chosen = choose(positive, negative, draws, most, count)
        sampled = tf.scatter_nd(
            chosen[:, tf.newaxis], tf.ones([count], tf.int32), [size]
        )
        # If there are too few, others that are not trained fill up; positives
        # are limited to their fraction.
        place = _rank(tf.where(positive, draws, -1.0))
        positives = tf.cast(positive & (place < most), tf.int32) * sampled
        negatives = tf.cast(negative, tf.int32) * sampled
        labels = 2 * positives + negatives - 1
        return labels, 2 * positives, negatives
