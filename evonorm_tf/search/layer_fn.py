"""The layer under test at one site of an anchor: inline, or as a call."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from evonorm_tf.ops import tensorflow as backend
from evonorm_tf.ops.kernel import Plan

Tensor = tf.Tensor
# As `compute`, below.
Compute = Callable[..., tuple[Tensor, list[Tensor]]]


def compute(
    plan: Plan,
    x: Tensor,
    values: Sequence[Tensor],
    moving: Sequence[Tensor] | None,
) -> tuple[Tensor, list[Tensor]]:
    """A layer on x [N, H, W, C]: y, and this batch's statistics.

    Args:
      plan: the layer.
      x: its input; the batch size is known, and the others if they can be.
      values: of the plan's parameters, in order.
      moving: statistics of the plan's kernel, in order; None in training.
    """
    known = x.shape.is_fully_defined()
    shape = x.shape if known else tf.shape(x)
    space = shape[1] * shape[2] if known else -1
    flat = tf.reshape(x, [x.shape[0], space, shape[3]])
    if moving is not None:
        names = [name for name, _ in plan.kernel.statistics]
        moving = dict(zip(names, moving))
    y, fresh = backend.plain(plan, flat, values, moving)
    return tf.reshape(y, shape), fresh


# Else TensorFlow copies the function to every site, before it runs.
_A_CALL = {"_noinline": True}


class Shared:
    """`compute` as one function a plan, called by every site.

    A candidate's sites are most of its graph. Traced once they cost once:
    with the gradient, which TensorFlow makes a function of as well.
    """

    def __init__(self):
        self._traced = {}

    def __call__(self, plan, x, values, moving):
        key = plan, x.shape[0], moving is None
        if key not in self._traced:
            image = tf.TensorSpec([x.shape[0], None, None, None], x.dtype)
            vector = tf.TensorSpec([None], x.dtype)
            lists = [vector] * len(values), moving and [vector] * len(moving)

            def layer(x, values, moving):
                return compute(plan, x, values, moving)

            function = tf.function(
                layer, autograph=False, experimental_attributes=_A_CALL
            )
            self._traced[key] = function.get_concrete_function(image, *lists)
        y, fresh = self._traced[key](x, values, moving)
        y.set_shape(x.shape)
        for statistic in fresh:
            statistic.set_shape(x.shape[-1:])
        return y, fresh
