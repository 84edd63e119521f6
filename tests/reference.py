"""The layers as the papers write them: plain formulas in float64.

Independent of the library on purpose: it imports nothing of ours, keeps
every intermediate, and is slow. All means and variances are biased and
epsilon sits inside every square root (Table 2, arXiv:2004.02967).
Channels are last: x is [N, ..., C] with any number of spatial axes.

`xp` is the array module. NumPy gives values; `tf.experimental.numpy`
gives the same text to a GradientTape, which is "autodiff of the plain
formula".
"""

import math

import numpy as np

EPSILON = 1e-5

BATCH_MEAN = ("bn_relu", "bn_silu", "bn_swish")
BATCH_VARIANCE = ("evonorm_b0", "evonorm_b1", "evonorm_b2", *BATCH_MEAN)
BATCH_MEAN_SQUARE = ("rs_rej",)
# Layers whose `activation=False` is the bare affine: those that were found
# by search, where no line parts the normalisation from the activation.
SEARCHED = (
    *(f"evonorm_{kind}" for kind in ("b0", "b1", "b2", "s0", "s1", "s2")),
    *("random", "random_rej", "rs_rej"),
)


# Layers without statistics that replace a normalization, not an activation.
SQUASHED = ("dyt", "derf")


def default_groups(channels, wanted=32):
    """Returns 32, lowered one by one until it divides the channels."""
    while channels % wanted:
        wanted -= 1
    return wanted


def sigmoid(x, xp=np):
    """Logistic function, by tanh: no overflow at any x."""
    return 0.5 * (1.0 + xp.tanh(0.5 * x))


def mean(x, axes, xp=np):
    return xp.mean(x, axis=axes, keepdims=True)


def variance(x, axes, xp=np):
    centred = x - mean(x, axes, xp)
    return mean(centred * centred, axes, xp)


def space(x):
    """The axes of an image (H, W) or a volume (D, H, W)."""
    return tuple(range(1, len(x.shape) - 1))


def batch_statistics(name, x):
    """Returns what a layer keeps a moving average of, each [C]."""
    axes = tuple(range(x.ndim - 1))
    statistics = {}
    if name in BATCH_MEAN:
        statistics["moving_mean"] = x.mean(axes)
    if name in BATCH_VARIANCE:
        statistics["moving_variance"] = x.var(axes)
    if name in BATCH_MEAN_SQUARE:
        statistics["moving_mean_square"] = (x * x).mean(axes)
    return statistics


def moved(old, fresh, momentum=0.9):
    """One step of a moving average."""
    return momentum * old + (1.0 - momentum) * fresh


def forward(name, x, weights, **settings):
    """Returns the layer's output for x, an array like x.

    Args:
        name: a catalog name.
        x: [N, ..., C], float64.
        weights: gamma, beta ([C] or class-conditional [N, C]) and v [C].
            A missing gamma is 1 and a missing beta 0.
        **settings: groups (int), activation (default True), epsilon,
            moving (inference: a dict of [C] with the names that
            batch_statistics gives), and xp.
    """
    activation = settings.pop("activation", True)
    xp = settings.get("xp", np)

    def affine(z):
        z = z * _wide(weights.get("gamma", 1.0), x, xp)
        return z + _wide(weights.get("beta", 0.0), x, xp)

    v = weights.get("v")
    if name in SEARCHED:
        return affine(_searched(name, x, v, **settings) if activation else x)
    if name in SQUASHED:
        return affine(_squashed(name, x, weights, xp))
    z = affine(_normalised(name, x, **settings))
    return _activated(name, z, v, xp) if activation else z


def _searched(name, x, v, groups=None, epsilon=EPSILON, moving=None, xp=np):
    """What the search found, before the affine."""
    hw = space(x)

    def root(statistic):
        return xp.sqrt(statistic + epsilon)

    if name in ("evonorm_b0", "evonorm_b1", "evonorm_b2"):
        left = root(_batch_variance(x, moving, xp))
        if name == "evonorm_b0":
            right = v * x + root(variance(x, hw, xp))
        elif name == "evonorm_b1":
            right = (x + 1.0) * root(mean(x * x, hw, xp))
        else:
            right = root(mean(x * x, hw, xp)) - x
        return x / xp.maximum(left, right)
    if name == "evonorm_s0":
        return x * sigmoid(v * x, xp) / root(_by_group(variance, x, groups, xp))
    if name == "evonorm_s1":
        return x * sigmoid(x, xp) / root(_by_group(variance, x, groups, xp))
    if name == "evonorm_s2":
        mean_square = _by_group(mean, x * x, groups, xp)
        return x * sigmoid(x, xp) / root(mean_square)
    if name == "random":
        z = root(variance(sigmoid(xp.abs(x), xp), hw, xp))
        return xp.sign(z) * xp.sqrt(z) + 0.0 * x  # of x's shape
    if name == "random_rej":
        return xp.tanh(xp.maximum(x, xp.tanh(x)))
    if name == "rs_rej":
        return xp.maximum(x, 0.0 * x) / root(_batch_mean_square(x, moving, xp))
    raise ValueError(f"no such searched layer: {name}")


