"""What XLA compiles of a training step: `runtime.compile`.

    step    the forward and backward pass as one program, of a run on one
            device; the optimizer's step is outside of it
    layers  each norm-act layer by itself
    off     nothing
    auto    "step" on one GPU, where launching the small kernels of a step one
            by one takes long; "layers" elsewhere

A TPU compiles whole steps, whatever is chosen.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

import evonorm_tf
from training import config

CHOICES = ("auto", "step", "layers", "off")
_WORDS = {
    "step": "XLA compiles forward and backward pass as one",
    "layers": "XLA compiles the norm-act layers",
    "off": "XLA compiles nothing",
}


def resolve(params: config.Experiment, devices: tf.distribute.Strategy) -> str:
    """Decides what is compiled.

    Args:
      params: the experiment.
      devices: what it runs on.

    Returns:
      "step", "layers" or "off".

    Raises:
      ValueError: an unknown choice, or a step that cannot be compiled.
    """
    chosen = params.runtime.compile
    if chosen not in CHOICES:
        raise ValueError(
            f"runtime.compile must be one of {CHOICES}. "
            f"Received: compile={chosen!r}"
        )
    hindrance = _hindrance(params, devices)
    if chosen == "step" and hindrance:
        raise ValueError(
            f"runtime.compile=step cannot be used: {hindrance}. Use "
            "runtime.compile=layers, or auto, which then does the same."
        )
    if chosen == "auto":
        return "step" if _has_gpu(devices) and not hindrance else "layers"
    return chosen


def _has_gpu(devices: tf.distribute.Strategy) -> bool:
    """Whether a replica runs on a GPU."""
    if devices is tf.distribute.get_strategy() and not (
        tf.distribute.has_strategy()
    ):
        # The default strategy names no devices: it uses a GPU if there is one.
        return bool(tf.config.list_logical_devices("GPU"))
    return any("GPU" in name for name in devices.extended.worker_devices)


def _hindrance(
    params: config.Experiment, devices: tf.distribute.Strategy
) -> str:
    """Why forward and backward pass cannot be one program; or empty."""
    if params.runtime.mixed_precision_dtype in ("float16", "mixed_float16"):
        return "float16's loss scaling belongs to the optimizer; use bfloat16"
    if devices.num_replicas_in_sync > 1:
        return "several replicas merge their moving statistics within the step"
    return ""


def describe(params: config.Experiment, devices: tf.distribute.Strategy) -> str:
    """Says what is compiled; arguments and errors as of `resolve`."""
    kind = resolve(params, devices)
    if isinstance(devices, tf.distribute.TPUStrategy):
        return "the TPU's compiler compiles the step"
    return _WORDS[kind]


def using(kind: str) -> contextlib.AbstractContextManager:
    """The context in which a run of a resolved kind is built and traced."""
    if kind == "off":
        return evonorm_tf.using(xla=False)
    return contextlib.nullcontext()


def compiled(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A function of tensors to tensors, one program if `kind` is "step"."""
    if kind != "step":
        return function
    return tf.function(function, jit_compile=True, autograph=False)
