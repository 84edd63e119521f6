"""Layers in models: built in three ways, saved in three, trained.

Saving is slow, so one model holds every row of the catalog, side by side.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, reference

TOLERANCE = 1e-5


def _keywords(case):
    return {"groups": 4} if case.grouped else {}


def _every_row(kit_name, filled=True, rows=cases.CASES):
    """A model with one output per row, and the layers by row."""
    kit = cases.kit(kit_name)
    inputs = kit.keras.Input((None, None, 8))
    layers = {
        case.name: kit.layers.norm_act(
            case.name, name=f"site_{case.name}", **_keywords(case)
        )
        for case in rows
    }
    outputs = [layer(inputs) for layer in layers.values()]
    if filled:
        for name, layer in layers.items():
            cases.assign(layer, cases.weights_of(cases.BY_NAME[name]))
    return kit.keras.Model(inputs, outputs), layers


def _assert_right(outputs, x, rows=cases.CASES):
    """Outputs of the filled model at inference, row by row."""
    assert len(outputs) == len(rows)
    for case, y in zip(rows, outputs, strict=True):
        weights, moving = cases.split(cases.weights_of(case))
        wanted = reference.forward(
            case.name, x, weights, moving=moving, **_keywords(case)
        )
        cases.assert_close(y, wanted, TOLERANCE, case.name)


SIZES = (cases.SHAPE, (2, 3, 7, 8))
# What traces or compiles every row takes long.
of_each_kind_or_all = pytest.mark.parametrize(
    "rows",
    [cases.KINDS, pytest.param(cases.CASES, marks=pytest.mark.slow)],
    ids=["kinds", "catalog"],
)


@cases.both_kerases
def test_keras_file(kit_name, tmp_path):
    """.keras, loaded without custom_objects: the layer is registered."""
    model, _ = _every_row(kit_name)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = cases.kit(kit_name).keras.models.load_model(path)
    for shape in SIZES:
        x = cases.draw(shape)
        outputs = loaded(x.astype(np.float32), training=False)
        _assert_right(outputs, x)


@of_each_kind_or_all
@cases.both_kerases
def test_saved_model_of_any_size(kit_name, rows, tmp_path):
    """Served by TensorFlow alone, at batch, height and width unknown."""
    model, _ = _every_row(kit_name, rows=rows)
    path = str(tmp_path / "saved")
    if kit_name == "keras3":
        model.export(path, verbose=False)
    else:
        model.save(path, save_format="tf")
    loaded = tf.saved_model.load(path)
    if kit_name == "keras3":
        serve = loaded.serve
    else:

        def serve(x):
            return loaded(x, training=False)

    for shape in SIZES:
        x = cases.draw(shape)
        _assert_right(serve(tf.constant(x, tf.float32)), x, rows)


@cases.both_kerases
def test_weights_in_hdf5(kit_name, tmp_path):
    model, _ = _every_row(kit_name)
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    other, layers = _every_row(kit_name, filled=False)
    other.load_weights(path)
    for case in cases.CASES:
        for name, value in cases.weights_of(case).items():
            cases.assert_close(getattr(layers[case.name], name), value, 0.0)
    x = cases.draw()
    _assert_right(other(x.astype(np.float32), training=False), x)


def _build(kit, style, case):
    """conv, layer, conv in one of three styles."""
    keras = kit.keras
    parts = [
        keras.layers.Conv2D(8, 1, kernel_initializer="he_normal", name="in"),
        kit.layers.norm_act(case.name, name="site", **_keywords(case)),
        keras.layers.Conv2D(1, 1, kernel_initializer="he_normal", name="out"),
    ]
    if style == "sequential":
        return keras.Sequential([keras.Input((6, 5, 3)), *parts]), parts
    if style == "functional":
        inputs = keras.Input((6, 5, 3))
        x = inputs
        for part in parts:
            x = part(x)
        return keras.Model(inputs, x), parts

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.site, self.last = parts

        def call(self, x, training=None):
            return self.last(self.site(self.first(x), training=training))

    model = Subclassed()
    model(np.zeros((1, 6, 5, 3), np.float32))
    return model, parts


@pytest.mark.parametrize("style", ["functional", "sequential", "subclassed"])
@cases.both_kerases
@cases.every_case
def test_model_styles(kit_name, style, case):
    """The layer's weights are the model's, and its values the layer's."""
    kit = cases.kit(kit_name)
    model, (first, site, last) = _build(kit, style, case)
    values = cases.weights_of(case)
    cases.assign(site, values)
    assert len(model.trainable_variables) == 4 + len(case.trainable)
    assert len(model.non_trainable_variables) == len(case.moving)
    x = cases.draw((4, 6, 5, 3)).astype(np.float32)
    middle = np.asarray(first(x), np.float64)
    weights, moving = cases.split(values)
    wanted = reference.forward(
        case.name, middle, weights, moving=moving, **_keywords(case)
    )
    wanted = np.asarray(last(wanted.astype(np.float32)))
    cases.assert_close(model(x, training=False), wanted, TOLERANCE)


