"""What a user does with the installed wheel, in one Keras.

    python -m tests.versions.smoke keras|tf_keras|jax [--extras]

Prints one line per step; the exit status is 1 if one failed. Runs outside the
checkout, in an environment with the wheel, TensorFlow and that Keras alone,
or with the extras search, export and tpu as well. "jax" is Keras 3 on JAX,
without TensorFlow.
"""

import atexit
import importlib
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import traceback

import numpy as np

import evonorm_tf
from evonorm_tf import doctor

EVONORMS = [f"evonorm_{name}" for name in ("b0", "b1", "b2", "s0", "s1", "s2")]
# What the extras bring; a module that needs one may say so.
EXTRAS = {"jax", "matplotlib", "ray", "rich", "safetensors", "yaml"}
# What a module may need of the other backend.
OTHERS = {"jax": {"tensorflow", "tf_keras", "grpc"}}
FOLDER = pathlib.Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, FOLDER)
IMAGES = np.random.default_rng(0).normal(size=[8, 8, 8, 3]).astype("float32")
LABELS = np.arange(8) % 3


def _model(keras, layers, **options):
    """A network of all six EvoNorms."""
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for name in EVONORMS:
        model.add(keras.layers.Conv2D(8, 3, use_bias=False))
        model.add(layers.NormAct(name, groups=2, **options))
        model.add(keras.layers.ZeroPadding2D())
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(3, "softmax", dtype="float32"))
    return model


def _fit(model):
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, batch_size=4, epochs=1, verbose=0)
    outputs = model.predict(IMAGES, verbose=0)
    assert np.isfinite(outputs).all()
    return outputs


def modules(keras, layers):
    """Every module is imported, or names the missing extra."""
    for found in pkgutil.walk_packages(evonorm_tf.__path__, "evonorm_tf."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            allowed = EXTRAS | OTHERS.get(keras.backend.backend(), set())
            assert error.name.split(".")[0] in allowed, error


def fit_and_reload(keras, layers):
    model = _model(keras, layers)
    outputs = _fit(model)
    model.save(FOLDER / "model.keras")
    loaded = keras.models.load_model(FOLDER / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), outputs, rtol=1e-5, atol=1e-6
    )
    _fit(loaded)


def without_xla(keras, layers):
    _fit(_model(keras, layers, xla=False))


def mixed_precision(keras, layers):
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            # Compiled once is enough.
            xla = "auto" if policy == "mixed_bfloat16" else False
            model = _model(keras, layers, xla=xla)
            _fit(model)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        kinds = {str(w.dtype) for w in model.get_weights()}
        assert kinds == {"float32"}, kinds


def convert(keras, layers):
    model = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=3)
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    assert "evonorm_s0" in str(report)
    outputs = new.predict(np.ones([2, 32, 32, 3]), verbose=0)
    assert np.isfinite(outputs).all()


def create_model(keras, layers):
    legacy = keras.__name__ == "tf_keras"
    model = evonorm_tf.create_model(
        "resnet50", "evonorm_s0", 3, image_size=32, max_depth=1, legacy=legacy
    )
    assert model.predict(np.ones([2, 32, 32, 3]), verbose=0).shape == (2, 3)


def export(keras, layers):
    """Written files are compared with the model by `export` itself."""
    model = _model(keras, layers)
    _fit(model)
    for path in ("model.tflite", "saved"):
        evonorm_tf.export(model, FOLDER / path)


def no_conflict(keras, layers):
    conflicts = doctor.examine(doctor.look())
    assert not conflicts, conflicts


def onnx(keras, layers):
    evonorm_tf.export(_model(keras, layers), FOLDER / "model.onnx")


def search(keras, layers):
    """Two trials of a config of the package, and their report."""
    output = f"--output={FOLDER / 'search'}"
    settings = {
        **{"dataset": "digits", "image_size": 0, "validation": 300},
        **{"anchors": "[mobilenet]", "trials": 2, "workers": 1},
        **{"quality": 0.0, "quality_steps": 10, "fitness_steps": 10},
        "stability_steps": 2,
    }
    flags = [f"--set={name}={value}" for name, value in settings.items()]
    for command in (["--config=small", *flags], ["report"]):
        subprocess.run(
            [sys.executable, "-m", "evonorm_tf.search", *command, output],
            check=True,
        )


def preflight(keras, layers):
    """A training step through the TPU's compiler."""
    import tensorflow as tf

    from evonorm_tf import preflight

    model = _model(keras, layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    module, _ = preflight.lower(
        preflight.keras_step(model),
        tf.TensorSpec([8, 8, 8, 3], tf.float32),
        tf.TensorSpec([8], tf.int32),
    )
    assert preflight.compile_text(module.text, "v5e:2x2")["fits"]


STEPS = (
    *(modules, fit_and_reload, without_xla, mixed_precision),
    *(convert, create_model, export, no_conflict),
)
# Export is TensorFlow's.
JAX_STEPS = tuple(step for step in STEPS if step is not export)
# The last two are tf_keras's.
EXTRA_STEPS = {"keras": (onnx,), "tf_keras": (onnx, search, preflight)}


def main(name: str, *flags: str) -> int:
    """Runs all steps; 1 if one failed."""
    if name == "jax":
        os.environ["KERAS_BACKEND"] = "jax"
    keras = importlib.import_module("keras" if name == "jax" else name)
    ours = "legacy" if name == "tf_keras" else "layers"
    layers = importlib.import_module(f"evonorm_tf.{ours}")
    failed = 0
    extras = EXTRA_STEPS[name] if "--extras" in flags else ()
    for step in JAX_STEPS if name == "jax" else (*STEPS, *extras):
        try:
            step(keras, layers)
            print(f"{step.__name__}: passed", flush=True)
        except Exception:
            print(f"{step.__name__}: FAILED", flush=True)
            traceback.print_exc()
            failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
