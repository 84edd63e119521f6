"""Random numbers that depend only on their position in the run.

A stateful generator would differ between a resumed and an uninterrupted run,
and TPUs ignore its seed.
"""

import tensorflow as tf

Tensor = tf.Tensor


def key(seed: int, *place: int | Tensor) -> Tensor:
    """Returns a seed [2] for a position such as (step, replica, substep)."""
    result = tf.constant([seed, 0], tf.int64)
    for coordinate in place:
        coordinate = tf.cast(coordinate, tf.int64)
        result = tf.random.experimental.stateless_fold_in(result, coordinate)
    return result


def draw(
    seed: Tensor, count: int, size: int, classes: int
) -> tuple[Tensor, Tensor]:
    """Draws latents [count, size] from N(0, 1) and uniform labels [count]."""
    normal, uniform = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    z = tf.random.stateless_normal([count, size], normal)
    labels = tf.random.stateless_uniform(
        [count], uniform, maxval=classes, dtype=tf.int32
    )
    return z, labels


def truncated(seed: Tensor, count: int, size: int, truncation: float) -> Tensor:
    """Draws latents [count, size]: truncated normals times `truncation`.

    Normals are truncated at 2 standard deviations, so entries are within
    2 * truncation. This is the truncation trick of the published BigGAN modules
    on TF-Hub; arXiv:1809.11096 instead draws entries above a threshold anew.

    Args:
      seed: [2].
      count: number of latents.
      size: their entries.
      truncation: above 0, at most 1; or 0 for plain normals.

    Raises:
      ValueError: if truncation is outside 0 to 1.
    """
    if not 0.0 <= truncation <= 1.0:
        # Above 1 they would be wider than without truncation.
        raise ValueError(
            "A truncation multiplies normals that are truncated at 2 standard "
            "deviations, so it must be above 0 and at most 1, or 0 for plain "
            f"normals. Received: truncation={truncation}"
        )
    if not truncation:
        return tf.random.stateless_normal([count, size], seed)
    z = tf.random.stateless_truncated_normal([count, size], seed)
    return truncation * z


def between(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Interpolates between latents, [N, count, size].

    It follows the arc, because the middle of the straight line is shorter than
    normal latents with many entries ever are.

    Args:
      one: [N, size].
      other: [N, size].
      count: number of latents, including both ends.
    """
    share = tf.linspace(0.0, 1.0, count)[tf.newaxis, :, tf.newaxis]
    units = [tf.math.l2_normalize(z, axis=-1) for z in (one, other)]
    cosine = tf.reduce_sum(units[0] * units[1], axis=-1)
    angle = tf.acos(cosine)[:, tf.newaxis, tf.newaxis]
    parts = (
        tf.sin((1.0 - share) * angle) * one[:, tf.newaxis],
        tf.sin(share * angle) * other[:, tf.newaxis],
    )
    return (parts[0] + parts[1]) / tf.sin(angle)
