"""Moving statistics are the means of the batches', layer after layer."""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases
from tests.convert import small


def _model(kit_name):
    """BatchNorm, then B0 on what it gives in training, both with momentum."""
    kit = cases.kit(kit_name)
    inputs = kit.keras.Input((6, 6, 4))
    x = kit.keras.layers.BatchNormalization(name="bn", epsilon=1e-3)(inputs)
    x = kit.layers.NormAct("evonorm_b0", name="b0", momentum=0.7)(x)
    return kit.keras.Model(inputs, x)


def _moving(model, layer, name):
    return _value(getattr(model.get_layer(layer), name))


def _value(weight):
    return np.asarray(tf.convert_to_tensor(weight))


@pytest.mark.parametrize("form", ["x", "pair", "triple", "dataset"])
@cases.both_kerases
def test_means_of_batches(kit_name, form):
    model = small.scatter(_model(kit_name))
    gamma = _moving(model, "b0", "gamma")
    batches = [2.0 + 3.0 * small.draw(n, 6, 6, 4, seed=n) for n in (5, 5, 2)]
    y = [np.zeros(len(x), np.float32) for x in batches]
    data = {
        "x": batches,
        "pair": list(zip(batches, y)),
        "triple": list(zip(batches, y, y)),
        "dataset": tf.data.Dataset.from_tensor_slices(
            np.concatenate(batches)
        ).batch(5),
    }[form]
    assert evonorm_tf.recalibrate(model, data) == 3
    weights = np.array([5, 5, 2]) / 12
    means = np.array([x.mean((0, 1, 2)) for x in batches])
    wanted = weights @ means
    got = _moving(model, "bn", "moving_mean")
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    # Each batch is normalized by itself: its variance is gamma^2 then.
    scale = _moving(model, "bn", "gamma")
    variances = np.array([x.var((0, 1, 2)) for x in batches])
    after = scale**2 * (variances / (variances + 1e-3))
    got = _moving(model, "b0", "moving_variance")
    np.testing.assert_allclose(got, weights @ after, rtol=1e-4)
    np.testing.assert_array_equal(_moving(model, "b0", "gamma"), gamma)


@cases.both_kerases
def test_frozen_layers_keep_theirs(kit_name):
    model = small.scatter(_model(kit_name))
    model.get_layer("bn").trainable = False
    before = _moving(model, "bn", "moving_mean")
    x = small.draw(4, 6, 6, 4)
    assert evonorm_tf.recalibrate(model, [x]) == 1
    np.testing.assert_array_equal(_moving(model, "bn", "moving_mean"), before)
    # What reaches B0 then is what the frozen layer gives at inference.
    wanted = np.var(model.get_layer("bn")(x, training=False), (0, 1, 2))
    got = _moving(model, "b0", "moving_variance")
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@cases.both_kerases
def test_without_batch_statistics_nothing_is_read(kit_name):
    kit = cases.kit(kit_name)
    inputs = kit.keras.Input((6, 6, 4))
    model = kit.keras.Model(inputs, kit.layers.NormAct("evonorm_s0")(inputs))

    def never():
        raise AssertionError("read")
        yield

    assert evonorm_tf.recalibrate(model, never()) == 0


def test_too_little_data_changes_nothing():
    model = small.scatter(_model("keras3"))
    before = _moving(model, "b0", "moving_variance")
    x = small.draw(4, 6, 6, 4)
    for data, steps in (([x], 2), ([], None)):
        with pytest.raises(ValueError, match="ended too early"):
            evonorm_tf.recalibrate(model, data, steps)
        np.testing.assert_array_equal(
            _moving(model, "b0", "moving_variance"), before
        )
    endless = tf.data.Dataset.from_tensors(x).repeat()
    with pytest.raises(ValueError, match="dataset is infinite"):
        evonorm_tf.recalibrate(model, endless)
    for steps in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="positive number"):
            evonorm_tf.recalibrate(model, endless, steps)
    for steps in (2, np.int64(2)):
        assert evonorm_tf.recalibrate(model, endless, steps) == 3


