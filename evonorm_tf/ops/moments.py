"""Moments of every (sample, channel), and the statistics derived from them.

All functions take x with its spatial axes flattened into one: [N, S, C] with
spatial_axis = 1, or [N, C, S] with spatial_axis = 2. Small arrays are [N, C]
or [C].

    batch variance = mean over n of variance[n, c] + variance over n of
                     mean[n, c]; group variance is the same law over the
                     channels of a group; mean of squares = variance + mean^2.

One read of x therefore serves every statistic that a norm-act layer needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from evonorm_tf.ops.settings import Settings

Array = Any
MAX_BLOCKS = 8


class Moments(NamedTuple):
    """A mean and a biased variance of equal shape; None if unknown."""

    mean: Array | None
    variance: Array | None


def mean_square(moments: Moments) -> Array:
    """Returns E[x^2] from the moments of x."""
    return moments.variance + moments.mean * moments.mean


def compute_dtype(xp: Any, x: Array) -> Any:
    """Returns at least float32: float16 overflows at a std of 256."""
    return xp.float64 if x.dtype == xp.float64 else xp.float32


def wide(xp: Any, x: Array) -> Array:
    """Casts x to the compute dtype."""
    return xp.cast(x, compute_dtype(xp, x))


def _cut(x: Array, start: int, size: int, spatial_axis: int) -> Array:
    if spatial_axis == 1:
        return x[:, start : start + size]
    return x[:, :, start : start + size]


def _block_count(size: Any) -> int:
    """Returns the number of blocks for `size` pixels, 1 for no blocks.

    It is the largest divisor up to MAX_BLOCKS, so that no pixels remain; if the
    best divisor is too small to pay off, MAX_BLOCKS, with a remainder.
    """
    if not isinstance(size, int) or size < 2 * MAX_BLOCKS:
        return 1
    best = max(k for k in range(1, MAX_BLOCKS + 1) if size % k == 0)
    return best if best >= MAX_BLOCKS // 2 else MAX_BLOCKS


def spatial_sums(
    xp: Any,
    terms: Callable[..., Mapping[str, Array]],
    arrays: Sequence[Array],
    spatial_axis: int,
    settings: Settings,
) -> dict[str, Array]:
    """Sums several functions of the same full-size arrays over space.

    Args:
      xp: the array functions.
      terms: maps arrays of equal shape [N, s, C] (any number of pixels s) to
        the terms to be summed, each [N, s, C], by name.
      arrays: full-size arrays [N, S, C] (or [N, C, S]).
      spatial_axis: the axis of S, 1 or 2.
      settings: resolved.

    Returns:
      One [N, C] array per term, by name.
    """
    size = xp.shape(arrays[0])[spatial_axis]
    blocks = _block_count(size) if settings.reduction == "blocks" else 1
    if blocks == 1:
        found = terms(*arrays)
        return {name: xp.sum(t, spatial_axis) for name, t in found.items()}
    names: list[str] = []

    def part(start: int, length: int) -> Array:
        found = terms(*(_cut(t, start, length, spatial_axis) for t in arrays))
        names[:] = found
        # Stacked along the channels, all terms are one array and one loop for
        # XLA; for several arrays its CPU compiler reads x once for each.
        return xp.stack(list(found.values()), 2)

    length = size // blocks
    total = part(0, length)
    for block in range(1, blocks):
        total += part(block * length, length)
    axis = 1 if spatial_axis == 1 else 3
    sums = xp.sum(total, axis)
    rest = size - blocks * length
    if rest:
        sums += xp.sum(part(size - rest, rest), axis)
    return {
        name: sums[:, index] if spatial_axis == 1 else sums[:, :, index]
        for index, name in enumerate(names)
    }


def spatial_moments(
    xp: Any, x: Array, spatial_axis: int, settings: Settings
) -> Moments:
    """Computes mean and biased variance of every (sample, channel).

    Args:
      xp: the array functions.
      x: [N, S, C] (or [N, C, S]) of any floating dtype.
      spatial_axis: the axis of S, 1 or 2.
      settings: resolved.

    Returns:
      Moments [N, C] in float32 (float64 if x is).
    """
    dtype = compute_dtype(xp, x)
    size = xp.shape(x)[spatial_axis]
    if settings.moments == "merged" and _block_count(size) > 1:
        return _merged_moments(xp, xp.cast(x, dtype), spatial_axis)
    count = xp.cast(size, dtype)

    def means(terms: Callable[[Array], Mapping[str, Array]]) -> list[Array]:
        sums = spatial_sums(
            xp,
            lambda t: terms(xp.cast(t, dtype)),
            [x],
            spatial_axis,
            settings,
        )
        return [total / count for total in sums.values()]

    if settings.moments == "one_pass":
        mean, square = means(lambda t: {"mean": t, "square": xp.square(t)})
        zero = xp.asarray(0.0, dtype)
        return Moments(mean, xp.maximum(square - xp.square(mean), zero))
    # "two_pass", or "merged" with too few pixels to merge.
    (mean,) = means(lambda t: {"mean": t})
    center = xp.expand_dims(mean, spatial_axis)
    (variance,) = means(lambda t: {"variance": xp.square(t - center)})
    return Moments(mean, variance)


def _merged_moments(xp: Any, x: Array, spatial_axis: int) -> Moments:
    # Pixel j of every block is one column of `blocks` values. Its moments are
    # exact and stay in registers, and only 1 / blocks of x is written.
    size = xp.shape(x)[spatial_axis]
    blocks = _block_count(size)
    length = size // blocks
    parts = [_cut(x, i * length, length, spatial_axis) for i in range(blocks)]
    column_mean = sum(parts[1:], parts[0]) / blocks
    squares = [xp.square(part - column_mean) for part in parts]
    column_m2 = sum(squares[1:], squares[0])
    mean = xp.mean(column_mean, spatial_axis)
    apart = xp.square(column_mean - xp.expand_dims(mean, spatial_axis))
    m2 = xp.sum(column_m2 + blocks * apart, spatial_axis)
    rest = size - blocks * length
    if not rest:
        return Moments(mean, m2 / size)
    tail = _cut(x, size - rest, rest, spatial_axis)
    tail_mean = xp.mean(tail, spatial_axis)
    centered = tail - xp.expand_dims(tail_mean, spatial_axis)
    delta = tail_mean - mean
    m2 = m2 + xp.sum(xp.square(centered), spatial_axis)
    m2 = m2 + xp.square(delta) * (blocks * length * rest / size)
    return Moments(mean + delta * (rest / size), m2 / size)


def group_moments(xp: Any, sample: Moments, groups: int) -> Moments:
    """Computes moments over space and the C / groups channels of each group.

    Args:
      xp: the array functions.
      sample: moments of every (sample, channel), [N, C].
      groups: a divisor of C; groups = 1 is LayerNorm over (H, W, C).

    Returns:
      Moments [N, C]: each channel has the value of its group.
    """
    n, c = xp.shape(sample.mean)
    split = [n, groups, c // groups]
    mean, variance = (xp.reshape(t, split) for t in sample)
    center = xp.mean(mean, -1, keepdims=True)
    pooled = xp.mean(variance + xp.square(mean - center), -1, keepdims=True)

    def per_channel(t: Array) -> Array:
        return xp.reshape(xp.broadcast_to(t, split), [n, c])

    return Moments(per_channel(center), per_channel(pooled))


def batch_moments(
    backend: Any, sample: Moments, plan: Any
) -> tuple[Moments, Array]:
    """Computes moments over batch and space, from those of every sample.

    With synchronized replicas, averages are pooled twice, first the mean and
    then the deviation around it, because a variance from pooled squares would
    lose (mean / std)^2.

    Args:
      backend: `ops.tensorflow` or `ops.jax`, whose `batch_average` includes
        replicas or shards.
      sample: moments of every (sample, channel), [N, C].
      plan: the computation.

    Returns:
      Moments, [C] or, if every sample has those of its own shard, [N, C]; and
      the number of samples that they cover, which may be 0.
    """
    (mean,), _ = backend.batch_average(plan, [sample.mean])
    around_mean = sample.variance + backend.xp.square(sample.mean - mean)
    (variance,), count = backend.batch_average(plan, [around_mean])
    return Moments(mean, variance), count
