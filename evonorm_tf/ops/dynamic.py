"""Element-wise layers without statistics: Dynamic Tanh and Dynamic Erf.

    DyT    y = gamma * tanh(alpha * x) + beta         arXiv:2503.10622
    Derf   y = gamma * erf(alpha * x + s) + beta      arXiv:2512.10938

alpha and s are scalars, one of each per layer. In both papers the layer
replaces a normalization layer and the activations of the network stay.
"""

import math
from typing import Any, NamedTuple

from evonorm_tf.ops import folding
from evonorm_tf.ops.folding import Folded
from evonorm_tf.ops.kernel import Analytic, Pointwise, affine

Array = Any
_SLOPE_OF_ERF = 2.0 / math.sqrt(math.pi)


class Squashed(NamedTuple):
    """Coefficients of the family, each broadcastable to [N, C].

    Attributes:
      alpha: steepness, a scalar.
      s: shift inside the squashing function, a scalar; None for 0.
      gamma: gain.
      beta: bias.
    """

    alpha: Array
    s: Array | None
    gamma: Array
    beta: Array


def _pre(x, c):
    return c.alpha * x if c.s is None else c.alpha * x + c.s


def _pointwise(value, slope) -> Pointwise:
    """The element-wise step of one squashing function.

    Args:
      value: (xp, z) -> f(z).
      slope: (xp, z) -> f'(z).
    """

    def forward(xp, x, c):
        return value(xp, _pre(x, c)) * c.gamma + c.beta

    def terms(xp, x, dy, c):
        z = _pre(x, c)
        dz = dy * slope(xp, z)
        found = {"alpha": dz * x, "gamma": dy * value(xp, z), "beta": dy}
        if c.s is not None:
            found["s"] = dz
        return found

    def finish(sums, c):
        return Squashed(
            alpha=c.gamma * sums["alpha"],
            s=None if c.s is None else c.gamma * sums["s"],
            gamma=sums["gamma"],
            beta=sums["beta"],
        )

    def gradient(xp, x, dy, c):
        return dy * c.gamma * c.alpha * slope(xp, _pre(x, c))

    return Pointwise(forward, terms, finish, gradient)


def _coefficients(xp, statistics, parameters, plan):
    del xp, statistics, plan
    gamma, beta = affine(parameters)
    return Squashed(parameters["alpha"], parameters.get("s"), gamma, beta)


DYT = Analytic(
    _pointwise(
        value=lambda xp, z: xp.tanh(z),
        slope=lambda xp, z: 1.0 - xp.square(xp.tanh(z)),
    ),
    _coefficients,
)
DERF = Analytic(
    _pointwise(
        value=lambda xp, z: xp.erf(z),
        slope=lambda xp, z: _SLOPE_OF_ERF * xp.exp(-xp.square(z)),
    ),
    _coefficients,
)


def _fold(value) -> Folded:
    def make(xp, c):
        def call(x):
            z = x * folding.constant(xp, c.alpha, x)
            if "s" in c.weights:
                z = z + folding.constant(xp, c.s, x)
            return folding.affine(xp, value(xp, z), c.gamma, c.beta)

        return call

    return Folded(make, any_rank=True)


FOLDED_DYT = _fold(lambda xp, z: xp.tanh(z))
FOLDED_DERF = _fold(lambda xp, z: xp.erf(z))
