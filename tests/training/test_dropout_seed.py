"""Dropout: a pure function of (seed, step, replica, layer)."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from training import dropout_seed


@pytest.fixture(scope="module")
def dropped(mirrored):
    """f(seed, step): what three dropout layers do on both replicas."""
    with mirrored.scope(), dropout_seed.seedable():
        images = tf_keras.Input((256,))
        first = tf_keras.layers.Dropout(0.25)(images)
        twin = tf_keras.layers.Dropout(0.25)(images)
        rows = tf_keras.layers.Dropout(0.25, noise_shape=(None, 1))(images)
        model = tf_keras.Model(images, [first, rows, twin])

    def in_replica(seed, step):
        dropout_seed.seed(model, seed, step)
        return model(tf.ones([64, 256]), training=True)

    @tf.function
    def run(seed, step):
        dropped = mirrored.run(in_replica, args=(seed, step))
        local = mirrored.experimental_local_results
        return [result for layer in dropped for result in local(layer)]

    return lambda seed, step: [x.numpy() for x in run(seed, tf.constant(step))]


def test_same_place_same_units_other_place_others(dropped):
    once = dropped(1, 5)
    np.testing.assert_equal(once, dropped(1, 5))
    for other in (dropped(1, 6), dropped(2, 5)):
        for one, two in zip(once, other, strict=True):
            assert (one != two).any()
    first, second = once[:2]
    assert (first != second).any(), "both replicas dropped the same units"
    assert (first != once[4]).any(), "two layers dropped the same units"


def test_the_rate_and_the_scale_are_those_asked_for(dropped):
    first, _, rows, *_ = dropped(3, 0)
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    # 64 x 256 units: 5 standard deviations of the share are 0.017.
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.017)
    # A row is dropped whole: stochastic depth.
    assert ((rows == 0).all(axis=1) | (rows != 0).all(axis=1)).all()


def test_only_layers_built_inside_are_seedable():
    settings = tf_keras.backend.experimental
    before = settings.is_tf_random_generator_enabled()
    with pytest.raises(RuntimeError), dropout_seed.seedable():
        assert settings.is_tf_random_generator_enabled()
        raise RuntimeError
    assert settings.is_tf_random_generator_enabled() == before


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_compiled_program_draws_the_numbers_of_the_kernels(dtype):
    reference = tf.random.Generator.from_seed(3, alg="philox")
    ours = dropout_seed._Generator.from_seed(3, alg="philox")
    expected = reference.uniform([5, 7], dtype=dtype)

    @tf.function(jit_compile=True)
    def drawn():
        return ours.uniform([5, 7], dtype=dtype)

    tf.debugging.assert_equal(drawn(), expected)
    tf.debugging.assert_equal(
        ours.uniform([9], dtype=dtype), reference.uniform([9], dtype=dtype)
    )