@cases.both_kerases
@pytest.mark.parametrize("style", ["functional", "sequential", "eager"])
def test_a_mask_reaches_later_layers(kit_name, style):
    """Pooling skips the masked positions, as after BatchNormalization."""
    kit = cases.kit(kit_name)
    keras = kit.keras
    parts = [
        keras.layers.Masking(),
        kit.layers.NormAct("bn_relu"),
        keras.layers.GlobalAveragePooling1D(),
    ]
    x = np.ones([1, 4, 3], np.float32)
    x[:, 2:] = 0.0
    if style == "sequential":
        y = keras.Sequential([keras.Input((4, 3)), *parts])(x)
    else:
        inputs = y = keras.Input((4, 3)) if style == "functional" else x
        for part in parts:
            y = part(y)
        y = keras.Model(inputs, y)(x) if style == "functional" else y
    np.testing.assert_allclose(y, np.ones([1, 3]), atol=1e-4)


@cases.both_kerases
def test_arguments_by_position_and_by_name(kit_name):
    """As in `call`: the wrapper of tf_keras shows the same signature."""
    layer = cases.make(kit_name, cases.BY_NAME["evonorm_b0"], affine=False)
    x = cases.draw().astype(np.float32)
    gamma, beta = (
        cases.draw((4, 8), seed).astype(np.float32) for seed in (1, 2)
    )
    wanted = layer(x, gamma=gamma, beta=beta, training=True)
    for y in (
        layer(x, gamma, beta, training=True),
        layer(inputs=x, gamma=gamma, beta=beta, training=True),
    ):
        np.testing.assert_array_equal(y, wanted)


@of_each_kind_or_all
@pytest.mark.parametrize(
    ("kit_name", "jit_compile"),
    [
        *[("keras3", False), ("tf_keras", True)],
        pytest.param("keras3", True, marks=pytest.mark.slow),
        pytest.param("tf_keras", False, marks=pytest.mark.slow),
    ],
)
def test_fit(kit_name, jit_compile, rows):
    """Two SGD steps by `fit` equal two worked out with the reference.

    Every row is an output of its own, and the loss the sum of their mean
    squared errors: each layer's update follows from its plain gradients.
    """
    x, target = cases.draw(), cases.draw(seed=5)
    model, layers = _every_row(kit_name, rows=rows)
    model.compile(
        optimizer=cases.kit(kit_name).keras.optimizers.SGD(0.1),
        loss=["mse"] * len(layers),
        jit_compile=jit_compile,
    )
    model.fit(
        x.astype(np.float32),
        [target.astype(np.float32)] * len(layers),
        batch_size=len(x),
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    for case in rows:
        for name, value in _two_steps(case, x, target).items():
            got = getattr(layers[case.name], name)
            what = f"{case.name}.{name}"
            cases.assert_close(got, value, TOLERANCE, what)


@cases.both_kerases
@cases.every_case
def test_frozen(kit_name, case):
    """trainable=False: moving statistics are used, and stay, in training."""
    values = cases.weights_of(case)
    layer = cases.make(kit_name, case, values, **_keywords(case))
    layer.trainable = False
    assert not layer.trainable_variables
    x = cases.draw()
    y = layer(x.astype(np.float32), training=True)
    weights, moving = cases.split(values)
    wanted = reference.forward(
        case.name, x, weights, moving=moving, **_keywords(case)
    )
    cases.assert_close(y, wanted, TOLERANCE, case.name)
    for name, old in moving.items():
        cases.assert_close(getattr(layer, name), old, 0.0, name)


def _two_steps(case, x, target):
    weights, moving = cases.split(cases.weights_of(case))
    for _ in range(2):
        y = reference.forward(case.name, x, weights, **_keywords(case))
        slope = 2.0 * (y - target) / y.size  # of the mean squared error
        found = cases.plain_gradients(
            case.name, x, weights, slope, **_keywords(case)
        )
        weights = {k: w - 0.1 * found[k] for k, w in weights.items()}
        fresh = reference.batch_statistics(case.name, x)
        moving = {k: reference.moved(m, fresh[k]) for k, m in moving.items()}
    return {**weights, **moving}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@cases.both_kerases
@cases.both_ways
@cases.every_case
def test_mixed_precision(kit_name, xla, dtype, case):
    """Weights and statistics in float32, the output in the compute type.

    One rounding of the output apart: 2^-11 in float16, 2^-8 in bfloat16.
    """
    keras = cases.kit(kit_name).keras
    keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    try:
        values = cases.weights_of(case)
        layer = cases.make(kit_name, case, values, xla=xla, **_keywords(case))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x = tf.cast(cases.draw(), dtype)
    exact = cases.as_numpy(x)
    weights, moving = cases.split(values)
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    for training in (False, True):
        y = layer(x, training=training)
        assert y.dtype == tf.as_dtype(dtype)
        wanted = reference.forward(
            case.name,
            exact,
            weights,
            moving=None if training else moving,
            **_keywords(case),
        )
        cases.assert_close(y, wanted, rounding + TOLERANCE, case.name)
    for name in (*case.trainable, *case.moving):
        assert cases.variable(layer, name).dtype == tf.float32
    for name, fresh in reference.batch_statistics(case.name, exact).items():
        wanted = reference.moved(moving[name], fresh)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


@cases.both_kerases
def test_first_layer_of_a_sequential_model(kit_name):
    kit = cases.kit(kit_name)
    layer = kit.layers.NormAct("evonorm_s0", input_shape=(6, 5, 8))
    assert kit.keras.Sequential([layer]).output_shape == (None, 6, 5, 8)
    again = type(layer).from_config(layer.get_config())
    assert "evonorm_s0" in repr(again) and "groups" not in repr(again)
    assert "groups=8" in repr(layer)
