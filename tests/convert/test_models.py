"""Kinds of models: sequential, nested, frozen, mixed, channels first."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)


def _block(keras, name="block"):
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras.layers.Conv2D(4, 3, padding="same", name=f"{name}_conv"),
            keras.layers.BatchNormalization(name=f"{name}_norm"),
            keras.layers.Activation("relu", name=f"{name}_act"),
        ],
        name=name,
    )


def _nested(keras):
    """A model that uses one block twice, inside of another model."""
    inputs = keras.Input((6, 6, 4))
    block = _block(keras)
    inner = keras.Model(inputs, block(block(inputs)), name="inner")
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 1, name="stem")(images)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = inner(keras.layers.ReLU(name="act")(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("start", ["input", "build", "call"])
@cases.both_kerases
def test_sequential_stays_sequential(kit_name, start, tmp_path):
    keras = cases.kit(kit_name).keras
    layers = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.ReLU(6.0, name="act"),
        keras.layers.Dropout(0.5, name="drop"),
        keras.layers.Dense(2, name="head"),
    ]
    first = [keras.Input((6, 6, 3))] if start == "input" else []
    model = keras.Sequential(first + layers, name="chain")
    x = small.draw(2, 6, 6, 3)
    if start == "build":
        model.build((None, 6, 6, 3))
    if start == "call":
        model(x)
    new = evonorm_tf.convert(model, "evonorm_b0")
    assert type(new) is keras.Sequential and new.name == "chain"
    names = [layer.name for layer in new.layers]
    assert names == ["conv", "norm", "drop", "head"]
    small.assert_kept(model, new)
    small.assert_trains(kit_name, new, x)
    small.assert_saves(kit_name, new, x, tmp_path / "new.keras")


@cases.both_kerases
def test_nested(kit_name, tmp_path):
    """Inner models are converted once, and shared as they were."""
    keras = cases.kit(kit_name).keras
    model = small.scatter(_nested(keras))
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    assert small.lines(report) == {
        "norm": ("BatchNormalization + act (ReLU)", "evonorm_s0"),
        "inner/block/block_norm": (
            "BatchNormalization + block_act (relu)",
            "evonorm_s0",
        ),
    }
    assert small.normalizations(new) == []
    # stem, norm, one block, head: 2 weights of each, 3 of the norms.
    assert len(new.weights) == 2 + 3 + 2 + 3 + 2
    small.assert_kept(model, new)
    x = small.draw(2, 6, 6, 3)
    small.assert_trains(kit_name, new, x)
    small.assert_saves(kit_name, new, x, tmp_path / "new.keras")
    stem = evonorm_tf.convert(model, "evonorm_s0", keep_stem=True)
    assert small.normalizations(stem) == ["norm"]
    only = evonorm_tf.convert(model, "evonorm_s0", sites=r"^inner/")
    assert small.normalizations(only) == ["norm"]


@cases.both_kerases
def test_the_old_model_is_left_alone(kit_name):
    model = small.scatter(_nested(cases.kit(kit_name).keras))
    x = small.draw(2, 6, 6, 3)
    before, names = np.asarray(model(x)), [one.name for one in model.layers]
    new = evonorm_tf.convert(model, "evonorm_b0")
    for weight in new.weights:
        weight.assign(tf.zeros_like(tf.convert_to_tensor(weight)))
    np.testing.assert_array_equal(model(x), before)
    assert [one.name for one in model.layers] == names
    assert len(small.normalizations(model)) == 2


@cases.both_kerases
def test_trainable_is_kept(kit_name):
    """A frozen inner model, with one of its layers thawed again."""
    model = _nested(cases.kit(kit_name).keras)
    model.get_layer("inner").trainable = False
    model.get_layer("norm").trainable = False
    model.get_layer("inner").layers[1].layers[0].trainable = True
    new = evonorm_tf.convert(model, "evonorm_b0")
    old_flags = {one.name: one.trainable for one in model._flatten_layers()}
    new_flags = {one.name: one.trainable for one in new._flatten_layers()}
    del old_flags["act"], old_flags["block_act"]
    assert set(old_flags.values()) == {True, False}
    # A model's name is made up, an input's too.
    shared = old_flags.keys() & new_flags.keys()
    assert {"inner", "block", "block_conv", "norm", "stem"} <= shared
    assert {n: new_flags[n] for n in shared} == {
        n: old_flags[n] for n in shared
    }
    old = [w.name.split("/")[-1] for w in model.trainable_weights]
    assert len(new.trainable_weights) == len(old)


@cases.both_kerases
def test_a_model_called_for_inference_stays_so(kit_name):
    """`base(x, training=False)`, as transfer learning has it.

    tf_keras heeds it whatever the outer model is called with; Keras 3 lets
    an outer training=True win.
    """
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 4))
    x = _block(keras)(inputs, training=False)
    model = keras.Model(inputs, x)
    new = evonorm_tf.convert(model, "evonorm_b0")
    moved = []
    for one in (model, new):
        (site,) = [
            layer
            for layer in one._flatten_layers()
            if layer.name == "block_norm"
        ]
        before = np.array(tf.convert_to_tensor(site.moving_variance))
        one(small.draw(2, 6, 6, 4), training=True)
        after = np.array(tf.convert_to_tensor(site.moving_variance))
        moved.append(not np.array_equal(before, after))
    assert moved == [kit_name == "keras3"] * 2


@cases.both_kerases
def test_mixed_precision(kit_name):
    keras = cases.kit(kit_name).keras
    old = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = _nested(keras)
    finally:
        keras.mixed_precision.set_global_policy(old)
    new = evonorm_tf.convert(model, "evonorm_s0")
    for layer in new._flatten_layers():
        if layer.weights and not list(layer._flatten_layers(False)):
            assert layer.dtype_policy.name == "mixed_bfloat16"
            assert {w.dtype for w in layer.weights} <= {"float32", tf.float32}
    assert new(small.draw(2, 6, 6, 3)).dtype == tf.bfloat16


@pytest.mark.parametrize("kind", ["Batch", "Group"])
@cases.both_kerases
def test_channels_first(kit_name, kind):
    """Two normalizations without convolutions, which a CPU has not."""
    keras = cases.kit(kit_name).keras
    layer = getattr(keras.layers, f"{kind}Normalization")
    options = {"groups": 2} if kind == "Group" else {}
    inputs = keras.Input((4, 6, 5))
    x = layer(axis=1, name="norm", **options)(inputs)
    x = keras.layers.ReLU(name="act")(x)
    x = layer(axis=1, name="last", **options)(x)
    model = small.scatter(keras.Model(inputs, x))
    new, report = evonorm_tf.convert(model, "gn_relu", return_report=True)
    assert [one.channels for one in report.entries] == [4, 4]
    site = small.norm_acts(new)["norm"]
    assert site.axis == 1
    x = small.draw(2, 4, 6, 5)
    assert new(x).shape == model(x).shape


@cases.both_kerases
def test_functions_and_lambdas_in_the_graph(kit_name):
    keras = cases.kit(kit_name).keras
    scale = 2.0
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.Lambda(lambda t: t * scale, name="twice")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x[:, 1:])
    x = keras.layers.ReLU(name="act")(x)
    model = keras.Model(inputs, 3.0 - x / 4.0)
    new = evonorm_tf.convert(model, "evonorm_s1")
    site, x = small.norm_acts(new)["norm"], small.draw(2, 6, 6, 4)
    wanted = 3.0 - np.asarray(site(2.0 * x[:, 1:])) / 4.0
    np.testing.assert_allclose(new(x), wanted, rtol=1e-5)


@cases.both_kerases
def test_layers_that_hold_more_than_weights(kit_name):
    """What `adapt` found, a wrapper's inner weights, a layer of two inputs."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 4))
    scaling = keras.layers.Normalization(name="scaling")
    scaling.adapt(3.0 + 2.0 * small.draw(50, 6, 6, 4, seed=5))
    each = keras.layers.TimeDistributed(
        keras.layers.Dense(4, name="dense"), name="each"
    )
    x = keras.layers.BatchNormalization(name="norm")(scaling(inputs))
    x = keras.layers.Multiply(name="times")([x, each(inputs)])
    model = small.scatter(keras.Model(inputs, x))
    new = evonorm_tf.convert(model, "evonorm_s0", without_activation="replace")
    x = small.draw(2, 6, 6, 4)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(new.weights) == len(model.weights) - 2