@cases.both_kerases
def test_a_layer_used_twice_has_the_mean_of_its_uses(kit_name):
    """And not nearly their sum, as each use moves what the last one left."""
    kit = cases.kit(kit_name)
    keras = kit.keras
    bn = keras.layers.BatchNormalization()
    b0 = kit.layers.NormAct("evonorm_b0", momentum=0.7)
    ends = [keras.Input((6, 6, 4)) for _ in range(3)]
    both = keras.layers.Concatenate()([b0(bn(one)) for one in ends])
    model = small.scatter(keras.Model(ends, both))
    moved = [bn.moving_mean, bn.moving_variance, b0.moving_variance]
    batches = [
        [1 + k + (k + 1) * small.draw(n, 6, 6, 4, seed=n + k) for k in range(3)]
        for n in (6, 3)
    ]
    data = [(tuple(tf.constant(x) for x in batch), 0) for batch in batches]
    assert evonorm_tf.recalibrate(model, data) == 3
    axes = (0, 1, 2)
    means = [np.mean([x.mean(axes) for x in b], 0) for b in batches]
    spreads = [np.mean([x.var(axes) for x in b], 0) for b in batches]
    weights = np.array([6, 3]) / 9
    np.testing.assert_allclose(moved[0], weights @ means, rtol=1e-4)
    # tf_keras takes the unbiased variance, of at least 3 * 36 pixels.
    np.testing.assert_allclose(moved[1], weights @ spreads, rtol=1.5e-2)
    # BatchNorm's own output has its gain for a spread, at every use.
    gamma = np.asarray(tf.convert_to_tensor(bn.gamma))
    np.testing.assert_allclose(moved[2], gamma**2, rtol=1e-2)
    # The layers are as they were.
    assert (bn.momentum, b0.momentum) == (0.99, 0.7)
    assert "call" not in vars(bn) and "call" not in vars(b0)


def test_what_the_graph_calls_at_inference_keeps_its_statistics():
    """tf_keras; Keras 3 has the whole model's `training` win over a call's."""
    kit = cases.kit("tf_keras")
    keras = kit.keras
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras.layers.BatchNormalization(),
            kit.layers.NormAct("evonorm_b0"),
        ]
    )
    inputs = keras.Input((6, 6, 4))
    last = keras.layers.BatchNormalization()
    x = inner(inputs, training=False)
    model = small.scatter(keras.Model(inputs, last(x)))
    before = [w.numpy() for w in inner.weights]
    images = small.draw(4, 6, 6, 4)
    assert evonorm_tf.recalibrate(model, [images]) == 2
    for old, new in zip(before, inner.weights):
        np.testing.assert_array_equal(new, old)
    wanted = np.mean(inner(images, training=False), (0, 1, 2))
    np.testing.assert_allclose(last.moving_mean, wanted, rtol=1e-4, atol=1e-5)


@cases.both_kerases
def test_an_error_leaves_the_statistics_as_they_were(kit_name):
    model = small.scatter(_model(kit_name))
    names = [("bn", "moving_mean"), ("b0", "moving_variance")]
    before = [_moving(model, *name) for name in names]

    def broken():
        yield small.draw(4, 6, 6, 4)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        evonorm_tf.recalibrate(model, broken())
    with pytest.raises(ValueError, match="hape"):
        evonorm_tf.recalibrate(model, [small.draw(4, 6, 6, 3)])
    for name, value in zip(names, before):
        np.testing.assert_array_equal(_moving(model, *name), value)
    assert model.get_layer("b0").momentum == 0.7


@cases.both_kerases
def test_what_stood_there_before_does_not_matter(kit_name):
    """Nor does NaN or infinity: 0 times it would be NaN still."""
    model = small.scatter(_model(kit_name))
    x = small.draw(4, 6, 6, 4)
    evonorm_tf.recalibrate(model, [x])
    names = [("bn", "moving_mean"), ("bn", "moving_variance")]
    names.append(("b0", "moving_variance"))
    wanted = [_moving(model, *name) for name in names]
    for value in (np.inf, np.nan):
        for layer, name in names:
            weight = getattr(model.get_layer(layer), name)
            weight.assign(np.full(weight.shape, value, np.float32))
        assert evonorm_tf.recalibrate(model, [x]) == 3
        for name, kept in zip(names, wanted):
            np.testing.assert_array_equal(_moving(model, *name), kept)


@cases.both_kerases
def test_statistics_that_are_not_finite_are_refused(kit_name):
    model = small.scatter(_model(kit_name))
    before = _moving(model, "b0", "moving_variance")
    good = small.draw(4, 6, 6, 4)
    bad = good.copy()
    bad[0, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"batch number 1 .*layer 'bn'"):
        evonorm_tf.recalibrate(model, [good, bad, good])
    np.testing.assert_array_equal(
        _moving(model, "b0", "moving_variance"), before
    )
    gamma = model.get_layer("bn").gamma
    gamma.assign(np.full(4, np.inf, np.float32))
    with pytest.raises(ValueError, match="layer 'b0'"):
        evonorm_tf.recalibrate(model, [good])


