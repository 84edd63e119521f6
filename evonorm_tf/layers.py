"""Norm-act layers for Keras 3 (`keras`, `tf.keras`).

    from evonorm_tf.layers import NormAct
    x = NormAct("evonorm_s0")(x)      # instead of BatchNormalization + ReLU

`evonorm_tf.legacy` has the same names for tf_keras.
"""

import functools
import os
from typing import Any

_BACKEND = (
    "evonorm_tf computes with TensorFlow: set KERAS_BACKEND=tensorflow, or "
    "unset it, before Keras is imported. Received: KERAS_BACKEND={!r}"
)
# Before the import: Keras would fail first, on a backend that is not there.
if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(_BACKEND.format(os.environ["KERAS_BACKEND"]))

import keras  # noqa: E402

from evonorm_tf.mixin import NormActMixin  # noqa: E402

if keras.backend.backend() != "tensorflow":  # from keras.json
    raise ImportError(_BACKEND.format(keras.backend.backend()))


@keras.saving.register_keras_serializable(package="evonorm_tf")
class NormAct(NormActMixin, keras.layers.Layer):
    __doc__ = NormActMixin.__doc__

    _foreign = "tf_keras"
    _remedy = "In tf_keras models use evonorm_tf.legacy."
    _initializers = keras.initializers

    def _weight(self, name, channels, initializer, trainable=True):
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=initializer,
            trainable=trainable,
            # float16 would overflow and bfloat16 stall a moving average.
            dtype=self._weight_dtype(),
            # Statistics and affine are float32 in mixed precision.
            autocast=False,
            # All replicas hold one value: the mean of what each would write.
            aggregation="none" if trainable else "mean",
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
