"""The training step of a Keras 3 model on JAX; imports no TensorFlow.

The step of Keras's `fit` is lowered for a TPU from shapes alone: no batch is
allocated and nothing is executed.
"""

from collections.abc import Callable
from typing import Any

import jax

from evonorm_tf.ops import settings
from evonorm_tf.preflight import report
from evonorm_tf.preflight.module import Module, Value

_MODEL = "model"


def keras_module(model: Any, *data: Any) -> Module:
    """Lowers one step of `model.fit` to StableHLO for a TPU.

    Args:
      model: a compiled Keras 3 model on JAX.
      *data: the x, y and sample_weight of `fit`: each an array, a
        `jax.ShapeDtypeStruct`, or a structure of them, [N, ...].

    Returns:
      The module.

    Raises:
      TypeError: if it is not a Keras 3 model on JAX.
      ValueError: if the model is not compiled or the step cannot be lowered
        for a TPU.
    """
    _check(model)
    data = jax.tree.map(
        lambda t: jax.ShapeDtypeStruct(t.shape, t.dtype), tuple(data)
    )
    model._symbolic_build(data_batch=data)  # As `fit` does.
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple(
        [jax.ShapeDtypeStruct(v.shape, v.value.dtype) for v in variables]
        for variables in groups
    )

    def step(data, state):
        return model.train_step(state, data)

    # The step is traced for another device: see lowering.lower.
    with settings.using(reduction="sum", moments="one_pass"):
        compiled = jax.jit(step, donate_argnums=1, keep_unused=True)
        traced = compiled.trace(data, state)
    lowered = traced.lower(lowering_platforms=("tpu",))
    logs, _ = lowered.out_info
    names = [v.path for variables in groups for v in variables]
    return Module(
        lowered.as_text(),
        _values(data, "input"),
        tuple(
            Value(name, tuple(t.shape), t.dtype.name)
            for name, t in zip(names, jax.tree.leaves(state), strict=True)
        ),
        _values(logs, "output"),
        tuple(range(len(names))),
    )


def keras_report(
    model: Any,
    *data: Any,
    topology: str,
    largest: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Compiles the step of a Keras 3 model on JAX for a TPU and reports it.

    Example:
        ```python
        report = preflight.keras_report(model, images, labels,
                                        topology="v5e:2x2")
        print(preflight.as_text(report))
        ```

    Args:
      model: see `keras_module`.
      *data: see `keras_module`; N is the batch of one chip.
      topology: as libtpu names it, "v5e:2x2".
      largest: whether to find the largest batch that fits.
      say: called with progress messages; a large network compiles for
        minutes.

    Returns:
      A JSON object, which `as_text` formats as a table. "steps" and "model"
      have the figures of `compile_text`; with `largest`, "largest_batch" is
      included.

    Raises:
      TypeError, ValueError: see `keras_module`; the topology is unknown.
      CompilerError: if the compiler rejects the step.
    """
    batch = jax.tree.leaves(data)[0].shape[0]

    def build(_: str | None, batch: int) -> Module:
        def resize(t):
            return jax.ShapeDtypeStruct((batch, *t.shape[1:]), t.dtype)

        return keras_module(model, *jax.tree.map(resize, data))

    request = report.Request(
        build, _MODEL, batch, topology, baseline=None, largest=largest
    )
    return report.run(request, say)


def _check(model: Any) -> None:
    jax_trainer = any(
        kind.__module__.startswith("keras.src.backend.jax")
        for kind in type(model).__mro__
    )
    if not jax_trainer:
        raise TypeError(
            "Expected a Keras 3 model on JAX (KERAS_BACKEND=jax). For a "
            "tf_keras model use preflight.keras_step and preflight.lower. "
            f"Received: model={type(model).__name__}"
        )
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            "A training step needs an optimizer: call model.compile first. "
            f"Received: model={model.name!r}, optimizer=None"
        )


def _values(tree: Any, kind: str) -> tuple[Value, ...]:
    return tuple(
        Value(f"{kind}_{i}", tuple(t.shape), t.dtype.name)
        for i, t in enumerate(jax.tree.leaves(tree))
    )