@pytest.mark.parametrize("inputs", [1, 2])
@cases.both_kerases
def test_kinds_of_batches(kit_name, inputs):
    """Lists as `fit` takes them, and the inputs of a model of several."""
    keras = cases.kit(kit_name).keras
    norm = keras.layers.BatchNormalization(name="bn")
    ends = [keras.Input((6, 6, 4), name=f"in{k}") for k in range(inputs)[::-1]]
    x = ends[0] if inputs == 1 else keras.layers.Subtract()(ends)
    model = keras.Model(ends if inputs > 1 else ends[0], norm(x))
    parts = [small.draw(5, 6, 6, 4, seed=k) for k in range(inputs)]
    wanted = np.mean(parts[0] - sum(parts[1:]), (0, 1, 2))
    y = np.zeros(5, np.float32)
    given = parts[0] if inputs == 1 else parts
    batches = [[given, y], (given, y), (given,), [given, y, y], given]
    if inputs == 2:
        batches += [tuple(parts), (tuple(parts), y)]
    # By the names of the inputs, in another order and among others.
    named = {f"in{inputs - 1 - k}": parts[k] for k in range(inputs)}
    more = {"a": y[:, np.newaxis], **named}
    batches += [named, (named, y), more, (more, y), (more, y, y)]
    for batch in batches:
        norm.moving_mean.assign(np.zeros(4, np.float32))
        assert evonorm_tf.recalibrate(model, [batch]) == 2
        np.testing.assert_allclose(norm.moving_mean, wanted, atol=1e-5)
    wrong = parts[0] if inputs == 2 else (parts[0][0], y)
    with pytest.raises(ValueError, match=r"A batch must be x, \(x, y\)"):
        evonorm_tf.recalibrate(model, [wrong])


@cases.both_kerases
def test_a_dictionary_for_a_dictionary(kit_name):
    """Its keys need not be the names of the inputs, and there may be more."""
    keras = cases.kit(kit_name).keras
    norm = keras.layers.BatchNormalization(name="bn")
    ends = {key: keras.Input((6, 6, 4), name=f"of_{key}") for key in "ba"}
    model = keras.Model(
        ends, norm(keras.layers.Subtract()(list(ends.values())))
    )
    parts = {key: small.draw(5, 6, 6, 4, seed=ord(key)) for key in "bac"}
    assert evonorm_tf.recalibrate(model, [(parts, np.zeros(5))]) == 2
    wanted = np.mean(parts["b"] - parts["a"], (0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean, wanted, atol=1e-5)


@cases.both_kerases
def test_a_bare_array_has_no_batches(kit_name):
    model = small.scatter(_model(kit_name))
    x = small.draw(4, 6, 6, 4)
    for array in (x, tf.constant(x)):
        with pytest.raises(TypeError, match=r"Pass \[array\].*\(4, 6, 6, 4\)"):
            evonorm_tf.recalibrate(model, array)
    for nothing in (None, 3):
        with pytest.raises(TypeError, match=f"Expected batches.*{nothing}"):
            evonorm_tf.recalibrate(model, nothing)


@cases.both_kerases
def test_no_other_variable_changes(kit_name):
    """As spectral normalization and dropout write in training mode."""
    keras = cases.kit(kit_name).keras

    class Halved(keras.layers.Conv2D):
        def call(self, x, training=None):
            if training:
                self.kernel.assign(0.5 * self.kernel)
            return super().call(x)

    model = keras.Sequential(
        [
            Halved(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )
    x = small.draw(4, 6, 6, 4)
    model(x)
    before = [np.array(_value(one)) for one in model.variables]
    assert evonorm_tf.recalibrate(model, [x, x]) == 2
    changed = [
        one.name.split("/")[-1].split(":")[0]
        for one, old in zip(model.variables, before)
        if not np.array_equal(_value(one), old)
    ]
    assert changed == ["moving_mean", "moving_variance"]


# A function that has been traced is the harder one; where it stands and which
# Keras calls it make no difference to each other.
@pytest.mark.parametrize(
    ("kit_name", "where", "traced"),
    [
        *[("tf_keras", "block", True), ("keras3", "layer", True)],
        ("keras3", "block", False),
        *(
            pytest.param(*three, marks=pytest.mark.slow)
            for three in (
                *[("tf_keras", "layer", True), ("keras3", "block", True)],
                *[("tf_keras", "block", False), ("tf_keras", "layer", False)],
                ("keras3", "layer", False),
            )
        ),
    ],
)
def test_a_function_inside_gets_and_keeps_its_momentum(kit_name, traced, where):
    kit = cases.kit(kit_name)
    keras = kit.keras

    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = kit.layers.NormAct("evonorm_b0")

        @tf.function
        def call(self, x, training=None):
            return self.norm(x, training=training)

    class Norm(kit.layers.NormAct):
        @tf.function
        def call(self, x, training=None):
            return super().call(x, training=training)

    one = Block() if where == "block" else Norm("evonorm_b0")
    norm = one.norm if where == "block" else one
    norm.build((None, 6, 6, 4))
    model = keras.Sequential([keras.Input((6, 6, 4)), one])
    x = small.draw(8, 6, 6, 4)
    if traced:
        model(x, training=True)
    assert evonorm_tf.recalibrate(model, [x]) == 1
    wanted = x.var((0, 1, 2))
    got = _value(norm.moving_variance)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    model(10 * x, training=True)
    got = _value(norm.moving_variance)
    np.testing.assert_allclose(got, 10.9 * wanted, rtol=1e-4)
    assert not tf.config.functions_run_eagerly()
