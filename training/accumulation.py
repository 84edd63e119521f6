"""Gradient accumulation: one optimizer step from several micro-batches.

A replica's batch is split into k parts that pass through the network one after
another, and the optimizer gets the mean of their gradients. This needs the
memory of one part and, for layers without batch statistics, gives the step of
the whole batch. Batch statistics are those of a micro-batch, and moving
statistics are updated once per micro-batch. Steps and learning rates count
optimizer steps.
"""

from typing import Any

import tensorflow as tf
import tf_keras
from official.core import base_trainer, config_definitions

from training import compilation

Logs = dict[str, tf.Tensor]


class Trainer(base_trainer.Trainer):
    """The Model Garden's trainer, with accumulation and `runtime.compile`.

    It enters its strategy's scope, which swapping averaged weights requires.
    """

    def train(self, num_steps: tf.Tensor) -> Logs:
        """Runs a training loop."""
        with self.strategy.scope():
            return super().train(num_steps)

    def evaluate(self, num_steps: tf.Tensor) -> Logs:
        """Runs an evaluation."""
        with self.strategy.scope():
            return super().evaluate(num_steps)

    def train_step(self, iterator: Any) -> None:
        """Runs one step of the optimizer."""
        count = self.config.runtime.accumulation_steps
        kind = compilation.resolve(self.config, self.strategy)
        if count == 1 and kind != "step":
            super().train_step(iterator)
            return

        def step_fn(inputs):
            logs = step(
                self.task, inputs, self.model, self.optimizer,
                self.train_metrics, count, kind,
            )  # fmt: skip
            self._train_loss.update_state(logs[self.task.loss])
            self.global_step.assign_add(1)

        self.strategy.run(step_fn, args=(self.next_train_inputs(iterator),))


@tf.autograph.experimental.do_not_convert
def step(
    task: Any,
    inputs: Any,
    model: tf_keras.Model,
    optimizer: Any,
    metrics: Any,
    count: int,
    kind: str = "layers",
) -> Logs:
    """Runs one optimizer step of a Model Garden task, in `count` parts.

    Call it instead of the task's `train_step`. The parts are unrolled, because
    moving statistics cannot be merged across replicas inside a tf.while_loop.

    Args:
      task: its `train_step` is called with each part.
      inputs: tensors whose first axis, the batch, is divisible by `count`.
      model: the model to train.
      optimizer: applies the mean gradients.
      metrics: updated with every part.
      count: number of micro-batches.
      kind: what is compiled, as `compilation.resolve` says.

    Returns:
      The task's logs, the mean over the parts.
    """
    parts = _split(inputs, count)
    collected = [_Collector(optimizer, part, count) for part in range(count)]
    logs = [
        _take(task, part, model, each, metrics, kind)
        for part, each in zip(parts, collected)
    ]
    # Grouped by variable, in the order of the first part.
    grouped = zip(*(each.gradients for each in collected))
    means = [(_mean([g for g, _ in pairs]), pairs[0][1]) for pairs in grouped]
    optimizer.apply_gradients(means)
    return {name: _mean([each[name] for each in logs]) for name in logs[0]}


def check(optimizer: Any, runtime: config_definitions.RuntimeConfig) -> None:
    """Raises ValueError if gradients cannot be accumulated."""
    count = runtime.accumulation_steps
    scales = isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    if count > 1 and (scales or runtime.enable_xla):
        raise ValueError(
            "runtime.accumulation_steps cannot be combined with float16's loss "
            "scaling (use bfloat16) or with runtime.enable_xla. Received: "
            f"accumulation_steps={count}, mixed_precision_dtype="
            f"{runtime.mixed_precision_dtype!r}, "
            f"enable_xla={runtime.enable_xla}"
        )


def _take(
    task: Any,
    inputs: Any,
    model: tf_keras.Model,
    collector: "_Collector",
    metrics: Any,
    kind: str,
) -> Logs:
    """Forward and backward pass of a part; `collector` gets the gradients."""

    def passes(inputs):
        logs = task.train_step(
            inputs, model=model, optimizer=collector, metrics=metrics
        )
        return logs, [gradient for gradient, _ in collector.gradients]

    logs, gradients = compilation.compiled(passes, kind)(inputs)
    # Tensors of this graph, in the place of those of the compiled one.
    variables = [variable for _, variable in collector.gradients]
    collector.gradients = list(zip(gradients, variables, strict=True))
    return logs


class _Collector:
    """Takes the optimizer's place in one part and collects the gradients.

    Attributes:
      gradients: pairs of gradient and variable.
      iterations: counts parts instead of steps, so that random operations
        seeded by it, such as dropout, differ between parts.
    """

    def __init__(self, optimizer: Any, part: int, count: int):
        self.gradients: list[tuple[Any, tf.Variable]] = []
        self.iterations = optimizer.iterations * count + part

    def apply_gradients(self, pairs: Any) -> None:
        """Stores the gradients for the optimizer's step."""
        self.gradients = list(pairs)


def _mean(values: list[Any]) -> Any:
    if all(value is None for value in values):
        return None
    return tf.add_n([tf.convert_to_tensor(v) for v in values]) / len(values)


def _split(inputs: Any, count: int) -> list[Any]:
    flat = tf.nest.flatten(inputs)
    split = zip(*(tf.split(tensor, count) for tensor in flat))
    return [tf.nest.pack_sequence_as(inputs, part) for part in split]
