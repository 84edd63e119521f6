"""Predicts whether a training step compiles and fits on a TPU, without a TPU.

    module.py     a training step as StableHLO
    keras_jax.py  the step of a compiled Keras 3 model on JAX
    steps.py      the step of a compiled tf_keras model, as a function
    lowering.py   lowers a TensorFlow function to StableHLO
    tpu.py        compiles StableHLO with libtpu, in a separate process
    report.py     compares layer, baseline and neither; finds the largest batch

On JAX, where TensorFlow need not be installed:

    report = preflight.keras_report(model, images, labels, topology="v5e:2x2")

On TensorFlow, a head builds its step and calls this package, never the
reverse:

    step = preflight.keras_step(model)
    module, _ = preflight.lower(step, images, labels)
    preflight.compile_text(module.text, "v5e:2x2")
"""

import importlib
from typing import Any

# Imported on first use: one half needs JAX, the other TensorFlow.
_EXPORTS = {
    "CompilerError": "tpu",
    "Module": "module",
    "Request": "report",
    "Value": "module",
    "as_text": "report",
    "compile_text": "tpu",
    "keras_module": "keras_jax",
    "keras_report": "keras_jax",
    "keras_step": "steps",
    "lower": "lowering",
    "run": "report",
}
_MODULES = ("keras_jax", "lowering", "module", "report", "steps", "tpu")

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module = importlib.import_module(f"{__name__}.{_EXPORTS[name]}")
        return getattr(module, name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS, *_MODULES])