def _squashed(name, x, weights, xp):
    """Dynamic Tanh (arXiv:2503.10622) and Dynamic Erf (arXiv:2512.10938)."""
    z = weights["alpha"] * x
    return xp.tanh(z) if name == "dyt" else erf(z + weights["s"], xp)


def erf(z, xp=np):
    """The error function; `xp` has none."""
    if xp is np:
        return np.vectorize(math.erf, otypes=[np.float64])(z)
    import tensorflow as tf

    return tf.math.erf(z)


def _normalised(name, x, groups=None, epsilon=EPSILON, moving=None, xp=np):
    """The baselines' normalisation, before the affine."""
    hw = space(x)
    if name in BATCH_MEAN:
        axes = tuple(range(len(x.shape) - 1))
        centre = moving["moving_mean"] if moving else mean(x, axes, xp)
        spread = _batch_variance(x, moving, xp)
    elif name in ("gn_relu", "gn_silu", "gn_swish"):
        centre = _by_group(mean, x, groups, xp)
        spread = _by_group(variance, x, groups, xp)
    elif name == "ln_relu":
        axes = tuple(range(1, len(x.shape)))
        centre, spread = mean(x, axes, xp), variance(x, axes, xp)
    elif name == "pn_relu":
        centre, spread = 0.0, mean(x * x, (len(x.shape) - 1,), xp)
    elif name == "frn":
        centre, spread = 0.0, mean(x * x, hw, xp)
    else:
        raise ValueError(f"no such baseline: {name}")
    return (x - centre) / xp.sqrt(spread + epsilon)


def _activated(name, z, v, xp):
    if name == "frn":  # TLU, the thresholded linear unit
        return xp.maximum(z, v + 0.0 * z)
    if name.endswith("_relu"):
        return xp.maximum(z, 0.0 * z)
    return z * sigmoid(v * z if name.endswith("_swish") else z, xp)


def _wide(parameter, x, xp):
    """Makes a [C] or [N, C] parameter broadcast against x."""
    if len(getattr(parameter, "shape", ())) < 2:
        return parameter
    rows, channels = parameter.shape
    ones = (1,) * (len(x.shape) - 2)
    return xp.reshape(parameter, (rows, *ones, channels))


def _batch_variance(x, moving, xp):
    if moving:
        return moving["moving_variance"]
    return variance(x, tuple(range(len(x.shape) - 1)), xp)


def _batch_mean_square(x, moving, xp):
    if moving:
        return moving["moving_mean_square"]
    return mean(x * x, tuple(range(len(x.shape) - 1)), xp)


def _by_group(statistic, x, groups, xp):
    """A statistic over space and the channels of a group, [N, 1.., C]."""
    *outer, channels = x.shape
    groups = default_groups(channels) if groups is None else groups
    split = xp.reshape(x, (*outer, groups, channels // groups))
    value = statistic(split, (*space(x), len(x.shape)), xp)
    ones = (1,) * (len(outer) - 1)
    repeated = xp.broadcast_to(
        value, (outer[0], *ones, groups, channels // groups)
    )
    return xp.reshape(repeated, (outer[0], *ones, channels))


def numeric_gradient(function, at, step=1e-5):
    """Central differences of a scalar function, an array like `at`.

    Error: step^2/6 of the third derivative, plus 1e-16/step of the value:
    about 1e-10 relative for values and derivatives near 1.
    """
    at = np.array(at, dtype=np.float64)
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function(at)
        at[index] = kept - step
        below = function(at)
        at[index] = kept
        gradient[index] = (above - below) / (2.0 * step)
    return gradient


def numeric_gradients(name, x, weights, cotangent, **settings):
    """Gradients of sum(cotangent * forward) by x and by every weight."""

    def loss_of(key):
        def loss(value):
            if key == "x":
                y = forward(name, value, weights, **settings)
            else:
                y = forward(name, x, {**weights, key: value}, **settings)
            return np.sum(cotangent * y)

        return loss

    points = {"x": x, **weights}
    return {k: numeric_gradient(loss_of(k), p) for k, p in points.items()}
