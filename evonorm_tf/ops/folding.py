"""The folded form of a layer: inference in few operations of rank 4.

Everything that is known before an image (gamma, beta, v, moving statistics,
epsilon) is folded into constants [C]. The remaining operations are on
[N, H, W, C], [N, 1, 1, C] and, for groups, [N, 1, G, C / G]: none has a rank
above 4, which the delegates of TensorFlow Lite do not support.

Every kernel family has its folded forms next to its training formula, as
functions of (xp, constants) that return a function of x. This module has the
statistics that they share.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from evonorm_tf.ops.moments import Moments

Array = Any
Function = Callable[[Array], Array]

# Minimum v for dividing by it: below, sums would lose the digits of x long
# before float32 underflows, and half precision sooner.
SMALL_V = 1e-2


class Constants(NamedTuple):
    """The weights of a layer as float64 arrays, read before any tracing.

    Attributes:
      weights: by name: gamma, beta, v, moving_mean, moving_variance, ...
      epsilon: added inside every square root.
      groups: channel groups.
      channels: C.
    """

    weights: Mapping[str, np.ndarray]
    epsilon: float
    groups: int
    channels: int

    def __getattr__(self, name: str) -> np.ndarray:
        if name in self.weights:
            return self.weights[name]
        raise AttributeError(
            f"The layer has no weight of that name. Received: {name!r}; "
            f"expected one of {sorted(self.weights)}"
        )

    @property
    def batch_std(self) -> np.ndarray:
        """Returns sqrt(moving variance + epsilon), [C]."""
        return np.sqrt(self.moving_variance + self.epsilon)


class Folded(NamedTuple):
    """How a catalog entry folds.

    Attributes:
      make: (xp, Constants) -> a function of x [N, H, W, C], at least float32.
      any_rank: whether that function takes x of any rank, channels last; it
        then computes no statistics of x.
    """

    make: Callable[[Any, Constants], Function]
    any_rank: bool = False


def constant(xp: Any, value: Any, like: Array) -> Array:
    """Returns a constant in the dtype of `like`."""
    return xp.asarray(value, like.dtype)


def affine(xp: Any, x: Array, scale: Any, shift: Any) -> Array:
    """Returns x * scale + shift, with constants [C] or []."""
    return x * constant(xp, scale, x) + constant(xp, shift, x)


def one_pixel(x: Array) -> bool:
    """Returns whether every variance over space is 0 by the shape of x."""
    return tuple(x.shape[1:3]) == (1, 1)


def spatial_moments(xp: Any, x: Array) -> Moments:
    """Returns mean and variance of every (sample, channel), [N, 1, 1, C]."""
    if one_pixel(x):
        return Moments(x, constant(xp, np.zeros([1, 1, 1, x.shape[-1]]), x))
    mean = xp.mean(x, (1, 2), keepdims=True)
    difference = xp.squared_difference(x, mean)
    return Moments(mean, xp.mean(difference, (1, 2), keepdims=True))


def mean_square(xp: Any, x: Array) -> Array:
    """Returns E[x^2] of every (sample, channel), [N, 1, 1, C]."""
    return xp.mean(xp.square(x), (1, 2), keepdims=True)


def grouped(xp: Any, t: Array, groups: int) -> Array:
    """Reshapes [N, 1, 1, C] -> [N, 1, G, C / G]."""
    return xp.reshape(t, [-1, 1, groups, t.shape[-1] // groups])


def per_channel(xp: Any, t: Array) -> Array:
    """Reshapes [N, 1, G, C / G] -> [N, 1, 1, C]."""
    return xp.reshape(t, [-1, 1, 1, t.shape[2] * t.shape[3]])


def group_mean(xp: Any, t: Array) -> Array:
    """Averages [N, 1, G, C / G] -> [N, 1, G, 1]."""
    return xp.mean(t, -1, keepdims=True)


def group_mean_square(xp: Any, x: Array, groups: int) -> Array:
    """Returns E[x^2] of every (sample, group), [N, 1, G, 1]."""
    return group_mean(xp, grouped(xp, mean_square(xp, x), groups))


def group_moments(
    xp: Any, x: Array, groups: int, scale: np.ndarray | None = None
) -> Moments:
    """Mean and biased variance of every (sample, group), [N, 1, G, 1].

    Group variance = mean over the channels of the group of their variance,
    plus the variance of their means.

    Args:
      xp: the array library.
      x: [N, H, W, C].
      groups: G.
      scale: [C] that x was multiplied by, none of it 0: the moments are those
        of x / scale. None for 1.
    """
    mean, variance = spatial_moments(xp, x)
    if scale is not None:
        mean = mean * constant(xp, 1.0 / scale, x)
        variance = variance * constant(xp, 1.0 / np.square(scale), x)
    mean, variance = (grouped(xp, t, groups) for t in (mean, variance))
    if mean.shape[-1] == 1:  # No variance between channels.
        return Moments(mean, variance)
    center = group_mean(xp, mean)
    spread = xp.squared_difference(mean, center)
    return Moments(center, group_mean(xp, variance + spread))


def group_scale(
    xp: Any, second_moment: Array, gain: np.ndarray, epsilon: float
) -> Array:
    """Returns gain / sqrt(second moment + epsilon), [N, 1, 1, C]."""
    inverse = xp.rsqrt(second_moment + epsilon)
    gain = gain.reshape(1, 1, second_moment.shape[2], -1)
    return per_channel(xp, inverse * constant(xp, gain, inverse))
