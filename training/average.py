"""An average of the weights over training, used for evaluation.

This changes the Model Garden's average in two ways. That average starts at
zero, which makes early evaluations useless; here it starts at the weights, as
in TensorFlow 1, for which the recipes were tuned. It also swaps average and
weights by adding and subtracting, whose rounding errors would change the
training after an evaluation; here they are exchanged.

If `trainable_weights_only` is false, moving statistics are averaged too, as in
the authors' code of MnasNet and EfficientNet, because averaged weights do not
match the statistics of the last steps.
"""

from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import optimization


class WeightAverage(optimization.ExponentialMovingAverage):
    """Wraps an optimizer; the Model Garden's trainer evaluates the average.

    A checkpoint has the weights in the model and the average in slots of the
    optimizer. A checkpoint exported during an evaluation (the best one) has the
    average in the model.
    """

    def shadow_copy(self, model: tf_keras.Model) -> None:
        """Creates the averages of `model`'s weights, equal to them."""
        super().shadow_copy(model)
        self.restart()

    def restart(self) -> None:
        """Sets the averages to the weights, as before the first step."""
        extended = tf.distribute.get_strategy().extended
        for average, weight in self._pairs():
            extended.update(average, _assign, args=(weight,))

    def swap_weights(self) -> None:
        """Exchanges weights and averages; calling it twice is exact.

        Raises:
          ValueError: inside a replica.
        """
        if not tf.distribute.in_cross_replica_context():
            raise ValueError(
                "Weights are exchanged for all replicas at once, outside of "
                "strategy.run."
            )
        self._exchange()

    @tf.function
    def _exchange(self) -> None:
        extended = tf.distribute.get_strategy().extended
        for average, weight in self._pairs():
            extended.update(weight, _swap, args=(average,))

    def _pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        return list(
            zip(self._average_weights, self._model_weights, strict=True)
        )


def wrap(
    optimizer: Any, settings: optimization.EMAConfig
) -> tf_keras.optimizers.legacy.Optimizer:
    """Wraps `optimizer` with an average of the weights.

    Args:
      optimizer: a tf_keras legacy optimizer.
      settings: the Model Garden's `optimizer_config.ema`.

    Raises:
      ValueError: if the optimizer scales its loss (float16), because the Model
        Garden's trainer would then not average or evaluate.
    """
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
        raise ValueError(
            "A weight average (trainer.optimizer_config.ema) cannot be "
            "combined with float16's loss scaling. Use "
            "runtime.mixed_precision_dtype=bfloat16, or ema=null."
        )
    given = {k: v for k, v in settings.as_dict().items() if v is not None}
    return WeightAverage(optimizer, **given)


def _assign(variable: tf.Variable, value: tf.Variable) -> None:
    variable.assign(value)


def _swap(variable: tf.Variable, other: tf.Variable) -> None:
    held = tf.identity(variable)
    variable.assign(other)
    other.assign(held)


class Averaging:
    """Mixin for a Model Garden task: wraps its optimizer with the average."""

    @classmethod
    def create_optimizer(
        cls,
        optimizer_config: Any,
        runtime_config: Any = None,
        dp_config: Any = None,
    ) -> Any:
        """Returns the Model Garden's optimizer, with the average if set."""
        ema = optimizer_config.ema
        if ema is not None:
            optimizer_config = optimizer_config.replace(ema=None)
        optimizer = super().create_optimizer(
            optimizer_config, runtime_config, dp_config
        )
        return optimizer if ema is None else wrap(optimizer, ema)
