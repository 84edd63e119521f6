"""Norm-act layers for tf_keras.

    from evonorm_tf.legacy import NormAct
    x = NormAct("evonorm_s0")(x)      # instead of BatchNormalization + ReLU

`evonorm_tf.layers` has the same names for Keras 3.
"""

from typing import Any

from evonorm_tf import versions

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise versions.missing(__name__, error) from error
try:
    import tf_keras
except ImportError as error:
    # Another version would install another TensorFlow.
    minor = ".".join(tf.__version__.split(".")[:2])
    raise ImportError(
        "evonorm_tf.legacy is for tf_keras models and needs tf_keras: "
        f"pip install 'tf_keras=={minor}.*'. For Keras 3 use "
        "evonorm_tf.layers."
    ) from error

from evonorm_tf.layer import NormActMixin, OneEntryMixin
from evonorm_tf.ops import tensorflow as backend

versions.check_minimum("tf_keras", tf_keras.__version__)
_register = tf_keras.saving.register_keras_serializable(package="evonorm_tf")


@_register
class NormAct(NormActMixin, tf_keras.layers.Layer):
    __doc__ = NormActMixin.__doc__

    _backend = backend
    _foreign = "keras"
    _remedy = "In Keras 3 models use evonorm_tf.layers."
    _initializers = tf_keras.initializers

    # No control flow depends on tensors, so AutoGraph would only convert the
    # source for every layer of a model.
    _unconverted = tf.autograph.experimental.do_not_convert(NormActMixin.call)

    def _infer_output_signature(self, *args, **kwargs):
        # tf_keras calls each layer of a functional model for the shape and
        # dtype of its output, in a graph that it drops. Tracing the formula
        # for that would be half of the time of building a network.
        self._described = True
        try:
            return super()._infer_output_signature(*args, **kwargs)
        finally:
            self._described = False

    # Its signature, which a decorator would hide, tells tf_keras what to pass.
    def call(self, inputs, gamma=None, beta=None, training=None):
        return self._unconverted(inputs, gamma, beta, training)

    def _weight(self, name, shape, initializer, trainable=True):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            # float16 would overflow, and bfloat16 stalls a moving average.
            dtype=self._weight_dtype(),
            # Statistics and affine are float32 in mixed precision.
            experimental_autocast=False,
            # All replicas store the mean of what each would write.
            aggregation=tf.VariableAggregation.NONE
            if trainable
            else tf.VariableAggregation.MEAN,
        )


def norm_act(
    name_or_row: Any, groups: int | None = None, **options: Any
) -> NormAct:
    """Creates a `NormAct` layer; see `evonorm_tf.layers.norm_act`."""
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
