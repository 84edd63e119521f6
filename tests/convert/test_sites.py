"""What is found and replaced, and what is left, in either Keras."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)
REPLACE = {"without_activation": "replace"}


def _chain(kit_name, *layers):
    """Model of [N, 6, 6, 3] images, a convolution and the layers."""
    kit = cases.kit(kit_name)
    inputs = kit.keras.Input((6, 6, 3))
    x = kit.keras.layers.Conv2D(8, 1, name="conv")(inputs)
    for layer in layers:
        x = layer(x)
    return kit.keras.Model(inputs, x, name="chain")


def _relu(kit_name):
    """A function that activates: an operation, not a layer."""
    if kit_name == "tf_keras":
        return tf.nn.relu
    return cases.kit(kit_name).keras.ops.relu


def _maximum(kit_name):
    if kit_name == "tf_keras":
        return lambda x: tf.maximum(x, 0.0)
    return lambda x: cases.kit(kit_name).keras.ops.maximum(0, x)


def _gated(kit_name):
    if kit_name == "tf_keras":
        return lambda x: x * tf.sigmoid(x)
    return lambda x: cases.kit(kit_name).keras.ops.sigmoid(x) * x


_KINDS = ("Batch", "Group", "Layer", "Sync")
_ACTIVATIONS = ("ReLU", "relu6", "silu", "LeakyReLU", "gelu", "function")
_ACTIVATIONS += ("maximum", "gated")


# Normalizations and activations are known each by themselves: each is here
# once with the first of the others.
@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        pytest.param(
            *(kind, activation),
            marks=()
            if kind == _KINDS[0] or activation == _ACTIVATIONS[0]
            else pytest.mark.slow,
        )
        for activation in _ACTIVATIONS
        for kind in _KINDS
    ],
)
@cases.both_kerases
def test_a_pair_becomes_one_layer(kit_name, kind, activation):
    layers = cases.kit(kit_name).keras.layers
    if kind == "Sync" and kit_name == "keras3":
        norm = layers.BatchNormalization(name="norm", synchronized=True)
    elif kind == "Sync":
        norm = layers.experimental.SyncBatchNormalization(name="norm")
    else:
        options = {"groups": 4} if kind == "Group" else {}
        norm = getattr(layers, f"{kind}Normalization")(name="norm", **options)
    if activation == "function":
        act = _relu(kit_name)
    elif activation == "maximum":
        act = _maximum(kit_name)
    elif activation == "gated":
        act = _gated(kit_name)
    elif hasattr(layers, activation):
        act = getattr(layers, activation)(name="act")
    else:
        act = layers.Activation(
            tf.nn.relu6 if activation == "relu6" else activation, name="act"
        )
    model = _chain(kit_name, norm, act)
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    assert [layer.name for layer in new.layers[1:]] == ["conv", "norm"]
    (layer,) = small.norm_acts(new).values()
    assert layer.activation and layer.row.name == "evonorm_s0"
    assert layer.synchronized == (kind == "Sync")
    (entry,) = report.entries
    assert (entry.new, entry.channels, entry.groups) == ("evonorm_s0", 8, 8)
    assert type(norm).__name__ in entry.old
    x = small.draw(2, 6, 6, 3)
    assert new(x).shape == model(x).shape
    # The same layer by hand, on what the convolution gives.
    by_hand = layer(np.asarray(new.get_layer("conv")(x)))
    np.testing.assert_allclose(new(x), by_hand, rtol=1e-6)


@pytest.mark.parametrize("after", ["nothing", "sigmoid", "softmax", "conv"])
@cases.both_kerases
def test_a_site_without_an_activation(kit_name, after):
    """Bounded functions are no such activation, nor is what comes later."""
    layers = cases.kit(kit_name).keras.layers
    following = {
        "nothing": [],
        "sigmoid": [layers.Activation("sigmoid", name="after")],
        "softmax": [layers.Softmax(name="after")],
        # Its activation acts on its own product, not on the norm's output.
        "conv": [layers.Conv2D(4, 1, activation="relu", name="after")],
    }[after]
    norm = layers.BatchNormalization(name="norm")
    model = small.scatter(_chain(kit_name, norm, *following))
    new, report = evonorm_tf.convert(
        model, "evonorm_b0", return_report=True, **REPLACE
    )
    layer = small.norm_acts(new)["norm"]
    assert not layer.activation
    wanted = {"norm": ("BatchNormalization", "affine")}
    wanted |= {
        "sigmoid": {"after": ("sigmoid", "")},
        "softmax": {"after": ("Softmax", "")},
        "conv": {"after": ("Conv2D(relu)", "")},
    }.get(after, {})
    assert small.lines(report) == wanted
    x = small.draw(2, 6, 6, 3)
    # BatchNorm as it is at inference, and what follows still follows.
    np.testing.assert_allclose(new(x), model(x), rtol=2e-5, atol=2e-5)
    left = evonorm_tf.convert(
        _chain(kit_name, norm, layers.ReLU(), layers.BatchNormalization()),
        "evonorm_b0",
        without_activation="leave",
    )
    assert len(small.normalizations(left)) == 1


@cases.both_kerases
def test_an_output_with_two_readers_is_not_fused(kit_name):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    y = keras.layers.ReLU(name="act")(x)
    model = keras.Model(inputs, keras.layers.Add(name="add")([x, y]))
    small.scatter(model)
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", return_report=True, **REPLACE
    )
    norm, act = report.entries
    assert (norm.new, act.new) == ("affine", "")
    assert "act" in norm.note and "add" in norm.note
    assert act.layer == "act" and "reads norm" in act.note
    x = small.draw(2, 6, 6, 3)
    np.testing.assert_allclose(new(x), model(x), rtol=2e-5, atol=2e-5)
    # A model's output is a reader too.
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    y = keras.layers.ReLU(name="act")(x)
    two = keras.Model(inputs, [x, y])
    new, report = evonorm_tf.convert(
        two, "evonorm_s0", return_report=True, **REPLACE
    )
    assert small.lines(report)["norm"][1] == "affine"
    assert len(new(small.draw(2, 6, 6, 3))) == 2


@cases.both_kerases
def test_one_activation_after_two_paths(kit_name):
    """Only the call after the normalization goes; the other call stays."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 3))
    act = keras.layers.ReLU(name="act")
    x = act(keras.layers.BatchNormalization(name="norm")(inputs))
    y = act(keras.layers.Conv2D(3, 1, name="conv")(inputs))
    model = keras.Model(inputs, [x, y])
    new, report = evonorm_tf.convert(model, "evonorm_s1", return_report=True)
    assert small.lines(report) == {
        "norm": ("BatchNormalization + act (ReLU)", "evonorm_s1"),
        "act": ("ReLU", ""),
    }
    x = small.draw(2, 6, 6, 3)
    first, second = new(x)
    np.testing.assert_array_equal(second, model(x)[1])
    site = small.norm_acts(new)["norm"]
    np.testing.assert_allclose(first, site(x), rtol=1e-6)


