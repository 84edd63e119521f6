"""Norm-act layers for tf_keras.

    from evonorm_tf.legacy import NormAct
    x = NormAct("evonorm_s0")(x)      # instead of BatchNormalization + ReLU

`evonorm_tf.layers` has the same names for Keras 3.
"""

import functools
from typing import Any

import tensorflow as tf

try:
    import tf_keras
except ImportError as error:
    raise ImportError(
        "evonorm_tf.legacy is for tf_keras models and needs tf_keras: "
        "pip install tf_keras==2.20.1. For Keras 3 use evonorm_tf.layers."
    ) from error

from evonorm_tf.mixin import NormActMixin


@tf_keras.saving.register_keras_serializable(package="evonorm_tf")
class NormAct(NormActMixin, tf_keras.layers.Layer):
    __doc__ = NormActMixin.__doc__

    _foreign = "keras"
    _remedy = "In Keras 3 models use evonorm_tf.layers."
    _initializers = tf_keras.initializers

    def _weight(self, name, channels, initializer, trainable=True):
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=initializer,
            trainable=trainable,
            # float16 would overflow and bfloat16 stall a moving average.
            dtype=self._weight_dtype(),
            # Statistics and affine are float32 in mixed precision.
            experimental_autocast=False,
            # All replicas hold one value: the mean of what each would write.
            aggregation=tf.VariableAggregation.NONE
            if trainable
            else tf.VariableAggregation.MEAN,
        )


def norm_act(
    name_or_row: Any, groups: int | None = None, **options: Any
) -> NormAct:
    """A `NormAct` layer; bind it once a model and hand it down.

        na = functools.partial(norm_act, "evonorm_s0", groups=8)
        x = na()(x)
        x = na(activation=False)(x)

    Args:
      name_or_row: as all arguments, see `NormAct`.
      groups: see `NormAct`.
      **options: other keywords of `NormAct`; an unknown one raises TypeError.
    """
    return NormAct(name_or_row, groups, **options)


EvoNormB0 = functools.partial(norm_act, "evonorm_b0")
EvoNormB1 = functools.partial(norm_act, "evonorm_b1")
EvoNormB2 = functools.partial(norm_act, "evonorm_b2")
EvoNormS0 = functools.partial(norm_act, "evonorm_s0")
EvoNormS1 = functools.partial(norm_act, "evonorm_s1")
EvoNormS2 = functools.partial(norm_act, "evonorm_s2")
