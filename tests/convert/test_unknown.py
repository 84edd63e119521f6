"""Normalizations that conversion does not know are listed, and stay."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small


def _instance_norm(keras):
    class InstanceNorm(keras.layers.Layer):
        def call(self, x):
            mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
            return (x - mean) / tf.sqrt(variance + 1e-5)

        def compute_output_shape(self, shape):
            return shape

    return InstanceNorm


def _halved(keras):
    class Halved(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=training) / 2.0

    return Halved


def _renamed(keras):
    class Renamed(keras.layers.BatchNormalization):
        def __init__(self, momentum=0.5, **options):
            super().__init__(momentum=momentum, **options)

        def get_config(self):
            return super().get_config()

    return Renamed


def _model(keras, *layers):
    x = inputs = keras.Input((6, 6, 4))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="chain")


@cases.both_kerases
def test_unknown_normalizations_are_listed(kit_name):
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    scaling = layers.Normalization(mean=0.5, variance=2.0, name="scaling")
    parts = [
        scaling,
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        _instance_norm(keras)(name="instance"),
        layers.UnitNormalization(name="unit"),
        layers.ReLU(name="act"),
        _halved(keras)(name="halved"),
        layers.ReLU(name="last"),
        layers.TimeDistributed(
            layers.UnitNormalization(name="in"), name="each"
        ),
    ]
    if kit_name == "keras3":
        parts.append(layers.RMSNormalization(name="rms"))
    model = _model(keras, *parts)
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    found = {one.layer: one for one in report.entries}
    assert found["norm"].new == "evonorm_s0"
    assert "scaling" not in found
    wanted = {
        "instance": "InstanceNorm",
        "unit": "UnitNormalization",
        "halved": "Halved",
        "each/in": "UnitNormalization",
    }
    if kit_name == "keras3":
        wanted["rms"] = "RMSNormalization"
    for name, kind in wanted.items():
        assert found[name].old == kind and not found[name].new
        own = "its own computation, call" if name == "halved" else "not know"
        assert own in found[name].note
    assert found["act"].note == "reads unit" and found["last"].new == ""
    small.assert_kept(model, new)


@cases.both_kerases
def test_a_subclass_that_only_sets_arguments_is_replaced(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, _renamed(keras)(name="norm"), keras.layers.ReLU())
    new = evonorm_tf.convert(model, "evonorm_s0")
    assert list(small.norm_acts(new)) == ["norm"]


@cases.both_kerases
def test_nothing_but_unknown_ones(kit_name):
    keras = cases.kit(kit_name).keras
    model = _model(keras, _halved(keras)(name="halved"), keras.layers.ReLU())
    with pytest.raises(ValueError) as caught:
        evonorm_tf.convert(model, "evonorm_s0")
    said = str(caught.value)
    assert "nothing to replace" in said and "halved" in said
    assert "its own computation, call" in said


@cases.both_kerases
def test_inside_a_layer_it_is_out_of_reach(kit_name):
    """A subclass inside of a block is named as other norms there are."""
    keras = cases.kit(kit_name).keras
    inner = _halved(keras)(name="halved")
    each = keras.layers.TimeDistributed(inner, name="each")
    inputs = keras.Input((2, 6, 6, 4))
    model = keras.Model(inputs, each(inputs))
    with pytest.raises(ValueError, match="inaccessible normalization: halved"):
        evonorm_tf.convert(model, "evonorm_s0")
    assert np.all(np.isfinite(model(small.draw(1, 2, 6, 6, 4))))
