"""What `runtime.compile` chooses, and what it refuses."""

import types

import pytest
import tensorflow as tf

from evonorm_tf.ops import settings
from training import compilation, strategy

CPU = tf.distribute.OneDeviceStrategy("CPU:0")


def _devices(*names):
    """A stand-in for a strategy over accelerators."""
    extended = types.SimpleNamespace(worker_devices=names)
    return types.SimpleNamespace(
        extended=extended, num_replicas_in_sync=len(names)
    )


GPU, GPUS = _devices("/GPU:0"), _devices("/GPU:0", "/GPU:1")


def _params(compile="auto", dtype="float32"):
    return types.SimpleNamespace(
        runtime=strategy.Runtime(compile=compile, mixed_precision_dtype=dtype)
    )


@pytest.mark.parametrize(
    ("params", "devices", "kind"),
    [
        (_params(), CPU, "layers"),
        (_params(), GPU, "step"),
        (_params(), GPUS, "layers"),
        (_params(dtype="bfloat16"), GPU, "step"),
        (_params(dtype="float16"), GPU, "layers"),
        (_params("step"), CPU, "step"),
        (_params("off"), GPU, "off"),
    ],
)
def test_choice(params, devices, kind):
    assert compilation.resolve(params, devices) == kind
    assert compilation.describe(params, devices).startswith("XLA compiles")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (_params("all"), "compile='all'"),
        (_params("step", dtype="float16"), "use bfloat16"),
        (_params("step"), "several replicas"),
    ],
)
def test_refused(params, message):
    with pytest.raises(ValueError, match=message):
        compilation.resolve(params, GPUS)


def test_off_compiles_no_layer():
    with compilation.using("off"):
        assert settings.get().xla is False
    with compilation.using("layers"):
        assert settings.get().xla == "auto"
