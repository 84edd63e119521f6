"""Gain and offset of a layer that takes the place of a trained BatchNorm.

BatchNorm's gain and offset stand before the activation, an EvoNorm's after it,
and an EvoNorm subtracts no mean: copied, they give outputs of another size in
every channel, which the layers behind were not trained for. So both layers
compute normal draws of the channels' moving mean and variance, and the new
one gets the gain and offset with which its outputs have, in every channel, the
mean and the standard deviation of the old one's.
"""

from typing import Any

import numpy as np

from evonorm_tf.conversion import (
    activations,
    plan,
    recalibration,
    structures,
)
from evonorm_tf.conversion.sites import Site
from evonorm_tf.ops import settings

_SAMPLES, _SIDE = 16, 8  # maps of 64 pixels
# What hardly varies over the draws may vary over images: no gain is larger.
_MOST = 10.0


def applies(site: Site, new: Any) -> bool:
    """Whether a site's layer was a trained BatchNorm, with an activation."""
    row = new.row
    last = row.without_activation is not None and (
        row.without_activation.name == "affine"
    )
    if not (new.activation and new.affine and site.activation and last):
        return False
    return has_trained_statistics(site.layer)


def has_trained_statistics(layer: Any) -> bool:
    """Whether a layer has finite moving moments other than 0 and 1."""
    names = ("moving_mean", "moving_variance")
    if any(getattr(layer, name, None) is None for name in names):
        return False
    mean, variance = (structures.value(getattr(layer, n)) for n in names)
    known = np.all(np.isfinite(mean)) and np.all(np.isfinite(variance))
    return bool(known and (np.any(mean != 0.0) or np.any(variance != 1.0)))


def matched(
    site: Site, new: Any, follower: activations.Follower | None
) -> dict[str, np.ndarray]:
    """What the new layer starts from, by the name of its weight.

    Args:
      site: with the trained layer.
      new: the built layer for it.
      follower: the activation after the old layer; None if it has one itself.

    Returns:
      Gain, offset and moving statistics, [C] each.
    """
    old = site.layer
    x = _draws(site)
    wanted = old(x, training=False)
    if follower is not None:
        wanted = activations.compute(follower, wanted)
    before = [structures.value(w) for w in recalibration.statistics(new)]
    learns = new.trainable
    new.trainable = True  # Else it would use the moving statistics.
    new.gamma.assign(np.ones(site.channels))
    new.beta.assign(np.zeros(site.channels))
    with settings.using(xla=False):
        found = new(x, training=True)
    names = [name for name, _ in plan.active(new).kernel.statistics]
    after = [structures.value(getattr(new, name)) for name in names]
    new.trainable = learns
    mean, spread = _moments(wanted, site.axis)
    center, width = _moments(found, site.axis)
    gain = spread / np.maximum(width, 1e-12)
    gain = np.minimum(gain, _MOST)
    return {
        "gamma": gain,
        "beta": mean - gain * center,
        # A moving average of one batch: undone, it is the batch's own.
        **{
            name: (end - new.momentum * start) / (1.0 - new.momentum)
            for name, start, end in zip(names, before, after)
        },
    }


def _draws(site: Site) -> np.ndarray:
    """Normal values with the channels' moments, a batch of small maps."""
    mean, variance = (
        structures.value(one).astype(np.float64)
        for one in (site.layer.moving_mean, site.layer.moving_variance)
    )
    space = [_SIDE] * (len(site.shape) - 2)
    shape = [_SAMPLES, *space, site.channels]
    normal = np.random.default_rng(0).normal(size=shape)
    x = mean + np.sqrt(np.maximum(variance, 0.0)) * normal
    return np.moveaxis(x, -1, site.axis).astype(np.float32)


def _moments(values: Any, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every channel."""
    values = np.asarray(values).astype(np.float64)
    values = np.moveaxis(values, axis, -1)
    values = values.reshape(-1, values.shape[-1])
    return values.mean(0), values.std(0)
