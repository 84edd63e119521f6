"""Moments of every (sample, channel), and the statistics derived from them.

All functions see x with its spatial axes flattened into one: [N, S, C] with
space = 1, or [N, C, S] with space = 2. Small tensors are [N, C] or [C].

    batch variance = mean over n of variance[n, c] + variance over n of
                     mean[n, c]; group variance is the same law over the
                     channels of a group; mean of squares = variance + mean^2.

So one read of x serves every statistic that a norm-act layer asks for.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from evonorm_tf.ops.settings import Settings

Tensor = tf.Tensor
MAX_BLOCKS = 8


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """float32 for anything narrower: float16 overflows at a std of 256."""
    return dtype if dtype == tf.float64 else tf.float32


def _rows(x: Tensor, start: int, size: int, space: int) -> Tensor:
    if space == 1:
        return x[:, start : start + size]
    return x[:, :, start : start + size]


def _block_count(size: int | None) -> int:
    """The number of blocks to cut `size` rows into, 1 for none.

    The largest divisor up to MAX_BLOCKS, so that no rows are left over; where
    the best divisor is too small to pay, MAX_BLOCKS, with a rest.
    """
    if size is None or size < 2 * MAX_BLOCKS:
        return 1
    best = max(k for k in range(1, MAX_BLOCKS + 1) if size % k == 0)
    return best if best >= MAX_BLOCKS // 2 else MAX_BLOCKS


def spatial_sums(
    terms: Callable[..., Sequence[Tensor]],
    tensors: Sequence[Tensor],
    space: int,
    form: Settings,
) -> list[Tensor]:
    """Sums over space of several functions of the same full-size tensors.

    Args:
      terms: maps tensors of equal shape [N, s, C] (any number of rows s) to
        the terms to be summed, each [N, s, C].
      tensors: full-size tensors [N, S, C] (or [N, C, S]).
      space: the axis of S, 1 or 2.
      form: resolved settings.

    Returns:
      One [N, C] tensor a term.
    """
    size = tensors[0].shape[space]
    blocks = _block_count(size) if form.reduction == "blocks" else 1
    if form.reduction == "ones":
        return [_product_with_ones(t, space) for t in terms(*tensors)]
    if blocks == 1:
        return [tf.reduce_sum(t, space) for t in terms(*tensors)]
    rows = size // blocks
    total = None
    for i in range(blocks):
        part = terms(*(_rows(t, i * rows, rows, space) for t in tensors))
        total = part if total is None else [a + b for a, b in zip(total, part)]
    sums = [tf.reduce_sum(t, space) for t in total]
    rest = size - blocks * rows
    if rest:
        tail = terms(*(_rows(t, size - rest, rest, space) for t in tensors))
        sums = [a + tf.reduce_sum(b, space) for a, b in zip(sums, tail)]
    return sums


def _product_with_ones(x: Tensor, space: int) -> Tensor:
    ones = tf.ones([tf.shape(x)[0], 1, tf.shape(x)[space]], x.dtype)
    if space == 1:
        return tf.matmul(ones, x)[:, 0]
    return tf.matmul(ones, x, transpose_b=True)[:, 0]


def spatial_moments(
    x: Tensor, space: int, form: Settings
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every (sample, channel), in one read.

    Args:
      x: [N, S, C] (or [N, C, S]) of any floating dtype.
      space: the axis of S, 1 or 2.
      form: resolved settings.

    Returns:
      mean and variance, each [N, C], float32 (float64 where x is).
    """
    dtype = compute_dtype(x.dtype)
    size = x.shape[space]
    if form.moments == "merged" and _block_count(size) > 1:
        return _merged_moments(tf.cast(x, dtype), space)
    count = tf.cast(tf.shape(x)[space], dtype)

    def mean_of(terms):
        return [s / count for s in spatial_sums(terms, [x], space, form)]

    if form.moments == "one_pass":
        mean, square = mean_of(
            lambda t: [tf.cast(t, dtype), tf.square(tf.cast(t, dtype))]
        )
        return mean, tf.maximum(square - tf.square(mean), 0.0)
    # "two_pass", and "merged" of so few rows that there is nothing to merge.
    (mean,) = mean_of(lambda t: [tf.cast(t, dtype)])
    center = tf.expand_dims(mean, space)
    (variance,) = mean_of(lambda t: [tf.square(tf.cast(t, dtype) - center)])
    return mean, variance


def _merged_moments(x: Tensor, space: int) -> tuple[Tensor, Tensor]:
    # Row j of every block makes one column of `blocks` values; its moments
    # are exact and stay in registers, and only 1 / blocks of x is written.
    size = x.shape[space]
    blocks = _block_count(size)
    rows = size // blocks
    parts = [_rows(x, i * rows, rows, space) for i in range(blocks)]
    column_mean = tf.add_n(parts) / blocks
    column_m2 = tf.add_n([tf.square(p - column_mean) for p in parts])
    mean = tf.reduce_mean(column_mean, space)
    spread = tf.square(column_mean - tf.expand_dims(mean, space))
    m2 = tf.reduce_sum(column_m2 + blocks * spread, space)
    rest = size - blocks * rows
    if not rest:
        return mean, m2 / size
    tail = _rows(x, size - rest, rest, space)
    tail_mean = tf.reduce_mean(tail, space)
    tail_m2 = tf.reduce_sum(
        tf.square(tail - tf.expand_dims(tail_mean, space)), space
    )
    delta = tail_mean - mean
    m2 += tail_m2 + tf.square(delta) * (blocks * rows * rest / size)
    return mean + delta * (rest / size), m2 / size


def group_moments(
    mean: Tensor, variance: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Moments over space and the C / groups channels of each group.

    Args:
      mean: [N, C].
      variance: [N, C], biased.
      groups: a divisor of C; groups = 1 is LayerNorm over (H, W, C).

    Returns:
      mean and variance, each [N, C]: a group's value stands at each of its
      channels.
    """
    n, c = tf.shape(mean)[0], mean.shape[-1]
    shape = tf.stack([n, groups, c // groups])
    mean, variance = tf.reshape(mean, shape), tf.reshape(variance, shape)
    center = tf.reduce_mean(mean, -1, keepdims=True)
    pooled = tf.reduce_mean(
        variance + tf.square(mean - center), -1, keepdims=True
    )

    def spread(t):
        return tf.reshape(tf.broadcast_to(t, shape), [n, c])

    return spread(center), spread(pooled)


def batch_moments(
    mean: Tensor, variance: Tensor, synchronized: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Moments over the batch and space, from those of every sample.

    Two small all-reduces when synchronised: the mean first, then the spread
    around it, since a variance from pooled squares would lose (mean / std)^2.

    Args:
      mean: [N, C].
      variance: [N, C], biased.
      synchronized: pool over the replicas of the current strategy.

    Returns:
      mean [C], variance [C], and the number of samples they are over.
    """
    count = tf.cast(tf.shape(mean)[0], mean.dtype)
    total = tf.reduce_sum(mean, 0)
    if synchronized:
        total, count = all_reduce_sum([total, count])
    # A replica that got no sample writes nothing; 0 / 0 would reach them all.
    count = tf.maximum(count, 1.0)
    center = total / count
    spread = tf.reduce_sum(variance + tf.square(mean - center), 0)
    if synchronized:
        (spread,) = all_reduce_sum([spread])
    return center, spread / count, count


def all_reduce_sum(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums over replicas; the identity where there is no replica context.

    Outside a replica (a functional model being built under a strategy's
    scope) the statistics are local by definition.
    """
    if not tf.distribute.in_cross_replica_context():
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            return list(
                context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
            )
    return list(tensors)
