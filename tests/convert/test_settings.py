"""Settings of the layer, warnings, and functions that are layers' own."""

import functools
import inspect
import warnings

import numpy as np
import pytest

import evonorm_tf
from evonorm_tf.conversion import api
from evonorm_tf.layer import NormActMixin
from tests import cases
from tests.convert import small


def _model(keras, *layers):
    x = inputs = keras.Input((6, 6, 8))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="chain")


def _pair(keras, **options):
    return [
        keras.layers.BatchNormalization(name="norm", **options),
        keras.layers.ReLU(name="act"),
    ]


@cases.both_kerases
def test_settings_go_to_every_layer(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, *_pair(keras))
    new = evonorm_tf.convert(
        model, "evonorm_b0", min_group_size=4, momentum=0.5, xla=False
    )
    layer = new.get_layer("norm")
    assert layer.min_group_size == 4 and layer.momentum == 0.5
    assert layer.xla is False
    _, report = evonorm_tf.convert(
        model, "evonorm_s0", groups=2, return_report=True
    )
    assert report.entries[0].groups == 2
    for wanted in (True, False):
        new = evonorm_tf.convert(model, "evonorm_b0", synchronized=wanted)
        assert new.get_layer("norm").synchronized is wanted


@cases.both_kerases
def test_wrong_settings(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, *_pair(keras))
    with pytest.raises(TypeError) as caught:
        evonorm_tf.convert(model, "evonorm_s0", min_groups=4)
    said = str(caught.value)
    assert "Received: min_groups" in said
    assert all(name in said for name in api._SETTINGS)
    make = small.make(kit_name, "evonorm_s0")
    with pytest.raises(TypeError, match=r"callable.* groups$"):
        evonorm_tf.convert(model, make, groups=4)
    # One error, not one for each site with advice to leave it.
    with pytest.raises(ValueError, match=r"^`min_group_size` must be"):
        evonorm_tf.convert(model, "evonorm_s0", min_group_size=0)


def test_settings_are_keywords_of_the_layer():
    known = inspect.signature(NormActMixin.__init__).parameters
    assert set(api._SETTINGS) < set(known)


@pytest.mark.parametrize("own", [None, False])
def test_synchronized_of_a_callable_wins(own):
    keras = cases.kit("keras3").keras
    model = _model(keras, *_pair(keras, synchronized=True))
    options = {} if own is None else {"synchronized": own}
    make = functools.partial(evonorm_tf.norm_act, "evonorm_b0", **options)
    new = evonorm_tf.convert(model, make)
    assert new.get_layer("norm").synchronized is (own is None)


def _activated_first(keras):
    """Conv(relu), BN, Conv(relu), BN: no site has an activation after it."""
    return [
        layer
        for k in range(2)
        for layer in (
            keras.layers.Conv2D(8, 1, activation="relu", name=f"conv{k}"),
            keras.layers.BatchNormalization(name=f"norm{k}"),
        )
    ]


@cases.both_kerases
def test_normalization_that_vanishes_is_warned_of(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, *_activated_first(keras))
    options = {"without_activation": "replace"}
    with pytest.warns(UserWarning, match="plain affine") as caught:
        evonorm_tf.convert(model, "evonorm_s0", **options)
    (warning,) = caught
    said = str(warning.message)
    assert warning.filename == __file__  # Where `convert` was called.
    assert said.startswith("2 of 2 replaced normalization layers became")
    assert "norm0: read by conv1 (Conv2D)" in said
    assert "activated before: conv0 (Conv2D(relu))" in said
    assert "without_activation='normalize'" in said
    with pytest.warns(UserWarning, match="^1 of 1 replaced normalization lay"):
        evonorm_tf.convert(model, "evonorm_s0", sites="norm0", **options)


@cases.both_kerases
def test_no_warning_where_the_layer_stands_as_often(kit_name):
    """Nor for baselines, which normalize without an activation too."""
    keras = cases.kit(kit_name).keras
    last = keras.layers.BatchNormalization(name="last")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evonorm_tf.convert(
            _model(keras, *_pair(keras), last),
            "evonorm_s0",
            without_activation="replace",
        )
        model = _model(keras, *_activated_first(keras))
        evonorm_tf.convert(model, "gn_relu")


