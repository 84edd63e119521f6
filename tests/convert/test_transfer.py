"""What the new layers take over from the old ones."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from evonorm_tf import graphs
from evonorm_tf.graphs import compile as compiling
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


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("BatchNormalization", "frn"),
        ("BatchNormalization", "bn_silu"),
        ("GroupNormalization", "evonorm_b0"),
        ("GroupNormalization", "evonorm_s0"),
    ],
)
@cases.both_kerases
def test_gain_offset_and_statistics_move_by_name(kit_name, layer, name):
    options = {"groups": 2} if layer == "GroupNormalization" else {}
    model = _model(cases.kit(kit_name).keras, layer, **options)
    new = evonorm_tf.convert(model, name)
    old, got = _values(model.get_layer("norm")), _values(new.layers[1])
    shared = set(got) & set(old)
    assert {"gamma", "beta"} <= shared
    for key in shared:
        np.testing.assert_array_equal(got[key], old[key])


def _draws(layer, shape):
    """Images with a trained layer's mean and variance in every channel."""
    mean, variance = (
        np.asarray(tf.convert_to_tensor(one))
        for one in (layer.moving_mean, layer.moving_variance)
    )
    return mean + np.sqrt(variance) * small.draw(*shape, seed=9)


@pytest.mark.parametrize(
    "name", ["evonorm_b0", "evonorm_s0", "evonorm_s2", "graph"]
)
@cases.both_kerases
def test_gain_and_offset_keep_the_size_of_a_trained_layers_output(
    kit_name, name
):
    """Mean and standard deviation of every channel, after the activation."""
    if name == "graph":
        name = graphs.row(graphs.NAMED["evonorm_b1"])
    keras = cases.kit(kit_name).keras
    model = _model(keras, "BatchNormalization")
    norm = model.get_layer("norm")
    # Channels of unlike size, not centred, one of them with an inverted gain.
    norm.moving_mean.assign(np.array([0.3, -1.0, 0.0, 2.0], np.float32))
    norm.moving_variance.assign(np.array([0.1, 1.0, 9.0, 4.0], np.float32))
    norm.gamma.assign(np.array([1.0, -0.5, 2.0, 1.0], np.float32))
    new = evonorm_tf.convert(model, name, groups=2, xla=False)
    x = _draws(norm, (32, 6, 6, 4)).astype(np.float32)
    wanted = np.asarray(model(x, training=False))
    for training in (True, False):
        got = np.asarray(new(x, training=training))
        for moment in (np.mean, np.std):
            np.testing.assert_allclose(
                moment(got, (0, 1, 2)), moment(wanted, (0, 1, 2)), rtol=0.1
            )
    # The layer itself is not changed by that, nor is the old one.
    layer = new.get_layer("norm")
    assert layer.trainable and layer.momentum == 0.9
    np.testing.assert_array_equal(
        tf.convert_to_tensor(norm.moving_mean),
        np.array([0.3, -1.0, 0.0, 2.0], np.float32),
    )


@cases.both_kerases
def test_an_untrained_layer_starts_as_new(kit_name):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU()(x))
    got = _values(evonorm_tf.convert(model, "evonorm_s0").layers[1])
    np.testing.assert_array_equal(got["gamma"], np.ones(4))
    np.testing.assert_array_equal(got["beta"], np.zeros(4))
    # Statistics that are not finite say nothing.
    model = _model(keras, "BatchNormalization")
    norm = model.get_layer("norm")
    norm.moving_variance.assign(np.full(4, np.inf, np.float32))
    got = _values(evonorm_tf.convert(model, "evonorm_s0").layers[1])
    np.testing.assert_array_equal(got["gamma"], _values(norm)["gamma"])


@cases.both_kerases
def test_a_frozen_or_silenced_layer_stays_so(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, "BatchNormalization")
    norm = model.get_layer("norm")
    norm.trainable = False
    norm.gamma.assign(np.zeros(4, np.float32))
    norm.beta.assign(np.array([-1.0, 0.5, 0.0, 2.0], np.float32))
    layer = evonorm_tf.convert(model, "evonorm_b0").get_layer("norm")
    assert not layer.trainable
    got = _values(layer)
    np.testing.assert_allclose(got["gamma"], np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(got["beta"], [0.0, 0.5, 0.0, 2.0], atol=1e-6)
    np.testing.assert_array_equal(
        got["moving_variance"], _values(norm)["moving_variance"]
    )


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
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(scale=False)(inputs)
    model = keras.Model(inputs, keras.layers.ReLU()(x))
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
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    assert "gamma and beta not kept" in report.entries[0].note
    got = _values(new.layers[1])
    np.testing.assert_array_equal(got["gamma"], np.ones(4))
    np.testing.assert_array_equal(got["beta"], np.zeros(4))


@cases.both_kerases
def test_one_channel_can_be_trained(kit_name):
    """Though it differs from no other channel."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 1))
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, keras.layers.ReLU()(norm(inputs)))
    norm.moving_mean.assign([2.0])
    norm.moving_variance.assign([9.0])
    norm.beta.assign([-1.0])
    new = evonorm_tf.convert(model, "evonorm_b0")
    x = 2.0 + 3.0 * small.draw(64, 6, 6, 1)
    for statistic in (np.mean, np.std):
        np.testing.assert_allclose(
            statistic(new(x)), statistic(model(x)), rtol=0.2
        )
    alone = keras.Model(inputs, norm(inputs))
    with pytest.warns(UserWarning, match="trained ones among them"):
        evonorm_tf.convert(alone, "evonorm_b0", without_activation="replace")


@cases.both_kerases
def test_layers_without_affine_take_over_no_gain(kit_name):
    kit = cases.kit(kit_name)
    model = _model(kit.keras, "BatchNormalization", activation=False)
    make = small.make(kit_name, "evonorm_s0", affine=False)
    new = evonorm_tf.convert(model, make, without_activation="replace")
    assert not new.get_layer("norm").weights


def test_a_graph_compiled_twice_is_the_same_layer():
    """Rows are cached, but not all that a search makes."""
    kit = cases.kit("keras3")
    graph = graphs.NAMED["evonorm_b0"]
    layer = kit.layers.NormAct(graphs.row(graph), name="norm")
    inputs = kit.keras.Input((6, 6, 4))
    model = small.scatter(kit.keras.Model(inputs, layer(inputs)))
    compiling._row.cache_clear()
    new = evonorm_tf.convert(model, graphs.row(graph)).get_layer("norm")
    assert new.row is not layer.row
    for old, weight in zip(layer.weights, new.weights):
        np.testing.assert_array_equal(weight, old)
