"""General kernels: plain functions of x [N, S, C], differentiated by autodiff.

These do not fit moments of every (sample, channel): PixelNorm, which is per
pixel over C, and the layers of the paper's search ablation. Each takes
(xp, x, parameters by name, BatchStatistics, Plan) and returns y, including the
affine.
"""

from collections.abc import Mapping
from typing import Any

from evonorm_tf.ops import baselines, folding
from evonorm_tf.ops.activations import Activation
from evonorm_tf.ops.kernel import (
    MOVING_MEAN_SQUARE,
    BatchStatistics,
    General,
    affine,
    over_space,
)

Array = Any


def scaled(z: Array, parameters: Mapping[str, Array]) -> Array:
    """Returns z * gamma + beta, with gamma and beta [C] or [N, C]."""
    gamma, beta = (over_space(t) for t in affine(parameters))
    return z * gamma + beta


def pixel_norm(act: Activation) -> General:
    """Pixelwise feature normalization over C, then `act`."""

    def apply(xp, x, parameters, batch, plan):
        del batch
        square = xp.mean(xp.square(x), -1, keepdims=True)
        z = scaled(x * xp.rsqrt(square + plan.epsilon), parameters)
        return act.value(xp, z, None)

    return General(apply)


def _random(xp, x, parameters, batch, plan):
    del batch
    gate = xp.sigmoid(xp.abs(x))
    mean = xp.mean(gate, 1, keepdims=True)
    variance = xp.mean(xp.square(gate - mean), 1, keepdims=True)
    z = xp.sqrt(variance + plan.epsilon)
    return scaled(xp.zeros_like(x) + xp.sign(z) * xp.sqrt(z), parameters)


def _random_rej(xp, x, parameters, batch, plan):
    del batch, plan
    return scaled(xp.tanh(xp.maximum(x, xp.tanh(x))), parameters)


def _rs_rej(xp, x, parameters, batch: BatchStatistics, plan):
    square = batch.moment("mean_square", MOVING_MEAN_SQUARE.name, x)
    z = xp.relu(x) * xp.rsqrt(square + plan.epsilon)
    return scaled(z, parameters)


RANDOM = General(_random)
RANDOM_REJ = General(_random_rej)
RS_REJ = General(_rs_rej, statistics=(MOVING_MEAN_SQUARE,))


def _fold_pixel(xp, c):
    def call(x):
        square = xp.mean(x * x, -1, keepdims=True)
        z = x * xp.rsqrt(square + c.epsilon)
        return folding.affine(xp, z, c.gamma, c.beta)

    return call


folded_pixel_norm = baselines.fold_activated(_fold_pixel)
