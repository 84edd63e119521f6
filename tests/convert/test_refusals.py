"""What cannot be converted is refused by name, with how to fix it."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)


def _refused(error, model, norm_act="evonorm_s0", **options):
    with pytest.raises(error) as caught:
        evonorm_tf.convert(model, norm_act, **options)
    return str(caught.value)


def _images(keras, *layers, channels=3):
    inputs = keras.Input((6, 6, channels))
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="chain")


def _hiding(keras):
    """A layer that has a normalization inside."""

    class Hiding(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = keras.layers.BatchNormalization(name="inside")

        def build(self, shape):
            self.norm.build(shape)
            self.built = True

        def call(self, x):
            return self.norm(x)

        def compute_output_shape(self, shape):
            return shape

    return Hiding(name="hiding")


@cases.both_kerases
def test_subclassed_models_are_told_how(kit_name):
    kit = cases.kit(kit_name)

    class Net(kit.keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.first = kit.keras.layers.BatchNormalization(name="first")

        def call(self, x):
            return tf.nn.relu(self.first(x))

    model = Net()
    said = _refused(ValueError, model)
    for part in ("subclassed", "first (BatchNormalization)", "'net'"):
        assert part in said
    assert f"{kit.layers.__name__}.norm_act(" in said
    assert "activation=False" in said and "docs/" not in said
    # Inside of a functional model it is one of the layers out of reach.
    model(np.zeros((1, 6, 6, 3), np.float32))
    said = _refused(ValueError, _images(kit.keras, model))
    assert "net: a subclassed model" in said and "first" in said


@cases.both_kerases
def test_a_functional_class_with_a_call_of_its_own(kit_name):
    keras = cases.kit(kit_name).keras

    class Doubling(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2.0 * super().call(x, training=training)

    inputs = keras.Input((6, 6, 3))
    x = keras.layers.BatchNormalization()(inputs)
    assert "subclassed" in _refused(ValueError, Doubling(inputs, x))

    class Trained(keras.Model):
        def train_step(self, data):
            raise NotImplementedError

    lost = "own: a Trained became a Functional, without its own train_step"
    with pytest.warns(UserWarning, match=lost) as caught:
        new, report = evonorm_tf.convert(
            Trained(inputs, keras.layers.ReLU()(x), name="own"),
            *("evonorm_s0",),
            return_report=True,
        )
    assert caught[0].filename == __file__  # Where `convert` was called.
    assert type(new) is type(keras.Model(inputs, x))
    assert report.notes == (lost,)
    # How to fix it, according to the warning.
    assert "Trained(new.input, new.output)" in str(caught[0].message)
    again = Trained(new.input, new.output)
    again.compile("sgd", "mse")
    with pytest.raises(NotImplementedError):
        again.fit(np.zeros((1, 6, 6, 3)), np.zeros((1, 6, 6, 3)), verbose=0)


@cases.both_kerases
def test_unbuilt_sequential(kit_name):
    layers = cases.kit(kit_name).keras.layers
    model = cases.kit(kit_name).keras.Sequential(
        [layers.Conv2D(4, 1), layers.BatchNormalization()], name="unbuilt"
    )
    said = _refused(ValueError, model)
    assert "'unbuilt'" in said and "model.build(" in said


@pytest.mark.parametrize("model", [None, "resnet50", 3, tf.Module()])
def test_no_model(model):
    assert "Received" in _refused(TypeError, model)


@cases.both_kerases
def test_layers_out_of_reach_are_all_named(kit_name):
    """The fix that the message suggests works."""
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    model = _images(
        keras,
        _hiding(keras),
        layers.BatchNormalization(axis=2, name="across"),
        layers.BatchNormalization(name="ordinary"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4),
        layers.BatchNormalization(name="flat"),
        layers.ReLU(),
    )
    said = _refused(ValueError, model)
    assert said.startswith("3 normalization layers cannot be replaced")
    assert "hiding: a layer with inaccessible normalization: inside" in said
    assert "across: " in said and "axis" in said
    assert "flat: evonorm_s0 is defined for inputs of rank 3" in said
    assert "ordinary" not in said
    start = said.index("sites=") + len("sites=")
    choice = eval(said[start : said.index("}", start) + 1])
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", sites=choice, return_report=True
    )
    assert report.counts() == {"evonorm_s0": 1, "left": 3}
    notes = {one.layer: one.note for one in report.entries}
    assert notes["hiding"] == notes["flat"] == "not among `sites`"
    # The other one: all that can be replaced is, and the rest is listed.
    new, report = evonorm_tf.convert(
        model, "evonorm_s0", unreplaceable="leave", return_report=True
    )
    assert report.counts() == {"evonorm_s0": 1, "left": 3}
    notes = {one.layer: one.note for one in report.entries}
    assert notes["flat"].startswith("cannot be replaced: evonorm_s0 is defined")
    assert notes["across"].startswith("cannot be replaced: it normalizes along")
    assert "inaccessible normalization: inside" in notes["hiding"]
    assert new(small.draw(2, 6, 6, 3)).shape == (2, 4)
    small.assert_kept(model, new)


@cases.both_kerases
def test_groups_that_do_not_divide(kit_name):
    keras = cases.kit(kit_name).keras
    layers = keras.layers
    parts = []
    for channels in (8, 12, 20):
        parts += [
            layers.Conv2D(channels, 1, name=f"conv{channels}"),
            layers.BatchNormalization(name=f"norm{channels}"),
            layers.ReLU(name=f"act{channels}"),
        ]
    model = _images(keras, *parts)
    make = small.make(kit_name, "evonorm_s0", groups=8)
    said = _refused(ValueError, model, make)
    assert "norm12" in said and "norm20" in said and "norm8" not in said
    assert "groups=None" in said
    wanted = {None: [8, 12, 20], 4: [2, 3, 5], 6: [1, 2, 2]}
    for least, groups in wanted.items():
        options = {} if least is None else {"min_group_size": least}
        make = small.make(kit_name, "evonorm_s0", **options)
        _, report = evonorm_tf.convert(model, make, return_report=True)
        assert [one.groups for one in report.entries] == groups
    notes = evonorm_tf.convert(model, "evonorm_s0", return_report=True)[1]
    assert all("one channel per group" in e.note for e in notes.entries)


@cases.both_kerases
def test_wrong_arguments(kit_name):
    keras = cases.kit(kit_name).keras
    norm = keras.layers.BatchNormalization(name="norm")
    model = _images(keras, norm)
    said = _refused(ValueError, model, "evonorm_s00")
    assert said.startswith("Unknown norm-act layer. Did you mean evonorm_s0")
    other = {"keras3": "tf_keras", "tf_keras": "keras3"}[kit_name]
    said = _refused(TypeError, model, small.make(other, "evonorm_s0"))
    assert cases.kit(kit_name).layers.__name__ in said
    said = _refused(TypeError, model, lambda **_: keras.layers.ReLU())
    assert "ReLU" in said
    one = cases.kit(kit_name).layers.NormAct("evonorm_s0")
    two = _images(keras, *(keras.layers.BatchNormalization() for _ in "12"))
    said = _refused(
        TypeError, two, lambda **_: one, without_activation="replace"
    )
    assert "must create a new layer at each call" in said
    said = _refused(ValueError, model, without_activation="affine")
    assert "'affine'" in said and "'leave'" in said
    said = _refused(ValueError, model, unreplaceable="skip")
    assert "'skip'" in said and "('raise', 'leave')" in said
    assert "no stem" in _refused(ValueError, model, keep_stem=True)
    said = _refused(ValueError, model, sites="nothing")
    assert "nothing to replace" in said and "1 normalization layer," in said
    assert "norm: not among `sites`" in said and "sites='nothing'" in said
    assert "Request" not in said
    said = _refused(ValueError, model, without_activation="leave")
    assert "norm: without an activation: read by the output of chain" in said
    said = _refused(ValueError, _images(keras, keras.layers.ReLU()))
    assert "0 normalization layers" in said
    layers = [keras.layers.BatchNormalization() for _ in range(7)]
    said = _refused(ValueError, _images(keras, *layers), sites="nothing")
    assert said.count("not among") == 5 and "and 2 more" in said


def test_a_layer_without_a_config():
    keras = cases.kit("keras3").keras

    class Bare(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__(name="bare")
            self.factor = [factor, object()]

        def call(self, x):
            return x * self.factor[0]

    parts = [Bare(tf.constant(2.0)), keras.layers.BatchNormalization()]
    parts.append(keras.layers.ReLU())
    said = _refused(ValueError, _images(keras, *parts))
    assert "'bare'" in said and "get_config" in said


def test_added_losses_would_be_lost():
    keras = cases.kit("tf_keras").keras
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(inputs))
    model = keras.Model(inputs, x)
    model.add_loss(tf.reduce_mean(x))
    assert "add_loss" in _refused(ValueError, model)


@cases.both_kerases
def test_a_mask(kit_name):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 3))
    mask = keras.Input((6, 6), dtype="bool")
    if kit_name == "tf_keras":
        layer = cases.kit(kit_name).layers.NormAct(
            "bn_relu", affine=False, name="norm"
        )
        gain = keras.Input((3,))
        x = layer(inputs, gamma=gain, beta=gain)
        model = keras.Model([inputs, gain], x)
    else:
        x = keras.layers.BatchNormalization(name="norm")(inputs, mask=mask)
        model = keras.Model([inputs, mask], x)
    said = _refused(ValueError, model)
    assert "norm: it is called with a mask, gamma or beta" in said
