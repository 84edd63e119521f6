"""sigma is the largest singular value, and the gradient goes through it."""

import numpy as np
import pytest
import tensorflow as tf

from gan import spectral

NORMAL = "random_normal"
MAKERS = {
    "conv": (lambda: spectral.Conv(6, 3, NORMAL), (2, 4, 4, 5)),
    "dense": (lambda: spectral.Dense(6, NORMAL), (2, 5)),
    "embedding": (lambda: spectral.Embedding(7, 5, NORMAL), None),
}


def _made(kind):
    make, shape = MAKERS[kind]
    inputs = tf.constant([1, 3])
    if shape:
        inputs = tf.random.stateless_normal(shape, [0, 1])
    layer = make()
    layer(inputs)
    return layer, inputs


def _largest(layer):
    matrix = layer.kernel.numpy()
    return np.linalg.norm(matrix.reshape(-1, matrix.shape[-1]), 2)


@pytest.mark.parametrize("kind", MAKERS)
def test_training_finds_the_largest_singular_value(kind):
    layer, inputs = _made(kind)
    for _ in range(50):
        layer(inputs, training=True)
    # 50 iterations: within a percent whatever the gap to the second.
    assert float(layer.sigma()) == pytest.approx(_largest(layer), rel=1e-2)
    weight = layer._normalized(training=False)
    matrix = tf.reshape(weight, [-1, weight.shape[-1]])
    assert np.linalg.norm(matrix, 2) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("kind", MAKERS)
def test_u_is_written_in_training_alone_and_the_kernel_never(kind):
    layer, inputs = _made(kind)
    u, kernel = layer.u.numpy(), layer.kernel.numpy()
    layer(inputs)
    layer(inputs, training=False)
    np.testing.assert_array_equal(layer.u, u)
    layer(inputs, training=True)
    assert np.abs(layer.u.numpy() - u).max() > 0.1
    np.testing.assert_array_equal(layer.kernel, kernel)
    assert [v.shape for v in layer.non_trainable_variables] == [u.shape]


@pytest.mark.parametrize("kind", MAKERS)
def test_settle_forgets_the_past(kind):
    layer, inputs = _made(kind)
    layer.settle(50)
    once = layer.u.numpy()
    layer(inputs, training=True)
    layer.settle(50)
    np.testing.assert_array_equal(layer.u, once)
    assert float(layer.sigma()) == pytest.approx(_largest(layer), rel=1e-2)


def test_gradient_through_sigma_against_finite_differences():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 4, 5))
    cost = rng.standard_normal((3, 4, 5))
    # From the exact vector: the estimate's derivative is then sigma's own.
    u = tf.constant(np.linalg.svd(weight.reshape(12, 5))[2][0])

    def value(w):
        return tf.reduce_sum(cost * spectral.normalize(w, u)[0])

    tensor = tf.constant(weight)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        result = value(tensor)
    gradient = tape.gradient(result, tensor).numpy()
    step = 1e-6
    for index in np.ndindex(weight.shape):
        shift = np.zeros_like(weight)
        shift[index] = step
        slope = (value(weight + shift) - value(weight - shift)) / (2 * step)
        assert float(slope) == pytest.approx(gradient[index], abs=1e-7)
    # A quotient's gradient without sigma's share would be cost / sigma.
    sigma = np.linalg.norm(weight.reshape(12, 5), 2)
    assert np.abs(gradient - cost / sigma).max() > 0.01


def test_gradient_reaches_the_kernel_orthogonal_to_it():
    layer, inputs = _made("dense")
    layer.settle(200)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs, training=True) ** 2)
    gradient = tape.gradient(loss, layer.kernel)
    # W / sigma(W) does not change with the scale of W.
    scale = tf.norm(gradient) * tf.norm(layer.kernel)
    assert abs(float(tf.reduce_sum(gradient * layer.kernel) / scale)) < 1e-5
    assert float(tf.norm(gradient)) > 0.1


def test_division_is_in_float32_under_bfloat16():
    layer = spectral.Conv(6, 3, NORMAL)
    layer._set_dtype_policy("mixed_bfloat16")
    y = layer(tf.ones([1, 4, 4, 5], tf.bfloat16), training=True)
    assert y.dtype == tf.bfloat16
    assert layer.u.dtype == layer.kernel.dtype == tf.float32
    assert float(tf.norm(tf.convert_to_tensor(layer.u))) == pytest.approx(
        1.0, abs=1e-6
    )
