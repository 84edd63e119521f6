"""EvoNorm B0, B1, B2: x over the larger of batch std and a bound r(x).

    y = x / d * gamma + beta,   d = max(s, r(x)),   s = batch std

    B0   r = v * x + q     q = instance std
    B1   r = (x + 1) * q   q = instance RMS
    B2   r = q - x         q = instance RMS

r is linear in x with r(x) - x * r'(x) = q in all three, so one derivative
serves them: where r wins, d(x / r) / dx = q / r^2, elsewhere 1 / s. What
differs is r and its partial derivatives (Table 1, arXiv:2004.02967).
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from evonorm_tf.ops.pointwise import Pointwise

Tensor = tf.Tensor


def _family(
    bound: Callable[..., Tensor],
    partials: Callable[..., Sequence[Tensor | float]],
) -> Pointwise:
    """Builds the family of one r(x).

    Args:
      bound: (x, *extra) -> r(x); extra are the coefficients after s, gamma
        and beta, q first.
      partials: (x, *extra) -> dr/d(extra), one a coefficient.
    """

    def forward(x, s, gamma, beta, *extra):
        return x / tf.maximum(s, bound(x, *extra)) * gamma + beta

    def terms(x, dy, s, gamma, beta, *extra):
        del gamma, beta
        r = bound(x, *extra)
        inverse = 1.0 / tf.maximum(s, r)
        t = dy * x * inverse
        # As tf.maximum's own gradient: at a tie the first argument has it.
        # Scalars, here and below: TensorFlow's XLA bridge computes constants
        # of full size when it compiles, and holds those of a whole network.
        zero = tf.zeros([], t.dtype)
        inside = tf.where(r > s, t, zero)
        slopes = [inside * inverse * p for p in partials(x, *extra)]
        return [t, dy, tf.where(r > s, zero, t), *slopes]

    def finish(sums, s, gamma, beta, *extra):
        del beta, extra
        d_gamma, d_beta, outside, *slopes = sums
        d_s = -gamma * outside / s
        return [d_s, d_gamma, d_beta, *(-gamma * p for p in slopes)]

    def slope(x, dy, s, gamma, beta, *extra):
        del beta
        r = bound(x, *extra)
        d = tf.where(r > s, tf.square(r) / extra[0], s)
        return dy * gamma / d

    return Pointwise(forward, terms, finish, slope)


B0 = _family(
    bound=lambda x, q, v: v * x + q,
    partials=lambda x, q, v: [1.0, x],
)
B1 = _family(
    bound=lambda x, q: (x + 1.0) * q,
    partials=lambda x, q: [x + 1.0],
)
B2 = _family(
    bound=lambda x, q: q - x,
    partials=lambda x, q: [1.0],
)
