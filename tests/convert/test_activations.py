"""Activations that are written out, and outputs that only activations read."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)


def _ops(kit_name):
    """The functions of a Keras that both have, by one set of names."""
    if kit_name == "tf_keras":
        return tf, tf.nn.relu6, tf.nn.softplus, tf.math.erf
    ops = cases.kit(kit_name).keras.ops
    return ops, ops.relu6, ops.softplus, ops.erf


WRITTEN_OUT = {
    "hard swish": lambda x, ops, relu6, *_: x * relu6(x + 3.0) / 6.0,
    "hard swish, otherwise": lambda x, ops, relu6, *_: (
        x * (relu6(x + 3.0) * (1.0 / 6.0))
    ),
    "leaky": lambda x, ops, *_: ops.where(x > 0, x, 0.2 * x),
    "leaky by maximum": lambda x, ops, *_: ops.maximum(0.1 * x, x),
    "relu by where": lambda x, ops, *_: ops.where(x > 0, x, 0.0 * x),
    "silu": lambda x, ops, *_: ops.sigmoid(x) * x,
    "quick gelu": lambda x, ops, *_: x * ops.sigmoid(1.702 * x),
    "mish": lambda x, ops, _, softplus, __: x * ops.tanh(softplus(x)),
    "gelu": lambda x, ops, _, __, erf: (
        0.5 * x * (1.0 + erf(x / np.sqrt(2.0).astype(np.float32)))
    ),
}
OTHER = {
    "doubled": lambda x, ops, relu6, *_: x * relu6(x + 3.0) / 3.0,
    "affine": lambda x, ops, *_: 0.2 * x + 1.0,
    "square": lambda x, ops, *_: x * x,
    "bounded": lambda x, ops, relu6, *_: relu6(x + 3.0) / 6.0,
    "swapped": lambda x, ops, *_: ops.where(x > 0, 0.2 * x, x),
    "threshold": lambda x, ops, *_: ops.maximum(x, 1.0),
    "by channel": lambda x, ops, *_: ops.maximum(
        x, x * np.linspace(0.1, 0.4, 4, dtype=np.float32)
    ),
}


def _model(kit_name, function):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    y = function(x, *_ops(kit_name))
    return small.scatter(keras.Model(inputs, y))


@pytest.mark.parametrize("name", WRITTEN_OUT)
@cases.both_kerases
def test_activations_written_out_are_taken(kit_name, name):
    model = _model(kit_name, WRITTEN_OUT[name])
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    (entry,) = report.entries
    assert entry.new == "evonorm_s0"
    assert [layer.name for layer in new.layers[1:]] == ["norm"]
    x = small.draw(2, 6, 6, 4)
    np.testing.assert_allclose(new(x), new.get_layer("norm")(x), rtol=1e-6)


@pytest.mark.parametrize("name", OTHER)
@cases.both_kerases
def test_other_formulas_are_none(kit_name, name):
    model = _model(kit_name, OTHER[name])
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", without_activation="replace", return_report=True
    )
    assert report.entries[0].new == "affine"
    x = small.draw(2, 6, 6, 4)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-4, atol=1e-4)


def _mixing(x):
    """SiLU for one pixel; otherwise every position depends on all others."""
    gate = 1.0 / (1.0 + tf.exp(-tf.reduce_mean(x, (1, 2), keepdims=True)))
    return x * gate


@pytest.mark.parametrize(
    "function, taken", [(tf.nn.silu, True), (_mixing, False), (abs, False)]
)
@cases.both_kerases
def test_a_lambda_is_known_by_its_values_everywhere(kit_name, function, taken):
    keras = cases.kit(kit_name).keras
    act = keras.layers.Lambda(lambda t: function(t), name="act")
    model = _model(kit_name, lambda x, *_: act(x))
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", without_activation="replace", return_report=True
    )
    assert report.entries[0].new == ("evonorm_s0" if taken else "affine")
    assert ("act" in [layer.name for layer in new.layers]) is not taken


@pytest.mark.parametrize("size", [(1, 2, 2, 4), (1, 2048, 2048, 4)])
@cases.both_kerases
def test_a_lambda_whose_input_cannot_be_tried_is_none(kit_name, size):
    """Too small for all points, or too large; a fixed batch stays fixed."""
    keras = cases.kit(kit_name).keras

    def called(t):
        assert t.shape[0] == 1, "another batch"
        return tf.nn.relu(t)

    inputs = keras.Input(size[1:], batch_size=1)
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    y = keras.layers.Lambda(called, name="act")(x)
    _, report = evonorm_tf.convert(
        keras.Model(inputs, y),
        "evonorm_s0",
        without_activation="replace",
        return_report=True,
    )
    assert report.entries[0].new == "affine"


@cases.both_kerases
def test_half_precision(kit_name):
    """The values of a formula are those of the model's dtype."""
    keras = cases.kit(kit_name).keras
    old = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = _model(kit_name, WRITTEN_OUT["hard swish"])
    finally:
        keras.mixed_precision.set_global_policy(old)
    new = evonorm_tf.convert(model, "evonorm_s0")
    assert [layer.name for layer in new.layers[1:]] == ["norm"]


