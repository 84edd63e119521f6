"""Models on JAX: trained, saved, and read from files of TensorFlow."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import evonorm_tf
from evonorm_tf import layers
from tests import cases, reference

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def _keywords(case):
    return {"groups": 4} if case.grouped else {}


def _every_row():
    """A model with one output per catalog entry, filled with weights."""
    inputs = keras.Input((None, None, 8))
    outputs = []
    for case in cases.CASES:
        layer = layers.NormAct(case.name, name=case.name, **_keywords(case))
        outputs.append(layer(inputs))
        for name, value in cases.weights_of(case).items():
            getattr(layer, name).assign(value.astype(np.float32))
    return keras.Model(inputs, outputs)


def _assert_right(model):
    x = cases.draw()
    outputs = model(x.astype(np.float32), training=False)
    for case, y in zip(cases.CASES, outputs, strict=True):
        weights, moving = cases.split(cases.weights_of(case))
        wanted = reference.forward(
            case.name, x, weights, moving=moving, **_keywords(case)
        )
        cases.assert_close(np.asarray(y, np.float64), wanted, 1e-5, case.name)


# Keras's initializers are compiled for every shape, in 15 s for a ResNet-8.
_FAST = "--xla_backend_optimization_level=0"


def _python(code, backend):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": _FAST},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_file_goes_from_jax_to_tensorflow_and_back(tmp_path):
    model = _every_row()
    here, there = str(tmp_path / "jax.keras"), str(tmp_path / "tf.keras")
    model.save(here)
    code = f"""
import keras
from tests.jax import test_models
model = keras.models.load_model({here!r})
test_models._assert_right(model)
test_models._every_row().save({there!r})
assert keras.backend.backend() == "tensorflow"
"""
    _python(code, "tensorflow")
    _assert_right(keras.models.load_model(here))
    _assert_right(keras.models.load_model(there))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_equals_two_steps_by_hand(jit_compile):
    x, target = cases.draw(), cases.draw(seed=5)
    chosen = cases.KERNELS
    inputs = keras.Input((6, 5, 8))
    made = {
        case.name: layers.NormAct(case.name, **_keywords(case))
        for case in chosen
    }
    model = keras.Model(inputs, [layer(inputs) for layer in made.values()])
    for case in chosen:
        for name, value in cases.weights_of(case).items():
            getattr(made[case.name], name).assign(value.astype(np.float32))
    model.compile(
        keras.optimizers.SGD(0.1),
        ["mse"] * len(made),
        jit_compile=jit_compile,
    )
    batch = x.astype(np.float32), [target.astype(np.float32)] * len(made)
    model.fit(*batch, batch_size=4, epochs=1, verbose=0)
    for case in chosen:
        weights, moving = cases.split(cases.weights_of(case))
        y = reference.forward(case.name, x, weights, **_keywords(case))
        slope = 2.0 * (y - target) / y.size  # of the mean squared error
        found = cases.plain_gradients(
            case.name, x, weights, slope, **_keywords(case)
        )
        wanted = {k: w - 0.1 * found[k] for k, w in weights.items()}
        fresh = reference.batch_statistics(case.name, x)
        wanted |= {k: reference.moved(m, fresh[k]) for k, m in moving.items()}
        for name, value in wanted.items():
            got = np.asarray(getattr(made[case.name], name), np.float64)
            cases.assert_close(got, value, 1e-5, f"{case.name}.{name}")


@pytest.mark.slow  # Steps of `fit` are above, that of a network below.
def test_a_network_trains():
    keras.utils.set_random_seed(0)
    model = evonorm_tf.create_model(
        "resnet8_cifar", "evonorm_b0", num_classes=10, image_size=16
    )
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 2
    images = rng.normal(size=(16, 16, 16, 3)) + labels[:, None, None, None]
    model.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    found = model.fit(
        images.astype(np.float32), labels, batch_size=16, epochs=8, verbose=0
    )
    losses = found.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


def test_convert_and_recalibrate():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    new = evonorm_tf.convert(model, "evonorm_b0")
    (layer,) = [x for x in new.layers if isinstance(x, layers.NormAct)]
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    evonorm_tf.recalibrate(new, [images.astype(np.float32)])
    moved = np.asarray(layer.moving_variance)
    assert not np.allclose(moved, 1.0)
    hidden = keras.Model(new.input, layer.input)(images.astype(np.float32))
    variance = np.asarray(hidden).var((0, 1, 2))
    np.testing.assert_allclose(moved, variance, rtol=1e-4)


def test_without_tensorflow(tmp_path):
    """TensorFlow is made impossible to import."""
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["tf_keras"] = None
import keras, numpy as np, evonorm_tf
x = np.ones([4, 8, 8, 3], np.float32)
network = evonorm_tf.create_model(
    "resnet8_cifar", "evonorm_s0", num_classes=2, image_size=8)
assert network.output_shape == (None, 2)
model = keras.Sequential([keras.Input((8, 8, 3)),
    evonorm_tf.EvoNormS0(groups=1), keras.layers.Flatten(),
    keras.layers.Dense(2)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
model.fit(x, np.zeros(4), verbose=0)
model.save({str(tmp_path / "m.keras")!r})
again = keras.models.load_model({str(tmp_path / "m.keras")!r})
np.testing.assert_allclose(model(x), again(x), rtol=1e-5)
bn = keras.Sequential([keras.Input((8, 8, 3)),
    keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(),
    keras.layers.ReLU()])
new = evonorm_tf.convert(bn, "evonorm_b0")
evonorm_tf.recalibrate(new, [x])
print(len(evonorm_tf.names()))
"""
    assert int(_python(code, "jax")) == len(evonorm_tf.names())


def test_pytorch_is_refused():
    with pytest.raises(AssertionError, match="KERAS_BACKEND='torch'"):
        _python("import evonorm_tf.layers", "torch")
