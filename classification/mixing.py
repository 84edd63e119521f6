"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899), stateless.

Both replace a part of an image by its neighbor in the batch, and the same part
of its label: MixUp a share of every pixel, CutMix a box. Both have the same
form: a share, and a box that is the whole image for MixUp. The draws are made
per image, not per batch as in the papers, because with few images per worker a
single draw would determine the whole step.
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
    """Mixes each image with the previous one, the first with the last.

    Args:
      images: [N, H, W, C], float, of static shape; N at least 2.
      labels: [N], integers.
      classes: number of classes.
      mixup_alpha: of MixUp's Beta(alpha, alpha); 0 for no MixUp.
      cutmix_alpha: likewise. With both, each image gets either with
        probability 1/2.
      seed: [2], integers.

    Returns:
      The mixed images, and their labels' distribution, [N, classes] float32:
      the exact share of the pixels.

    Raises:
      ValueError: if the batch has one image, which cannot be mixed.
    """
    count, height, width, channels = images.shape
    if count < 2:
        raise ValueError(
            "MixUp and CutMix mix images of one replica's batch, which must "
            "have at least 2. Increase global_batch_size, or set mixup_alpha "
            f"and cutmix_alpha to 0. Received: images per replica={count}"
        )
    share, rows, columns = _draw(
        count, height, width, mixup_alpha, cutmix_alpha, seed
    )
    # Broadcast to a row of pixels: a factor with one value per channel is
    # read three times slower on CPU.
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
    """Draws the share of the other image [N], its rows and columns.

    For MixUp, a share below 1 of all rows [N, H] and columns [N, W]; for
    CutMix, all of some of them.
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
    """Returns [N] draws from Beta(alpha, alpha)."""
    # In float32 both gammas can underflow to 0 if alpha is small.
    alphas = tf.constant(alpha, tf.float64)
    draws = tf.random.stateless_gamma(
        [2, count], seed, alphas, dtype=tf.float64
    )
    return tf.cast(draws[0] / (draws[0] + draws[1]), tf.float32)


def _span(size: int, share: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """Returns 1 in a part of `share` of the side around `center`, else 0.

    The result is [N, size]. The part is clipped at the border, as in the paper.
    """
    half = tf.cast(share * size, tf.int32) // 2
    middle = tf.cast(center * size, tf.int32)
    places = tf.range(size)
    inside = (places >= (middle - half)[:, tf.newaxis]) & (
        places < (middle + half)[:, tf.newaxis]
    )
    return tf.cast(inside, tf.float32)
