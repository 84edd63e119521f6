"""Which boxes a step trains on, drawn from seeds.

The Model Garden draws proposals and anchors with TensorFlow's stateful
generator, whose state no checkpoint holds: a resumed run would train on other
boxes than the unbroken one. Here every draw is a function of a seed.
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
    """Indices of `count` boxes, at random among equals.

    Up to `most_positive` positives, then negatives; where there are too few
    of both, what is neither, and positives above the limit last.

    Args:
      positive: [..., N], bool.
      negative: [..., N], bool.
      draws: [..., N], uniform in [0, 1).
      most_positive: of those chosen.
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
    """How many are larger, [..., N]; an inverse of the sorting order."""
    order = tf.argsort(values, direction="DESCENDING", stable=True)
    return tf.argsort(order, stable=True)


class _BoxSampler(tf_keras.__internal__.layers.BaseRandomLayer):
    """As the Model Garden's BoxSampler: [B, N] bools to indices [B, K].

    Its generator is set before each step: see `training.noise`.
    """

    def __init__(self, num_samples: int, foreground_fraction: float):
        super().__init__()
        self._count = num_samples
        self._most = int(num_samples * foreground_fraction)
        self.build(None)  # A step that is traced may make no generator.

    def call(
        self, positive: tf.Tensor, negative: tf.Tensor, ignored: tf.Tensor
    ) -> tf.Tensor:
        """Indices [B, K] of the boxes chosen."""
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
          num_sampled_rois: boxes an image.
          foreground_fraction: share of them that may be objects.
          **settings: the parent's; an unknown one raises TypeError.
        """
        super().__init__(
            num_sampled_rois=num_sampled_rois,
            foreground_fraction=foreground_fraction,
            **settings,
        )
        self._sampler = _BoxSampler(num_sampled_rois, foreground_fraction)


class AnchorLabeler(anchor.RpnAnchorLabeler):
    """The Model Garden's, its sample drawn from a seed."""

    def __init__(self, seed: tf.Tensor, count: int, **settings: Any):
        """Labels the anchors of one image.

        Args:
          seed: [2].
          count: anchors that train, an image.
          **settings: the parent's; an unknown one raises TypeError.
        """
        super().__init__(rpn_batch_size_per_im=count, **settings)
        self._seed, self._count = seed, count

    def _get_rpn_samples(self, match_results: tf.Tensor) -> tuple:
        """1 for objects that train, 0 for background, -1 for neither: [N]."""
        positive, negative = match_results > -1, match_results == -1
        size = match_results.shape[0]
        count = min(self._count, size)
        draws = tf.random.stateless_uniform([size], self._seed)
        most = int(self._count * self._rpn_fg_fraction)
        chosen = choose(positive, negative, draws, most, count)
        sampled = tf.scatter_nd(
            chosen[:, tf.newaxis], tf.ones([count], tf.int32), [size]
        )
        # Where there are too few, others fill up that are not to train; of
        # positives at most the share.
        place = _rank(tf.where(positive, draws, -1.0))
        positives = tf.cast(positive & (place < most), tf.int32) * sampled
        negatives = tf.cast(negative, tf.int32) * sampled
        labels = 2 * positives + negatives - 1
        return labels, 2 * positives, negatives
