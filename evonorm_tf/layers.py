"""Norm-act layers for Keras 3 (`keras`, `tf.keras`), on TensorFlow and JAX.

    from evonorm_tf.layers import NormAct
    x = NormAct("evonorm_s0")(x)      # instead of BatchNormalization + ReLU

`evonorm_tf.legacy` has the same names for tf_keras.
"""

import importlib.util
import os
from typing import Any

from evonorm_tf import versions

_BACKENDS = ("tensorflow", "jax")


def _check_backend(name: str) -> None:
    if name not in _BACKENDS:
        raise ImportError(
            "evonorm_tf.layers computes with TensorFlow or JAX: set "
            "KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax before Keras is "
            f"imported. Received: KERAS_BACKEND={name!r}"
        )


# Before the import, because Keras would fail first if a backend is missing.
_check_backend(os.environ.get("KERAS_BACKEND") or "tensorflow")

try:
    import keras
except ModuleNotFoundError as error:
    missing = versions.missing(__name__, error)
    if error.name == "tensorflow" and importlib.util.find_spec("jax"):
        missing.msg += ", or set KERAS_BACKEND=jax before Keras is imported"
    raise missing from error
versions.check_minimum("keras", keras.__version__)

from evonorm_tf.layer import NormActMixin, OneEntryMixin  # noqa: E402

_check_backend(keras.backend.backend())  # keras.json can set another one.
_register = keras.saving.register_keras_serializable(package="evonorm_tf")


@_register
class NormAct(NormActMixin, keras.layers.Layer):
    __doc__ = NormActMixin.__doc__

    _backend = importlib.import_module(
        f"evonorm_tf.ops.{keras.backend.backend()}"
    )
    _foreign = "tf_keras"
    _remedy = "In tf_keras models use evonorm_tf.legacy."
    _initializers = keras.initializers

    def _weight(self, name, shape, initializer, trainable=True):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            # float16 would overflow, and bfloat16 stalls a moving average.
            dtype=self._weight_dtype(),
            # Statistics and affine are float32 in mixed precision.
            autocast=False,
            # All replicas store the mean of what each would write.
            aggregation="none" if trainable else "mean",
        )

    def _data_shards(self):
        distribution = keras.distribution.distribution()
        if keras.backend.backend() != "jax" or distribution is None:
            return super()._data_shards()
        if self._backend.inside_a_shard():
            return 1
        mesh = distribution.device_mesh
        sizes = dict(zip(mesh.axis_names, mesh.shape))
        return sizes[distribution.batch_dim_name]


def norm_act(
    name_or_row: Any, groups: int | None = None, **options: Any
) -> NormAct:
    """Creates a `NormAct` layer; bind its settings once per model.

    Example:
        ```python
        na = functools.partial(norm_act, "evonorm_s0", groups=8)
        x = na()(x)
        x = na(activation=False)(x)
        ```

    Args:
      name_or_row: see `NormAct`, as for all other arguments.
      groups: see `NormAct`.
      **options: other arguments of `NormAct`; an unknown one raises TypeError.
    """
    return NormAct(name_or_row, groups, **options)


@_register
class EvoNormB0(OneEntryMixin, NormAct):
    """EvoNorm B0; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_b0"


@_register
class EvoNormB1(OneEntryMixin, NormAct):
    """EvoNorm B1; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_b1"


@_register
class EvoNormB2(OneEntryMixin, NormAct):
    """EvoNorm B2; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_b2"


@_register
class EvoNormS0(OneEntryMixin, NormAct):
    """EvoNorm S0; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_s0"


@_register
class EvoNormS1(OneEntryMixin, NormAct):
    """EvoNorm S1; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_s1"


@_register
class EvoNormS2(OneEntryMixin, NormAct):
    """EvoNorm S2; the arguments are those of `NormAct` without the name."""

    _entry = "evonorm_s2"
