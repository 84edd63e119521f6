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


def truncated(seed: Tensor, count: int, size: int, threshold: float) -> Tensor:
    """Draws latents [count, size]: truncated normals times a threshold.

    Normals are truncated at 2 deviations. This is the truncation trick of the
    published BigGAN modules. A threshold of 0 disables it.
    """
    if not threshold:
        return tf.random.stateless_normal([count, size], seed)
    z = tf.random.stateless_truncated_normal([count, size], seed)
    return threshold * z


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