@cases.both_kerases
def test_branches(kit_name):
    """Two branches, a stem each, merged; and a dictionary of outputs."""
    keras = cases.kit(kit_name).keras
    left, right = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3))
    merged = []
    for k, x in enumerate((left, right)):
        x = keras.layers.Conv2D(4, 1, name=f"conv{k}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{k}")(x)
        merged.append(keras.layers.ReLU(name=f"act{k}")(x))
    x = keras.layers.Concatenate(name="cat")(merged)
    x = keras.layers.Conv2D(4, 1, name="last")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    y = keras.layers.ReLU(name="act")(x)
    model = keras.Model([left, right], {"sum": x * 2.0 + 1.0, "y": y})
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", return_report=True, **REPLACE
    )
    found = {entry.layer: entry.new for entry in report.entries}
    assert found == {
        **{"norm0": "evonorm_s0", "norm1": "evonorm_s0"},
        **{"norm": "affine", "act": ""},
    }
    x = [small.draw(2, 6, 6, 3), small.draw(2, 6, 6, 3, seed=1)]
    outputs = new(x)
    assert sorted(outputs) == ["sum", "y"]
    y = np.asarray(outputs["y"])
    assert np.all(y >= 0) and np.any(y > 0)
    middle = np.maximum((np.asarray(outputs["sum"]) - 1.0) / 2.0, 0.0)
    np.testing.assert_allclose(y, middle, atol=1e-5)
    kept = evonorm_tf.convert(model, "evonorm_s0", keep_stem=True, **REPLACE)
    assert small.normalizations(kept) == ["norm0", "norm1"]


@cases.both_kerases
def test_shared_layers_stay_shared(kit_name):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 3))
    conv = keras.layers.Conv2D(3, 1, name="conv")
    norm = keras.layers.BatchNormalization(name="norm")
    acts = [keras.layers.ReLU(name=f"act{k}") for k in range(2)]
    x = acts[0](norm(conv(inputs)))
    y = acts[1](norm(conv(x)))
    model = keras.Model(inputs, y)
    new, report = evonorm_tf.convert(
        model, "evonorm_b0", return_report=True, **REPLACE
    )
    assert small.lines(report) == {
        "norm": ("BatchNormalization + act0 (ReLU), act1 (ReLU)", "evonorm_b0")
    }
    assert [layer.name for layer in new.layers[1:]] == ["conv", "norm"]
    assert len(new.weights) == 2 + 4
    x = small.draw(2, 6, 6, 3)
    conv, norm = new.layers[1:]
    wanted = norm(conv(norm(conv(tf.constant(x)))))
    np.testing.assert_allclose(new(x), wanted, rtol=1e-5, atol=1e-6)
    # With one use that has no activation there is one layer still: an affine.
    other = keras.Model(inputs, _norm_twice(keras, inputs))
    new, report = evonorm_tf.convert(
        other, "evonorm_b0", return_report=True, **REPLACE
    )
    (entry, *left) = report.entries
    assert entry.new == "affine" and "only some" in entry.note
    assert [one.layer for one in left] == ["act"]


