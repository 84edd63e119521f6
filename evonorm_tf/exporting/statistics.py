"""The statistics of an image and of its groups, in operations of rank 4."""

import numpy as np
import tensorflow as tf

Tensor = tf.Tensor


def constant(value: np.ndarray, like: Tensor) -> Tensor:
    """In the dtype of `like`."""
    return tf.constant(value, like.dtype)


def one_pixel(x: Tensor) -> bool:
    """Whether every variance over space is 0 by the shape of x.

    Exact zeros have no int8 range: TensorFlow Lite aborts on them, so they
    are constants and nothing that is computed.
    """
    return tuple(x.shape[1:3]) == (1, 1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every (sample, channel), [N, 1, 1, C]."""
    mean = tf.reduce_mean(x, [1, 2], keepdims=True)
    difference = tf.math.squared_difference(x, mean)
    return mean, tf.reduce_mean(difference, [1, 2], keepdims=True)


def mean_square(x: Tensor) -> Tensor:
    """[N, 1, 1, C]."""
    # A product: TensorFlow Lite squares in float32 only, and int8 is wanted.
    return tf.reduce_mean(x * x, [1, 2], keepdims=True)


def grouped(t: Tensor, groups: int) -> Tensor:
    """[N, 1, 1, C] -> [N, 1, G, C / G]."""
    return tf.reshape(t, [-1, 1, groups, t.shape[-1] // groups])


def channels(t: Tensor) -> Tensor:
    """[N, 1, G, C / G] -> [N, 1, 1, C]."""
    return tf.reshape(t, [-1, 1, 1, t.shape[2] * t.shape[3]])


def group_mean(t: Tensor) -> Tensor:
    """[N, 1, G, C / G] -> [N, 1, G, 1]."""
    return tf.reduce_mean(t, -1, keepdims=True)


def group_moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every (sample, group), [N, 1, G, 1].

    Group variance = mean over the group's channels of their variance, plus
    the variance of their means.
    """
    if one_pixel(x):
        mean = grouped(x, groups)
        variance = constant(np.zeros([1, 1, groups, 1]), x)
    else:
        mean, variance = (grouped(t, groups) for t in moments(x))
    if mean.shape[-1] == 1:  # Nor is there a spread between channels.
        return mean, variance
    center = group_mean(mean)
    spread = tf.math.squared_difference(mean, center)
    return center, group_mean(variance + spread)
