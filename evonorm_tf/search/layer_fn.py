"""The layer under test in an anchor: inline, or as a shared function."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from evonorm_tf.ops import tensorflow as backend
from evonorm_tf.ops.kernel import Plan

Tensor = tf.Tensor
# As `compute`, below.
Compute = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def compute(
    plan: Plan,
    x: Tensor,
    values: Mapping[str, Tensor],
    moving: Mapping[str, Tensor] | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes a layer on x [N, H, W, C]: y, and this batch's statistics.

    Args:
      plan: the layer.
      x: its input, with a known batch size and, if possible, other sizes.
      values: parameters by name.
      moving: moving statistics by name; None in training.
    """
    known = x.shape.is_fully_defined()
    shape = x.shape if known else tf.shape(x)
    space = shape[1] * shape[2] if known else -1
    flat = tf.reshape(x, [x.shape[0], space, shape[3]])
    y, fresh, _ = backend.plain(plan, flat, values, moving)
    return tf.reshape(y, shape), fresh


# Otherwise TensorFlow would copy the function to every call before running.
_A_CALL = {"_noinline": True}


class Shared:
    """`compute` as one function per plan, which every site calls.

    A candidate's layers are most of its graph. Traced once, with the gradient,
    which TensorFlow makes a function too, they cost only once.
    """

    def __init__(self):
        self._traced = {}

    def __call__(self, plan, x, values, moving):
        """Calls the shared function; see `compute`."""
        key = plan, x.shape[0], moving is None
        if key not in self._traced:
            image = tf.TensorSpec([x.shape[0], None, None, None], x.dtype)
            vector = tf.TensorSpec([None], x.dtype)
            named = [t and dict.fromkeys(t, vector) for t in (values, moving)]

            def layer(x, values, moving):
                return compute(plan, x, values, moving)

            function = tf.function(
                layer, autograph=False, experimental_attributes=_A_CALL
            )
            self._traced[key] = function.get_concrete_function(image, *named)
        y, fresh = self._traced[key](x, values, moving)
        y.set_shape(x.shape)
        for statistic in fresh.values():
            statistic.set_shape(x.shape[-1:])
        return y, fresh