def _norm_twice(keras, inputs):
    norm = keras.layers.BatchNormalization(name="norm")
    x = keras.layers.ReLU(name="act")(norm(inputs))
    return norm(keras.layers.Conv2D(3, 1, name="conv")(x))


@cases.both_kerases
def test_our_own_layers_are_replaced_too(kit_name):
    kit = cases.kit(kit_name)
    layers = kit.keras.layers
    first = kit.layers.NormAct("bn_relu", name="first")
    second = kit.layers.NormAct("bn_relu", activation=False, name="second")
    # An activation after a layer that activates already is its own matter.
    model = _chain(kit_name, first, layers.ReLU(name="act"), second)
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", return_report=True, **REPLACE
    )
    assert small.lines(report) == {
        "first": ("NormAct + bn_relu", "evonorm_s0"),
        "second": ("NormAct", "affine"),
        "act": ("ReLU", ""),
    }
    assert [one.name for one in new.layers[1:]] == [
        *("conv", "first", "act", "second")
    ]


@cases.both_kerases
def test_sequences(kit_name):
    """[N, S, C], after Conv1D: S layers are defined there, B layers not."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((12, 4))
    x = keras.layers.Conv1D(8, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.ReLU(name="act")(x))
    new = evonorm_tf.convert(model, "evonorm_s0", groups=2)
    x = small.draw(3, 12, 4)
    y = np.asarray(new.get_layer("conv")(x), np.float64)
    groups = y.reshape(3, 10, 2, 4)
    spread = np.sqrt(groups.var((1, 3)) + 1e-5)
    wanted = y / (1 + np.exp(-y)) / np.repeat(spread, 4, 1)[:, None]
    np.testing.assert_allclose(new(x), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="norm: evonorm_b0 is defined"):
        evonorm_tf.convert(model, "evonorm_b0")


@pytest.mark.parametrize(
    ("norm_act", "options", "replaced"),
    [
        ("evonorm_b0", {}, False),
        ("evonorm_b2", {}, False),
        ("frn", {}, False),
        ("evonorm_s0", {}, False),  # 8 groups of one channel
        ("evonorm_s0", {"min_group_size": 4}, True),
        ("gn_relu", {"groups": 2}, True),
        ("bn_relu", {}, True),
    ],
)
@cases.both_kerases
def test_maps_of_one_pixel(kit_name, norm_act, options, replaced):
    """A statistic over one element: the old layer and activation stay."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((4, 4, 3))
    x = inputs
    for k, stride in enumerate((2, 2)):
        x = keras.layers.Conv2D(8, 2, strides=stride, name=f"conv{k}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{k}")(x)
        x = keras.layers.ReLU(name=f"act{k}")(x)
    model = keras.Model(inputs, x)
    new, report = evonorm_tf.convert(
        model, norm_act, return_report=True, **options
    )
    wide, pixel = [one for one in report.entries if "norm" in one.layer]
    assert (wide.new, pixel.new) == (norm_act, norm_act if replaced else "")
    assert replaced or "a map of one pixel" in pixel.note
    assert ("act1" in [one.name for one in new.layers]) is not replaced
    assert ("norm1" in small.normalizations(new)) is not replaced


@pytest.mark.parametrize("first", [True, False])
@cases.both_kerases
def test_a_layer_with_one_use_on_one_pixel(kit_name, first):
    """It would normalize nothing there, wherever else it is used."""
    keras = cases.kit(kit_name).keras
    norm = keras.layers.BatchNormalization(name="norm")
    last = keras.layers.BatchNormalization(name="last")
    wide, pixel = keras.Input((4, 4, 8)), keras.Input((1, 1, 8))
    ends = [
        keras.layers.ReLU()(norm(x)) for x in (wide, pixel)[:: 1 - 2 * first]
    ]
    model = keras.Model([wide, pixel], [*ends, keras.layers.ReLU()(last(wide))])
    new, report = evonorm_tf.convert(model, "evonorm_b0", return_report=True)
    found = {one.layer: one for one in report.entries if one.channels}
    assert (found["norm"].new, found["last"].new) == ("", "evonorm_b0")
    assert "a map of one pixel" in found["norm"].note
    assert small.normalizations(new) == ["norm"]
    both = evonorm_tf.convert(model, "evonorm_s0", min_group_size=4)
    assert not small.normalizations(both)