def _adapted(keras, name):
    """Returns (a preprocessing layer, its input, values to look up)."""
    layers = keras.layers
    words = np.array([["a"], ["b"], ["c d"], ["never"]])
    if name == "bins":
        layer = layers.Discretization(num_bins=4, output_mode="one_hot")
        layer.adapt(small.draw(64, 1))
        return layer, keras.Input((1,)), [[-2.0], [-0.3], [0.3], [2.0]]
    if name == "integers":
        layer = layers.IntegerLookup()
        layer.adapt(np.array([20, 30, 10, 10]))
        numbers = np.array([[10], [20], [30], [99]])
        return layer, keras.Input((1,), dtype="int64"), numbers
    if name == "strings":
        layer = layers.StringLookup(output_mode="one_hot")
        # In a file of lines, this would be one word more.
        layer.adapt(np.array(["a", "b", "c d", "two\nlines"]))
    elif name == "given":
        given = ["b", "a"]
        layer = layers.StringLookup(vocabulary=given, output_mode="one_hot")
    elif name == "set":
        layer = layers.StringLookup(vocabulary=["x", "y", "z"])
        layer.set_vocabulary(["c d", "b", "a"])
    elif name == "text":
        layer = layers.TextVectorization(output_sequence_length=3)
        layer.adapt(words)
    elif name == "tf_idf":
        layer = layers.TextVectorization(
            output_mode="tf_idf", max_tokens=9, pad_to_max_tokens=True
        )
        layer.adapt(np.array(["a b", "b c", "b"]))
    return layer, keras.Input((1,), dtype="string"), words


