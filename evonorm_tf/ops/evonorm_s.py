"""EvoNorm S0, S1, S2: a gated x over a statistic of its group.

    y = x * sigmoid(v * x) * k + beta,   k = gamma / group statistic

S0 has a trainable v; S1 and S2 have v = 1 (Table 1, arXiv:2004.02967).
"""

import tensorflow as tf

from evonorm_tf.ops.pointwise import Pointwise


def _gate(x, v):
    return tf.sigmoid(x if v is None else v * x)


def _forward(x, k, beta, v=None):
    return x * _gate(x, v) * k + beta


def _terms(x, dy, k, beta, v=None):
    del k, beta
    gate = _gate(x, v)
    gated = dy * x * gate
    if v is None:
        return [gated, dy]
    return [gated, dy, gated * x * (1.0 - gate)]


def _finish(sums, k, beta, v=None):
    del beta
    d_k, d_beta, *slope = sums
    return [d_k, d_beta, *(k * s for s in slope)]


def _slope(x, dy, k, beta, v=None):
    del beta
    gate = _gate(x, v)
    scaled = x if v is None else v * x
    return dy * k * gate * (1.0 + scaled * (1.0 - gate))


GATED = Pointwise(_forward, _terms, _finish, _slope)