@cases.both_kerases
def test_a_trained_norm_that_becomes_an_affine_is_warned_of(kit_name):
    """However few: a residual network may not train on without them."""
    keras = cases.kit(kit_name).keras
    last = keras.layers.BatchNormalization(name="last")
    model = small.scatter(_model(keras, *_pair(keras), last))
    with pytest.warns(UserWarning, match="trained ones among them") as caught:
        evonorm_tf.convert(model, "evonorm_b0", without_activation="replace")
    (warning,) = caught
    assert str(warning.message).startswith("1 of 2 replaced")
    assert "last: read by the output of chain" in str(warning.message)
    assert warning.filename == __file__


@cases.both_kerases
def test_batch_statistics_that_stay_are_warned_of(kit_name):
    """A network of S layers is thought to be independent of the batch."""
    keras = cases.kit(kit_name).keras
    last = keras.layers.BatchNormalization(name="last")
    model = _model(keras, *_pair(keras), last)
    with pytest.warns(UserWarning, match="still depends on the batch") as got:
        new = evonorm_tf.convert(model, "evonorm_s0")
    assert small.normalizations(new) == ["last"]
    said = str(got[0].message)
    # How to fix it, according to the warning.
    start = said.index("convert(new")
    call = said[start : said.index(")", start) + 1]
    scope = {"convert": evonorm_tf.convert, "new": new}
    again = eval(call, scope)
    rows = {n: x.row.name for n, x in small.norm_acts(again).items()}
    assert rows == {"norm": "evonorm_s0", "last": "gn_relu"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # B layers depend on the batch themselves; what was left on purpose is.
        evonorm_tf.convert(model, "evonorm_b0")
        evonorm_tf.convert(model, "evonorm_s0", sites="norm")
        evonorm_tf.convert(model, "evonorm_s0", without_activation="leave")


@cases.both_kerases
def test_a_training_of_ones_own_is_lost(kit_name):
    """Of the model that was converted it is warned, inner ones are noted."""
    keras = cases.kit(kit_name).keras

    class Own(keras.Sequential):
        def train_step(self, data):
            raise NotImplementedError

        def compute_loss(self, *args, **kwargs):
            raise NotImplementedError

    own = Own([keras.Input((6, 6, 8)), *_pair(keras)], name="own")
    wanted = "own: a Own became a Sequential, without its own train_step, comp"
    with pytest.warns(UserWarning, match=wanted) as caught:
        new = evonorm_tf.convert(own, "evonorm_s0")
    # How to fix it, according to the warning.
    assert str(caught[0].message).endswith("Own(new.layers)")
    assert Own(new.layers)(small.draw(2, 6, 6, 8)).shape == (2, 6, 6, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, report = evonorm_tf.convert(
            _model(keras, own), "evonorm_s0", return_report=True
        )
    assert report.notes[0].startswith(wanted)


def _scaled(x, factor):
    return factor * x


@cases.both_kerases
def test_functions_as_activations_are_copied(kit_name):
    """Keras's own layers with a function that no configuration keeps."""
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    scope = {}
    # Keras would find its own function under this name.
    exec("def relu(x):\n    return 3.0 * x", scope)

    def squared(x):
        return x * x

    model = _model(
        keras,
        *_pair(keras),
        layers.Activation(squared, name="squared"),
        layers.Activation(lambda x: 0.5 * x, name="half"),
        layers.Conv2D(4, 1, activation=squared, name="conv"),
        layers.Dense(4, activation=scope["relu"], name="dense"),
        layers.Dense(4, activation=lambda x: 2.0 * x, name="twice"),
        layers.Activation(functools.partial(_scaled, factor=3.0), name="more"),
    )
    with warnings.catch_warnings():
        # Keras warns of lambdas when it saves them.
        warnings.simplefilter("error")
        new = evonorm_tf.convert(model, "evonorm_s0")
    assert not set(map(id, new.layers)) & set(map(id, model.layers))
    data = small.draw(2, 6, 6, 8)
    wanted = new.get_layer("norm")(data)
    for layer in model.layers[3:]:
        wanted = layer(wanted)
    np.testing.assert_allclose(new(data), wanted, rtol=1e-5)


@cases.both_kerases
def test_a_layer_of_keras_that_cannot_be_copied(kit_name):
    """It is told to register the function, not to change Keras's class."""
    keras = cases.kit(kit_name).keras

    def squared(x):
        return x * x

    dense = keras.layers.Dense(4, activation=squared)
    each = keras.layers.TimeDistributed(dense, name="each")
    model = _model(keras, *_pair(keras), each)
    with pytest.raises(ValueError) as caught:
        evonorm_tf.convert(model, "evonorm_s0")
    said = str(caught.value)
    assert "'each', TimeDistributed" in said
    assert "register_keras_serializable()" in said
    assert "get_config()" not in said.split("Received")[0]