@pytest.mark.parametrize(
    "name",
    ["bins", "integers", "strings", "given", "set", "text", "tf_idf"],
)
@cases.both_kerases
def test_what_adapt_has_learned_is_kept(kit_name, name):
    """Vocabularies and bins: neither weights nor in the configuration."""
    keras = cases.kit(kit_name).keras
    layer, codes, values = _adapted(keras, name)
    images = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(epsilon=1e-3, name="norm")(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    y = keras.layers.Rescaling(1.0)(layer(codes))
    y = keras.layers.Dense(2)(keras.layers.Flatten()(y))
    model = small.scatter(keras.Model([images, codes], [x, y]))
    new = evonorm_tf.convert(model, "bn_relu", epsilon=1e-3)
    given = [tf.constant(small.draw(4, 6, 6, 4)), tf.constant(values)]
    for got, wanted in zip(new(given), model(given)):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    # The values have different codes.
    assert len(np.unique(np.asarray(model(given)[1])[:, 0])) > 2


def _with_assets(keras, loads):
    class Counted(keras.layers.Layer):
        """A layer with Python state that it saves as a file."""

        factor = 1.0

        def call(self, x):
            return self.factor * x

        def save_assets(self, folder):
            pathlib.Path(folder, "factor").write_text(str(self.factor))

        if loads:

            def load_assets(self, folder):
                text = pathlib.Path(folder, "factor").read_text()
                self.factor = float(text)

    layer = Counted(name="counted")
    layer.factor = 3.0
    return layer


@cases.both_kerases
def test_a_layers_assets_are_copied(kit_name):
    """Those of a class of the user's; without load_assets it is refused."""
    keras = cases.kit(kit_name).keras
    for loads in (True, False):
        inputs = keras.Input((6, 6, 4))
        x = keras.layers.BatchNormalization(epsilon=1e-3)(inputs)
        x = _with_assets(keras, loads)(keras.layers.ReLU()(x))
        model = keras.Model(inputs, x)
        if not loads:
            with pytest.raises(ValueError, match=r"load_assets.*'counted'"):
                evonorm_tf.convert(model, "bn_relu")
            continue
        new = evonorm_tf.convert(model, "bn_relu", epsilon=1e-3)
        x = small.draw(2, 6, 6, 4)
        np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-6)
        assert new.get_layer("counted") is not model.get_layer("counted")


@cases.both_kerases
def test_lambdas_are_made_anew(kit_name):
    """Each model has its own; parts of the new one are models too."""
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.Lambda(
        lambda t, factor: t * factor,
        output_shape=(6, 6, 4),
        arguments={"factor": 3.0},
        name="scaled",
    )(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="act")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    new = evonorm_tf.convert(model, "evonorm_s0")
    assert not set(map(id, new.layers)) & set(map(id, model.layers))
    part = keras.Model(new.input, new.get_layer("norm").output)
    x = small.draw(2, 6, 6, 4)
    np.testing.assert_allclose(
        part(x), new.get_layer("norm")(3.0 * x), rtol=1e-6
    )
    # Converting on does not tie the models either.
    twice = evonorm_tf.convert(new, "evonorm_b0")
    keras.Model(twice.input, twice.get_layer("norm").output)(x)
    scaled = twice.get_layer("scaled")
    assert (scaled.dtype_policy.name, scaled.trainable) == ("float32", True)
