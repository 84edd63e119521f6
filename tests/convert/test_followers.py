"""What stands before and after a normalization, and what is made of it."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)


def _model(keras, *layers, shape=(6, 6, 4)):
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="chain")


def _norm(keras, **options):
    return keras.layers.BatchNormalization(name="norm", **options)


def _entries(model, norm_act="evonorm_s0", **options):
    options.setdefault("without_activation", "replace")
    new, report = evonorm_tf.convert(
        model, norm_act, return_report=True, **options
    )
    return new, {entry.layer: entry for entry in report.entries}


@cases.both_kerases
def test_identities_are_looked_through(kit_name):
    """They stay, by name; the activation after them goes."""
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    plain = [
        layers.Activation("linear", name="linear"),
        layers.Identity(name="same"),
    ]
    wanted = ["norm", "linear", "same"]
    if kit_name == "tf_keras":
        plain.append(tf.identity)
        wanted.append("tf.identity")
    model = _model(keras, _norm(keras), *plain, layers.ReLU(name="act"))
    new, entries = _entries(model)
    assert entries["norm"].new == "evonorm_s0" and len(entries) == 1
    names = [layer.name.split("_")[0] for layer in new.layers[1:]]
    assert names == wanted
    x = small.draw(2, 6, 6, 4)
    np.testing.assert_allclose(new(x), small.norm_acts(new)["norm"](x))
    # A function of that name may be anything.
    scope = {}
    exec("def linear(x):\n    return 2.0 * x", scope)
    double = layers.Activation(scope["linear"], name="double")
    model = _model(keras, _norm(keras), double, layers.ReLU(name="act"))
    assert _entries(model)[1]["norm"].new == "affine"


@cases.both_kerases
def test_products_and_maxima_that_are_no_activation(kit_name):
    kit = cases.kit(kit_name)
    ops = tf if kit_name == "tf_keras" else kit.keras.ops
    inputs = kit.keras.Input((6, 6, 4))
    x = _norm(kit.keras)(inputs)
    gate = ops.sigmoid(x)
    for y in (
        [ops.maximum(x, 1.0)],
        [ops.maximum(x, inputs)],
        [x * ops.sigmoid(inputs)],
        [x * ops.sigmoid(x), x],
        [x * gate + gate],
        [x + ops.sigmoid(x)],
    ):
        model = kit.keras.Model(inputs, y)
        new, entries = _entries(model)
        assert entries["norm"].new == "affine"
        data = small.draw(2, 6, 6, 4)
        for got, wanted in zip(new(data), model(data)):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@cases.both_kerases
def test_what_reads_a_site_is_said(kit_name):
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(name="n0")(inputs)
    y = layers.Dropout(0.1, name="drop")(x)
    y = layers.ReLU(name="act0")(layers.MaxPooling2D(1, name="pool")(y))
    y = layers.BatchNormalization(name="n1")(y)
    y = layers.Lambda(lambda t: t, name="function")(y)
    z = layers.BatchNormalization(name="n2")(y)
    y = layers.Add(name="add")([z, layers.Dropout(0.1, name="other")(z)])
    y = layers.Conv2D(4, 1, activation="relu", name="conv")(y)
    y = layers.BatchNormalization(name="n3")(y)
    _, entries = _entries(keras.Model(inputs, y, name="m"))
    notes = {name: entries[name].note for name in ("n0", "n1", "n2", "n3")}
    assert notes == {
        "n0": "without an activation: read by drop (Dropout); act0 (ReLU) "
        "comes only after drop (Dropout), pool (MaxPooling2D)",
        "n1": "without an activation: read by function (Lambda); activated "
        "before: act0 (ReLU)",
        "n2": "without an activation: read by other (Dropout), add",
        "n3": "without an activation: read by the output of m; activated "
        "before: conv (Conv2D(relu))",
    }


@cases.both_kerases
def test_activations_that_stay_have_a_row(kit_name):
    keras = cases.kit(kit_name).keras

    def squared(x):
        return x * x

    for function, kind in (("sigmoid", "sigmoid"), (squared, "squared")):
        act = keras.layers.Activation(function, name="act")
        _, entries = _entries(_model(keras, _norm(keras), act))
        assert entries["act"].old == kind and not entries["act"].new
        assert "reads norm; no norm-act layer" in entries["act"].note
        # One that reads another thing is none of a site's concern.
        flat = keras.layers.Dense(2)
        _, entries = _entries(_model(keras, _norm(keras), flat, act))
        assert list(entries) == ["norm"]


@cases.both_kerases
def test_notes_on_groups_and_frozen_sites(kit_name):
    keras = cases.kit(kit_name).keras
    act = keras.layers.ReLU(name="act")
    model = _model(keras, _norm(keras), act, shape=(6, 6, 97))
    note = _entries(model)[1]["norm"].note
    assert note.startswith("one group: 32")
    assert not _entries(model, groups=1)[1]["norm"].note
    model = _model(keras, _norm(keras, trainable=False), act, shape=(2, 2, 64))
    new, entries = _entries(model)
    assert entries["norm"].note.startswith("frozen (trainable=False)")
    assert not new.trainable_weights


@pytest.mark.parametrize("between", ["nothing", "layers", "model"])
@cases.both_kerases
def test_an_axis_across_the_channels(kit_name, between):
    """Six columns are no channels of a convolution with channels last."""
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    last = layers.Conv2D(4, 1, name="conv")
    more = {
        "nothing": [],
        "layers": [layers.ReLU(), layers.Dropout(0.1)],
        "model": [keras.Sequential([keras.Input((6, 6, 4)), layers.ReLU()])],
    }[between]
    if between == "model":
        last = keras.Sequential([keras.Input((6, 6, 4)), last])
        more = []
    model = _model(keras, last, *more, _norm(keras, axis=1))
    with pytest.raises(ValueError) as caught:
        evonorm_tf.convert(model, "evonorm_s0")
    said = str(caught.value)
    assert said.startswith("1 normalization layer cannot")
    assert "norm: its axis=" in said
    assert "conv (Conv2D), before it, has data_format='channels_last'" in said
    assert "docs/" not in said
    # What may move the axes tells nothing, nor does a format that agrees.
    moved = layers.Permute((3, 1, 2))
    for parts in ([moved, _norm(keras, axis=1)], [_norm(keras, axis=-1)]):
        _entries(_model(keras, last, *more, *parts))


@cases.both_kerases
def test_channels_last_behind_channels_first(kit_name):
    keras = cases.kit(kit_name).keras
    pool = keras.layers.MaxPooling2D(
        1, data_format="channels_first", name="pool"
    )
    model = _model(keras, pool, _norm(keras))
    with pytest.raises(ValueError, match=r"pool.*'channels_first'"):
        evonorm_tf.convert(model, "evonorm_s0")
    _entries(_model(keras, pool, _norm(keras, axis=1)))
