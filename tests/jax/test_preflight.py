"""Keras's training step on JAX, compiled for a TPU that is not there."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from evonorm_tf import layers, preflight
from evonorm_tf.preflight import tpu

TOPOLOGY = "v5e:2x2"
GIB = 2**30
IMAGES = jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.float32)
LABELS = jax.ShapeDtypeStruct((8,), jnp.int32)


def _model(layer="evonorm_b0", compiled=True):
    model = keras.Sequential(
        [
            keras.layers.Conv2D(8, 3),
            layers.NormAct(layer, groups=4),
            keras.layers.Dropout(0.1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.1, 0.9)
        model.compile(optimizer, loss, metrics=["accuracy"])
    return model


@pytest.fixture
def compiler(monkeypatch):
    """A compiler whose memory is 1 GiB and 50 MiB per example."""
    seen = []

    def compile_text(text, topology):
        batch = int(text.split("tensor<")[1].split("x")[0])
        seen.append(batch)
        used = GIB + batch * 50 * 2**20
        if used > 15.75 * GIB:
            return {"fits": False, "message": "no room"}
        numbers = dict.fromkeys(tpu._FIGURES, 0.0)
        numbers["temporary_bytes"] = used
        return numbers | {"fits": True, "compile_seconds": 1.0}

    monkeypatch.setattr(tpu, "compile_text", compile_text)
    return seen


def test_module_is_the_step_of_fit():
    """Every variable is state, and a step of `fit` accepts the same model."""
    model = _model()
    module = preflight.keras_module(model, IMAGES, LABELS)
    assert [v.shape for v in module.inputs] == [(8, 8, 8, 3), (8,)]
    variables = [*model.variables, *model.optimizer.variables]
    variables += model.metrics_variables
    paths = [value.name for value in module.state]
    assert set(paths) == {v.path for v in variables}
    assert len(paths) == len(set(paths))
    assert "norm_act" in "".join(paths)
    assert len(module.outputs) == 2  # The loss and the accuracy.
    assert module.text.count("stablehlo.convolution") >= 2
    before = model.get_weights()
    images = np.ones(IMAGES.shape, np.float32)
    model.fit(images, np.zeros(8, np.int32), batch_size=8, verbose=0)
    changed = [
        not np.array_equal(a, b) for a, b in zip(before, model.get_weights())
    ]
    assert any(changed)


def test_equal_programs_have_equal_keys():
    first, second, other = (
        preflight.keras_module(_model(name), IMAGES, LABELS)
        for name in ("evonorm_b0", "evonorm_b0", "bn_relu")
    )
    assert first.key == second.key != other.key


def test_report_names_the_largest_batch(compiler):
    found = preflight.keras_report(_model(), IMAGES, LABELS, topology=TOPOLOGY)
    # (15.75 - 1) GiB / 50 MiB = 302.08, in steps of 8.
    assert 288 <= found["largest_batch"]["batch"] <= 296
    assert found["batch"] == compiler[0] == 8
    assert list(found["steps"]) == ["model"]
    text = preflight.as_text(found)
    assert "Largest batch per chip: " in text and "/ None" not in text


def test_the_tpu_compiler_takes_it(tmp_path, monkeypatch):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = preflight.keras_report(
        _model(), IMAGES, LABELS, topology=TOPOLOGY, largest=False
    )
    figures = found["steps"]["model"]
    assert figures["fits"] and "largest_batch" not in found
    # Two multiply-adds of [8, 6, 6, 8] x 27 at least: forward and weights.
    assert figures["flops"] > 2 * 2 * 8 * 36 * 8 * 27
    assert figures["bytes_accessed"] > 0
    assert figures["argument_bytes"] >= figures["state_bytes"]


def test_what_it_cannot_take_is_refused():
    with pytest.raises(TypeError, match="KERAS_BACKEND=jax"):
        preflight.keras_module(object(), IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"model\.compile"):
        preflight.keras_module(_model(compiled=False), IMAGES, LABELS)


def test_tensorflow_is_not_imported():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from evonorm_tf import preflight\n"
        "preflight.keras_report, preflight.compile_text, preflight.as_text\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