@cases.both_kerases
def test_every_reader_is_an_activation(kit_name):
    """As in NASNet's stem; of several kinds, and behind an identity."""
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    _, relu6, *_ = _ops(kit_name)
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(name="norm")(inputs)
    readers = [layers.ReLU(name=f"relu{k}")(x) for k in range(3)]
    readers.append(layers.Activation("silu", name="silu")(x))
    readers.append(x * relu6(x + 3.0) / 6.0)
    same = layers.Identity(name="same")(x)
    readers.append(layers.ReLU(name="behind")(same))
    convs = [layers.Conv2D(2, 1)(one) for one in readers]
    model = keras.Model(inputs, layers.Concatenate(name="all")(convs))
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    (entry,) = report.entries
    assert entry.new == "evonorm_s0"
    for name in ("relu0", "relu1", "relu2", "silu", "behind"):
        assert name in entry.old and name not in [x.name for x in new.layers]
    x = small.draw(2, 6, 6, 4)
    normed = new.get_layer("norm")(x)
    wanted = [
        new.get_layer(conv._keras_history[0].name)(normed) for conv in convs
    ]
    np.testing.assert_allclose(new(x), np.concatenate(wanted, -1), rtol=1e-5)


@cases.both_kerases
def test_one_reader_of_several_is_none(kit_name):
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(name="norm")(inputs)
    read = [layers.ReLU(name="relu")(x), layers.Conv2D(2, 1, name="conv")(x)]
    _, report = evonorm_tf.convert(
        keras.Model(inputs, read),
        "evonorm_s0",
        without_activation="replace",
        return_report=True,
    )
    assert report.entries[0].new == "affine"
    assert all(name in report.entries[0].note for name in ("conv", "relu"))


@cases.both_kerases
def test_somebodys_activation_with_a_weight_stays(kit_name):
    keras = cases.kit(kit_name).keras

    class Swish(keras.layers.Layer):
        def build(self, shape):
            self.slope = self.add_weight(
                name="slope", shape=(), initializer="ones"
            )
            super().build(shape)

        def call(self, x):
            return x * tf.sigmoid(self.slope * x)

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    model = keras.Model(inputs, Swish(name="act")(x))
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", without_activation="replace", return_report=True
    )
    found = {one.layer: one for one in report.entries}
    assert found["norm"].new == "affine" and "act" in found["norm"].note
    assert found["act"].old == "Swish" and not found["act"].new
    assert "its own weights" in found["act"].note
    assert new.get_layer("act").weights


@pytest.mark.parametrize("form", ["function", "class"])
@cases.both_kerases
def test_somebodys_activation_is_known_by_its_values(kit_name, form):
    """And not by its name, which may be that of one of Keras's."""
    keras = cases.kit(kit_name).keras

    def made(function):
        function.__name__ = "swish"
        if form == "function":
            return keras.layers.Activation(function, name="act")

        class Swish(keras.layers.Layer):
            def call(self, x):
                return function(x)

            def compute_output_shape(self, shape):
                return shape

        return Swish(name="act")

    for function, new in (
        (lambda x: x * tf.sigmoid(x), "evonorm_s0"),
        (lambda x: tf.tanh(x), "affine"),
        (
            lambda x: x * tf.sigmoid(tf.reduce_mean(x, [1, 2], keepdims=True)),
            "affine",
        ),
    ):
        inputs = keras.Input((6, 6, 4))
        x = keras.layers.BatchNormalization(name="norm")(inputs)
        model = keras.Model(inputs, made(function)(x))
        _, report = evonorm_tf.convert(
            model,
            "evonorm_s0",
            without_activation="replace",
            return_report=True,
        )
        found = {one.layer: one for one in report.entries}
        assert found["norm"].new == new
        if new == "affine":
            assert "custom one with other values" in found["act"].note
