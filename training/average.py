"""An average of the weights over training, evaluated instead of the weights.

The Model Garden's, with two changes. Its average starts at zero, so that an
early evaluation sees a shrunk model; here it starts at the weights, as
TensorFlow 1's did, with which the recipes were made. And it swaps average
and weights by adding and subtracting, which rounds: an evaluation would
change the training after it. Here they are exchanged.

With `trainable_weights_only` false the moving statistics are averaged too,
as in the authors' code of MnasNet and EfficientNet: averaged weights with
the raw statistics of the last steps do not belong together.
"""

from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import optimization


class WeightAverage(optimization.ExponentialMovingAverage):
    """Wraps an optimizer; the Model Garden's trainer evaluates the average.

    A checkpoint holds the weights as the model's and the average as slots of
    the optimizer; one exported during an evaluation (the best) has the
    average as the model's.
    """

    def shadow_copy(self, model: tf_keras.Model) -> None:
        """Makes the averages of `model`'s weights, equal to them."""
        super().shadow_copy(model)
        extended = tf.distribute.get_strategy().extended
        for average, weight in self._pairs():
            extended.update(average, _assign, args=(weight,))

    def swap_weights(self) -> None:
        """Exchanges weights and averages; a second time: back, bit for bit.

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
    """`optimizer` with an average of the weights.

    Args:
      optimizer: a tf_keras legacy optimizer.
      settings: the Model Garden's `optimizer_config.ema`.

    Raises:
      ValueError: the optimizer scales its loss (float16): the Model Garden's
        trainer would neither make the average nor evaluate it.
    """
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
        raise ValueError(
            "A weight average (trainer.optimizer_config.ema) does not go with "
            "float16's loss scaling. Use runtime.mixed_precision_dtype="
            "bfloat16, or ema=null."
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
    """Before a Model Garden task: its optimizer, inside our average."""

    @classmethod
    def create_optimizer(
        cls,
        optimizer_config: Any,
        runtime_config: Any = None,
        dp_config: Any = None,
    ) -> Any:
        """The Model Garden's optimizer, inside our average if there is one."""
        ema = optimizer_config.ema
        if ema is not None:
            optimizer_config = optimizer_config.replace(ema=None)
        optimizer = super().create_optimizer(
            optimizer_config, runtime_config, dp_config
        )
        return optimizer if ema is None else wrap(optimizer, ema)
