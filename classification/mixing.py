"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899), stateless.

Both replace a part of an image by another image of the batch, its neighbour,
and the same part of its label: MixUp a share of every pixel, CutMix a box.
So one form serves both: a share, and a box that is the whole image for MixUp.
The draws are made for each image, not once a batch as in the papers: with a
few images a worker one draw would decide the whole step.
"""

import tensorflow as tf


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    classes: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image with the one before it, the first with the last.

    Args:
      images: [N, H, W, C], float, of known shape; N at least 2.
      labels: [N], integers.
      classes: classes to tell apart.
      mixup_alpha: of MixUp's Beta(alpha, alpha); 0 for no MixUp.
      cutmix_alpha: likewise. With both, an image gets either by a fair coin.
      seed: [2], integers.

    Returns:
      The mixed images, and their labels' distribution, [N, classes] float32:
      the exact share of the pixels.

    Raises:
      ValueError: a batch of one image, which has no other to mix with.
    """
    count, height, width, channels = images.shape
    if count < 2:
        raise ValueError(
            "MixUp and CutMix mix images of one replica's batch, which must "
            "hold 2 or more. Raise global_batch_size, or set mixup_alpha and "
            f"cutmix_alpha to 0. Received: images a replica={count}"
        )
    share, rows, columns = _draw(
        count, height, width, mixup_alpha, cutmix_alpha, seed
    )
    # One row of pixels as one axis: a factor that stands for the channels
    # would be read three times slower on CPU.
    mask = rows[:, :, tf.newaxis] * tf.repeat(columns, channels, 1)[:, None]
    mask *= share[:, tf.newaxis, tf.newaxis]
    flat = tf.reshape(images, [count, height, width * channels])
    mixed = (1 - mask) * flat + mask * tf.roll(flat, 1, axis=0)
    part = share * tf.reduce_mean(rows, 1) * tf.reduce_mean(columns, 1)
    part = part[:, tf.newaxis]
    one_hot = tf.one_hot(labels, classes)
    target = (1 - part) * one_hot + part * tf.roll(one_hot, 1, axis=0)
    return tf.reshape(mixed, images.shape), target


def _draw(
    count: int,
    height: int,
    width: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Share of the other image [N], its rows [N, H] and columns [N, W].

    MixUp: a share below 1 of all rows and columns. CutMix: all of some.
    """
    seeds = tf.random.experimental.stateless_split(seed, 4)
    share = tf.ones([count])
    rows, columns = tf.ones([count, height]), tf.ones([count, width])
    cut = tf.fill([count], bool(cutmix_alpha))
    if mixup_alpha and cutmix_alpha:
        cut = tf.random.stateless_uniform([count], seeds[0]) < 0.5
    if mixup_alpha:
        share = tf.where(cut, 1.0, _beta(count, mixup_alpha, seeds[1]))
    if cutmix_alpha:
        side = tf.sqrt(_beta(count, cutmix_alpha, seeds[2]))
        center = tf.random.stateless_uniform([count, 2], seeds[3])
        cut = cut[:, tf.newaxis]
        rows = tf.where(cut, _span(height, side, center[:, 0]), rows)
        columns = tf.where(cut, _span(width, side, center[:, 1]), columns)
    return share, rows, columns


def _beta(count: int, alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """[N] draws from Beta(alpha, alpha)."""
    # In float32 both gammas can underflow to 0 where alpha is small.
    alphas = tf.constant(alpha, tf.float64)
    draws = tf.random.stateless_gamma(
        [2, count], seed, alphas, dtype=tf.float64
    )
    return tf.cast(draws[0] / (draws[0] + draws[1]), tf.float32)


def _span(size: int, share: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """1 in a part of `share` of the side around `center`, else 0: [N, size].

    Cut off at the border, as in the paper.
    """
    half = tf.cast(share * size, tf.int32) // 2
    middle = tf.cast(center * size, tf.int32)
    places = tf.range(size)
    inside = (places >= (middle - half)[:, tf.newaxis]) & (
        places < (middle + half)[:, tf.newaxis]
    )
    return tf.cast(inside, tf.float32)
