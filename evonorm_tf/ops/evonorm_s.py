"""EvoNorm S0, S1, S2: a gated x divided by a statistic of its group.

    y = x * sigmoid(v * x) * k + beta,   k = gamma / group statistic

S0 has a trainable v; S1 and S2 have v = 1. The statistic is the standard
deviation of the group, or its RMS for S2 (Table 1, arXiv:2004.02967).
"""

from typing import Any, NamedTuple

import numpy as np

from evonorm_tf.ops import activations, folding, moments
from evonorm_tf.ops.folding import Folded
from evonorm_tf.ops.kernel import Analytic, Pointwise, affine

Array = Any


class Gated(NamedTuple):
    """Coefficients of the family, each broadcastable to [N, C].

    Attributes:
      scale: k, gamma over the statistic of the group.
      beta: bias.
      v: of S0; None for 1.
    """

    scale: Array
    beta: Array
    v: Array | None = None


def _scaled(x, c):
    return x if c.v is None else c.v * x


def _forward(xp, x, c):
    return x * xp.sigmoid(_scaled(x, c)) * c.scale + c.beta


def _terms(xp, x, dy, c):
    gate = xp.sigmoid(_scaled(x, c))
    gated = dy * x * gate
    found = {"scale": gated, "beta": dy}
    if c.v is not None:
        found["v"] = gated * x * (1.0 - gate)
    return found


def _finish(sums, c):
    v = None if c.v is None else c.scale * sums["v"]
    return Gated(sums["scale"], sums["beta"], v)


def _slope(xp, x, dy, c):
    scaled = _scaled(x, c)
    gate = xp.sigmoid(scaled)
    return dy * c.scale * gate * (1.0 + scaled * (1.0 - gate))


def _kernel(second_moment) -> Analytic:
    def coefficients(xp, statistics, parameters, plan):
        group = moments.group_moments(xp, statistics.sample, plan.groups)
        gamma, beta = affine(parameters)
        inverse = xp.rsqrt(second_moment(group) + plan.epsilon)
        return Gated(gamma * inverse, beta, parameters.get("v"))

    pointwise = Pointwise(_forward, _terms, _finish, _slope)
    return Analytic(pointwise, coefficients, instance=True)


S0_S1 = _kernel(second_moment=lambda group: group.variance)
S2 = _kernel(second_moment=moments.mean_square)

# -- folded forms: x * sigmoid(v*x) * (gamma / group statistic) + beta ---------


def _fold_std(xp, c):
    v = c.weights.get("v")
    # v * x is computed first and used instead of x: after a convolution it
    # costs nothing, because converters multiply the kernel by v.
    first = v is not None and bool(np.all(np.abs(v) >= folding.SMALL_V))
    scale, gain = (v, c.gamma / v) if first else (None, c.gamma)
    gate = activations.silu(xp) if first else activations.swish(xp, c)

    def call(x):
        if first:
            x = x * folding.constant(xp, v, x)
        moment = folding.group_moments(xp, x, c.groups, scale).variance
        inverse = folding.group_scale(xp, moment, gain, c.epsilon)
        return gate(x) * inverse + folding.constant(xp, c.beta, x)

    return call


def _fold_rms(xp, c):
    gate = activations.swish(xp, c)

    def call(x):
        moment = folding.group_mean_square(xp, x, c.groups)
        inverse = folding.group_scale(xp, moment, c.gamma, c.epsilon)
        return gate(x) * inverse + folding.constant(xp, c.beta, x)

    return call


FOLDED_S0_S1 = Folded(_fold_std)
FOLDED_S2 = Folded(_fold_rms)
