"""General rows: plain functions of x [N, S, C], differentiated by TensorFlow.

For what does not fit moments of every (sample, channel): PixelNorm, which is
per pixel over C, and the layers of the paper's search ablation. Each takes
(x, parameters by name, BatchStatistics, Plan) and returns y, affine included.
"""

import tensorflow as tf

from evonorm_tf.ops.coefficients import affine, inverse_std, std
from evonorm_tf.ops.plan import BatchStatistics

Tensor = tf.Tensor


def scaled(z: Tensor, p: dict[str, Tensor]) -> Tensor:
    def expand(t):  # [C] as it is; class-conditional [N, C] over space
        return t if isinstance(t, float) or t.shape.rank == 1 else t[:, None]

    gamma, beta = affine(p)
    return z * expand(gamma) + expand(beta)


def _pixel_norm(x, p, plan):
    square = tf.reduce_mean(tf.square(x), -1, keepdims=True)
    return scaled(x * inverse_std(square, plan), p)


def pn(x, p, batch, plan):
    del batch
    return _pixel_norm(x, p, plan)


def pn_relu(x, p, batch, plan):
    del batch
    return tf.nn.relu(_pixel_norm(x, p, plan))


def random(x, p, batch, plan):
    del batch
    gate = tf.sigmoid(tf.abs(x))
    mean = tf.reduce_mean(gate, 1, keepdims=True)
    variance = tf.reduce_mean(tf.square(gate - mean), 1, keepdims=True)
    z = std(variance, plan)
    return scaled(tf.zeros_like(x) + tf.sign(z) * tf.sqrt(z), p)


def random_rej(x, p, batch, plan):
    del batch, plan
    return scaled(tf.tanh(tf.maximum(x, tf.tanh(x))), p)


def rs_rej(x, p, batch: BatchStatistics, plan):
    square = batch.mean_square("moving_mean_square", x)
    return scaled(tf.nn.relu(x) * inverse_std(square, plan), p)
