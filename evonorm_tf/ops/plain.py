"""The plain formula: what a row computes, as TensorFlow differentiates it.

Inference, second derivatives and the general rows use it as it stands;
`gradient.py` computes the same in training, faster and with less kept.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from evonorm_tf.ops import moments
from evonorm_tf.ops.plan import BatchStatistics, Plan, Statistics

Tensor = tf.Tensor


@tf.autograph.experimental.do_not_convert
def infer(
    x: Tensor,
    parameters: Mapping[str, Tensor],
    moving: Mapping[str, Tensor],
    plan: Plan,
) -> Tensor:
    """The layer at inference, with moving statistics.

    Args:
      x: [N, S, C] (or [N, C, S], as plan.space says), floating.
      parameters: tensors [C] or [N, C] by the names in plan.parameters.
      moving: the moving statistics by name, [C] each.
      plan: the computation.

    Returns:
      y, like x.
    """
    values = [parameters[name] for name in plan.parameters]
    moving = {name: widen(value) for name, value in moving.items()}
    y, _ = plain(plan, widen(x), values, moving)
    return tf.cast(y, x.dtype)


def widen(x: Tensor) -> Tensor:
    """x in the dtype that everything is computed in."""
    return tf.cast(x, moments.compute_dtype(x.dtype))


def measure(plan: Plan, x: Tensor) -> tuple[Tensor, Tensor]:
    """Step 1: mean and variance of every (sample, channel), [N, C]."""
    return moments.spatial_moments(x, plan.space, plan.form)


def coefficients_of(
    plan: Plan, statistics: Statistics, values: Sequence[Tensor], x: Tensor
) -> list[Tensor]:
    """Step 2; every coefficient as [N, C], so that autodiff sums over n."""
    parameters = dict(zip(plan.parameters, values))
    dtype = moments.compute_dtype(x.dtype)
    shape = tf.stack([tf.shape(x)[0], x.shape[3 - plan.space]])
    return [
        tf.broadcast_to(tf.convert_to_tensor(c, dtype), shape)
        for c in plan.kernel.coefficients(statistics, parameters, plan)
    ]


def plain(
    plan: Plan,
    x: Tensor,
    values: Sequence[Tensor],
    moving: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """y and the fresh batch statistics; with `moving`, those are used."""
    kernel = plan.kernel
    wide, values = widen(x), [widen(v) for v in values]
    if kernel.apply is None:
        small = _statistics(plan, wide, moving)
        coefficients = coefficients_of(plan, small, values, x)
        expanded = [tf.expand_dims(c, plan.space) for c in coefficients]
        y = kernel.pointwise.forward(wide, *expanded)
        fresh = small.named()
    else:
        batch = BatchStatistics(moving, plan.synchronized)
        if plan.space == 2:
            wide = tf.transpose(wide, [0, 2, 1])
        y = kernel.apply(wide, dict(zip(plan.parameters, values)), batch, plan)
        if plan.space == 2:
            y = tf.transpose(y, [0, 2, 1])
        fresh = batch.fresh
    names = [] if moving is not None else [n for n, _ in kernel.statistics]
    return tf.cast(y, x.dtype), [fresh[name] for name in names]


def _statistics(plan: Plan, x: Tensor, moving) -> Statistics:
    kernel = plan.kernel
    if moving is not None:
        mean, variance = measure(plan, x) if kernel.instance else (None, None)
        center = moving.get("moving_mean")
        return Statistics(mean, variance, center, moving.get("moving_variance"))
    if not kernel.measures:
        return Statistics()
    mean, variance = measure(plan, x)
    if not kernel.statistics:
        return Statistics(mean, variance)
    batch = moments.batch_moments(mean, variance, plan.synchronized)
    return Statistics(mean, variance, *batch[:2])
