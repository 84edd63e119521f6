"""Gradient accumulation: one optimizer step from several micro-batches.

A replica's batch is split into k parts that pass through the network one after
another, and the optimizer gets the mean of their gradients. This needs the
memory of one part and, for layers without batch statistics and a loss that is
a mean over the images, gives the step of the whole batch. Batch statistics are
those of a micro-batch, and moving statistics are updated once per micro-batch.
So are the numbers of matched boxes and masks by which Mask R-CNN divides
losses. Steps and learning rates count optimizer steps.
"""

from typing import Any

import tensorflow as tf
import tf_keras
from official.core import base_trainer

from training import average, compilation

Logs = dict[str, tf.Tensor]


class Trainer(base_trainer.Trainer):
    """The Model Garden's trainer, with accumulation and `runtime.compile`.

    It enters its strategy's scope, which swapping averaged weights requires. A
    task whose losses exchange something between replicas names that in an
    attribute `exchange`.
    """

    @property
    def compilation(self) -> compilation.Choice:
        """Returns what XLA compiles."""
        return compilation.resolve(
            self.config.runtime, self.strategy, [self.model],
            getattr(self.task, "exchange", ""),
        )  # fmt: skip

    def initialize(self) -> None:
        """Loads `task.init_checkpoint` into a new run, if it is set."""
        super().initialize()
        # It was created with the initial weights, which are now replaced.
        if isinstance(self.optimizer, average.WeightAverage):
            self.optimizer.restart()

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
        kind = self.compilation.kind
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
    collector = _Collector(optimizer)

    def passes(part: Any, iterations: tf.Tensor) -> tuple[Logs, list[Any]]:
        collector.iterations = iterations
        logs = task.train_step(
            part, model=model, optimizer=collector, metrics=metrics
        )
        return logs, [gradient for gradient, _ in collector.gradients]

    run = compilation.compiled(passes, kind)
    # Counts parts instead of steps, so that random operations seeded by it,
    # such as dropout, differ between parts.
    first = optimizer.iterations * count
    logs, gradients = zip(
        *(run(part, first + k) for k, part in enumerate(_split(inputs, count)))
    )
    variables = [variable for _, variable in collector.gradients]
    means = [_mean(list(each)) for each in zip(*gradients, strict=True)]
    optimizer.apply_gradients(list(zip(means, variables, strict=True)))
    return {name: _mean([each[name] for each in logs]) for name in logs[0]}


class _Collector(tf_keras.mixed_precision.LossScaleOptimizer):
    """Takes the optimizer's place in a part and collects the gradients.

    A task scales its loss for an optimizer of this class, which does as the
    real one.

    Attributes:
      gradients: pairs of gradient and variable.
      iterations: counts parts.
    """

    iterations: tf.Tensor

    def __init__(self, optimizer: Any):
        self.gradients: list[tuple[Any, tf.Variable]] = []
        self._scaling = None
        if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
            self._scaling = optimizer

    def get_scaled_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales a loss if the optimizer does."""
        if self._scaling is None:
            return loss
        return self._scaling.get_scaled_loss(loss)

    def get_unscaled_gradients(self, gradients: list[Any]) -> list[Any]:
        """Reverses the scale of the loss."""
        if self._scaling is None:
            return gradients
        return self._scaling.get_unscaled_gradients(gradients)

    def apply_gradients(self, pairs: Any) -> None:
        """Stores the gradients for the optimizer's step."""
        self.gradients = list(pairs)


def _mean(values: list[Any]) -> Any:
    if all(value is None for value in values):
        return None
    if len(values) == 1:
        return values[0]
    return tf.add_n([tf.convert_to_tensor(v) for v in values]) / len(values)


def _split(inputs: Any, count: int) -> list[Any]:
    flat = tf.nest.flatten(inputs)
    split = zip(*(tf.split(tensor, count) for tensor in flat))
    return [tf.nest.pack_sequence_as(inputs, part) for part in split]
