"""What XLA compiles of a training step: `runtime.compile`.

    step    the forward and backward pass of a replica as one program; the
            reduction of gradients and the optimizer's step are outside of it
    layers  each norm-act layer by itself
    off     nothing
    auto    "step" on GPUs, where launching the small kernels of a step one by
            one takes long, unless several replicas exchange anything in them,
            such as synchronized batch statistics; "layers" elsewhere

A TPU compiles whole steps, whatever is chosen.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
import tf_keras

import evonorm_tf
from evonorm_tf import legacy
from evonorm_tf.ops import tensorflow as backend
from training import strategy

CHOICES = ("auto", "step", "layers", "off")
_WORDS = {
    "step": "XLA compiles forward and backward pass as one",
    "layers": "XLA compiles the norm-act layers",
    "off": "XLA compiles nothing",
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is compiled.

    Attributes:
      kind: "step", "layers" or "off".
      text: says so, and why "auto" does not compile the step of GPUs.
    """

    kind: str
    text: str


def resolve(
    runtime: strategy.Runtime,
    devices: tf.distribute.Strategy,
    models: Iterable[tf_keras.Model],
    exchange: str = "",
) -> Choice:
    """Decides what is compiled.

    Args:
      runtime: the experiment's runtime config.
      devices: what it runs on.
      models: what it trains.
      exchange: what replicas exchange within a step, besides the statistics of
        layers; empty for nothing.

    Raises:
      ValueError: an unknown choice, or a step that cannot be compiled.
    """
    chosen = _checked(runtime)
    if isinstance(devices, tf.distribute.TPUStrategy):
        kind = "off" if chosen == "off" else "layers"
        return Choice(kind, "the TPU's compiler compiles the step")
    if chosen in ("layers", "off"):
        return Choice(chosen, _WORDS[chosen])
    hindrance = ""
    if devices.num_replicas_in_sync > 1:
        hindrance = _pooled(models) or exchange
    if chosen == "step" and hindrance:
        raise ValueError(
            "runtime.compile=step needs a step in which replicas exchange "
            f"nothing but gradients, but {hindrance}. Use one replica, or "
            "runtime.compile=layers, or layers that are not synchronized. "
            f"Received: compile='step', replicas={devices.num_replicas_in_sync}"
        )
    if chosen == "auto" and not _has_gpu(devices):
        return Choice("layers", _WORDS["layers"])
    if hindrance:
        return Choice("layers", f"{_WORDS['layers']} only, as {hindrance}")
    return Choice("step", _WORDS["step"])


def _checked(runtime: strategy.Runtime) -> str:
    if runtime.compile not in CHOICES:
        raise ValueError(
            f"runtime.compile must be one of {CHOICES}. "
            f"Received: compile={runtime.compile!r}"
        )
    if runtime.enable_xla:
        raise ValueError(
            "The Model Garden's runtime.enable_xla is not supported; use "
            "runtime.compile=step. Received: enable_xla=True"
        )
    return runtime.compile


def _has_gpu(devices: tf.distribute.Strategy) -> bool:
    """Whether a replica runs on a GPU."""
    if devices is tf.distribute.get_strategy() and not (
        tf.distribute.has_strategy()
    ):
        # The default strategy names no devices: it uses a GPU if there is one.
        return bool(tf.config.list_logical_devices("GPU"))
    return any("GPU" in name for name in devices.extended.worker_devices)


def _pooled(models: Iterable[tf_keras.Model]) -> str:
    """Says which layer pools statistics over the replicas; empty for none."""
    for model in models:
        for layer in model._flatten_layers():
            if isinstance(layer, legacy.NormAct):
                pools = layer.pools_replicas
            else:  # Keras's BatchNormalization has the attribute.
                pools = getattr(layer, "synchronized", False)
            if pools:
                return (
                    f"layer {layer.name!r} is synchronized: it pools its batch "
                    "statistics over them"
                )
    return ""


def using(runtime: strategy.Runtime) -> contextlib.AbstractContextManager:
    """The context in which a run is built and traced; rejects as `resolve`."""
    if _checked(runtime) == "off":
        return evonorm_tf.using(xla=False)
    return contextlib.nullcontext()


def compiled(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A function of tensors to tensors, one program if `kind` is "step".

    A replica's program exchanges nothing with others: it returns the new values
    of moving statistics, and they are assigned, merged over the replicas,
    after it.
    """
    if kind != "step":
        return function
    written: list[tf.Variable] = []  # The same in every trace.

    def traced(*arguments: Any) -> tuple[Any, list[tf.Tensor]]:
        nonlocal written
        with backend.deferred_writes() as writes:
            result = function(*arguments)
        written = [variable for variable, _ in writes.values()]
        return result, [value for _, value in writes.values()]

    program = tf.function(traced, jit_compile=True, autograph=False)

    def run(*arguments: Any) -> Any:
        result, values = program(*arguments)
        for variable, value in zip(written, values, strict=True):
            variable.assign(value)
        return result

    return run
