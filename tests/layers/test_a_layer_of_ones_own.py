"""To add a layer is to write a kernel and a row, and to touch no other file.

The layer here exists in this test alone: y = x * |x| / group std, whose value
NumPy computes below.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from evonorm_tf import catalog, legacy, preflight, versions
from evonorm_tf.exporting import inference_form
from evonorm_tf.ops import folding, moments
from evonorm_tf.ops.kernel import Analytic, Pointwise, affine
from tests import cases


class Coefficients(NamedTuple):
    scale: Any
    beta: Any


def _coefficients(xp, statistics, parameters, plan):
    group = moments.group_moments(xp, statistics.sample, plan.groups)
    gamma, beta = affine(parameters)
    return Coefficients(gamma * xp.rsqrt(group.variance + plan.epsilon), beta)


def _fold(xp, c):
    def call(x):
        variance = folding.group_moments(xp, x, c.groups).variance
        z = (
            x
            * xp.abs(x)
            * folding.group_scale(xp, variance, c.gamma, c.epsilon)
        )
        return z + folding.constant(xp, c.beta, x)

    return call


KERNEL = Analytic(
    Pointwise(
        forward=lambda xp, x, c: x * xp.abs(x) * c.scale + c.beta,
        terms=lambda xp, x, dy, c: {"scale": dy * x * xp.abs(x), "beta": dy},
        finish=lambda sums, c: Coefficients(**sums),
        slope=lambda xp, x, dy, c: dy * 2.0 * xp.abs(x) * c.scale,
    ),
    _coefficients,
    instance=True,
)


@pytest.fixture(scope="module")
def name():
    row = catalog.Row(
        name="toy",
        formula="x*abs(x) / sqrt(var_hw,c/g(x))",
        reference="this test",
        kernel=KERNEL,
        grouped=True,
        without_activation=catalog.AFFINE,
        folded=folding.Folded(_fold),
    )
    catalog.register(row)
    yield row.name
    del catalog._rows[row.name]


def _reference(x, groups):
    split = x.reshape(*x.shape[:-1], groups, -1)
    variance = split.var((1, 2, 4), keepdims=True) + 0.0 * split
    return x * np.abs(x) / np.sqrt(variance.reshape(x.shape) + 1e-5)


@cases.both_kerases
def test_values_and_gradients(name, kit_name):
    layer = cases.kit(kit_name).layers.NormAct(name, 4, dtype="float64")
    x, dy = cases.draw(), cases.draw(seed=5)
    y, found = cases.gradients(layer, x, dy)
    cases.assert_close(y, _reference(x, 4), 1e-12)
    step, direction = 1e-6, cases.draw(seed=7)
    above, below = (
        np.sum(dy * _reference(x + s * direction, 4)) for s in (step, -step)
    )
    slope = (above - below) / (2 * step)
    assert np.sum(found["x"] * direction) == pytest.approx(slope, rel=1e-6)


def test_a_second_row_of_that_name_is_refused(name):
    row = catalog.Row(name, "", "", KERNEL)
    with pytest.raises(ValueError, match=f"choose another.*{name}"):
        catalog.register(row)


def test_a_row_without_a_kernel_is_refused():
    with pytest.raises(TypeError, match="kernel=None"):
        catalog.Row("nothing", "", "", None)


def test_networks_conversion_and_recalibration(name):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    new = evonorm_tf.convert(model, name)
    assert [x.row.name for x in new.layers if hasattr(x, "row")] == [name]
    x = cases.draw((4, 8, 8, 3)).astype(np.float32)
    assert np.isfinite(np.asarray(new(x))).all()
    small = evonorm_tf.create_model(
        "resnet8_cifar", name, num_classes=2, image_size=8
    )
    assert small(x).shape == (4, 2)


def test_export(name, tmp_path):
    inputs = keras.Input((8, 8, 8))
    layer = evonorm_tf.NormAct(name, 4)
    model = keras.Model(inputs, layer(inputs))
    x = cases.draw((4, 8, 8, 8)).astype(np.float32)
    with inference_form(model) as left:
        assert left == []
        cases.assert_close(layer(x), _reference(x.astype(float), 4), 1e-5)
    exported = evonorm_tf.export(model, tmp_path / "m.tflite", images=x)
    assert exported.left == ()


def test_preflight_lowers_its_step(name):
    layer = legacy.NormAct(name, 4)
    layer.build((2, 6, 5, 8))

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True))
        gradients = tape.gradient(loss, layer.trainable_variables)
        for weight, gradient in zip(layer.trainable_variables, gradients):
            weight.assign_sub(0.1 * gradient)
        return loss

    inputs = tf.TensorSpec((2, 6, 5, 8))
    if versions.release(tf.__version__) < versions.release(versions.STABLEHLO):
        with pytest.raises(ImportError, match=r"Preflight needs tensorflow 2"):
            preflight.lower(step, inputs)
        return
    module, _ = preflight.lower(step, inputs)
    assert "stablehlo" in module.text


def test_plots(name):
    pytest.importorskip("matplotlib")
    from evonorm_tf import plots

    assert plots.style(name).colour.startswith("#")
    assert set(plots.in_order([name, "evonorm_b0"])) == {name, "evonorm_b0"}
