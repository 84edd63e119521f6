"""What the new layers take over from the old ones."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)


def _model(keras, layer, activation=True, **options):
    inputs = keras.Input((6, 6, 4))
    x = getattr(keras.layers, layer)(name="norm", **options)(inputs)
    if activation:
        x = keras.layers.ReLU(name="act")(x)
    return small.scatter(keras.Model(inputs, x))


def _values(layer):
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return {
        name: np.asarray(tf.convert_to_tensor(weight))
        for name in names
        if (weight := getattr(layer, name, None)) is not None
    }


@cases.both_kerases
def test_the_same_layer_computes_the_same(kit_name):
    """BatchNorm + ReLU as bn_relu, GroupNorm + ReLU as gn_relu."""
    keras = cases.kit(kit_name).keras
    x = small.draw(4, 6, 6, 4)
    for layer, name, options in (
        ("BatchNormalization", "bn_relu", {}),
        ("GroupNormalization", "gn_relu", {"groups": 2}),
    ):
        model = _model(keras, layer, epsilon=1e-3, **options)
        make = small.make(kit_name, name, epsilon=1e-3, **options)
        new = evonorm_tf.convert(model, make)
        np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_s0", "frn"])
@cases.both_kerases
def test_gain_offset_and_statistics_move_by_name(kit_name, name):
    model = _model(cases.kit(kit_name).keras, "BatchNormalization")
    new = evonorm_tf.convert(model, name)
    old, got = _values(model.get_layer("norm")), _values(new.layers[1])
    wanted = {"gamma", "beta"}
    if name == "evonorm_b0":
        wanted.add("moving_variance")
    assert set(got) == wanted
    for key in wanted:
        np.testing.assert_array_equal(got[key], old[key])


@cases.both_kerases
def test_an_affine_is_what_batch_norm_was_at_inference(kit_name):
    model = _model(
        cases.kit(kit_name).keras, "BatchNormalization", activation=False
    )
    new = evonorm_tf.convert(model, "evonorm_s0", without_activation="replace")
    x = small.draw(4, 6, 6, 4)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)
    # Without statistics there is nothing to fold: gain and offset move.
    other = _model(
        *(cases.kit(kit_name).keras, "GroupNormalization", False), groups=2
    )
    got = _values(
        evonorm_tf.convert(
            other, "evonorm_s0", without_activation="replace"
        ).layers[1]
    )
    for key, value in _values(other.get_layer("norm")).items():
        np.testing.assert_array_equal(got[key], value)


@cases.both_kerases
def test_layers_without_gain_or_offset(kit_name):
    """What the old layer has not, the new one starts as it does."""
    keras = cases.kit(kit_name).keras
    model = _model(keras, "BatchNormalization", scale=False)
    got = _values(
        evonorm_tf.convert(
            model, "evonorm_s0", without_activation="replace"
        ).layers[1]
    )
    np.testing.assert_array_equal(got["gamma"], np.ones(4))
    model = _model(keras, "BatchNormalization", center=False, activation=False)
    new = evonorm_tf.convert(model, "evonorm_s0", without_activation="replace")
    x = small.draw(4, 6, 6, 4)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)
    # A gain for every pixel is none for a channel.
    model = _model(keras, "LayerNormalization", axis=[1, 2, 3])
    got = _values(
        evonorm_tf.convert(
            model, "evonorm_s0", without_activation="replace"
        ).layers[1]
    )
    np.testing.assert_array_equal(got["gamma"], np.ones(4))
    np.testing.assert_array_equal(got["beta"], np.zeros(4))
