"""One gradient for every row: three steps forward, three steps back.

    forward   1. moments of every (sample, channel): one read of x
              2. coefficients: arithmetic on [N, C] tensors
              3. pointwise: one read of x, one write of y
    backward  1. sums over space of the family's terms: one read of (x, dy)
              2. the coefficients' own gradient, by autodiff of step 2, down
                 to d_mean and d_variance
              3. dx = dy * dy/dx + (d_mean + 2 * d_variance * (x - mean)) / S:
                 one read of (x, dy), one write of dx

Between the two passes live x, the parameters and [N, C] statistics.

The computations run on tensors that no tape watches (`tf.stop_gradient`), for
a compiled function called under a tape would return every intermediate that
its own autodiff might want. Second derivatives come from the plain formula.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from evonorm_tf.ops import moments
from evonorm_tf.ops.plain import coefficients_of, measure, plain, widen
from evonorm_tf.ops.plan import Plan, Statistics

Tensor = tf.Tensor


# Nothing here hangs on a tensor's value: AutoGraph would only read the source,
# at every layer of a model.
@tf.autograph.experimental.do_not_convert
def train(
    x: Tensor, parameters: Mapping[str, Tensor], plan: Plan
) -> tuple[Tensor, dict[str, Tensor]]:
    """The layer in training, with fresh statistics and analytic gradients.

    Args:
      x: [N, S, C] (or [N, C, S], as plan.space says), floating.
      parameters: tensors [C] or [N, C] by the names in plan.parameters.
      plan: the computation.

    Returns:
      y, like x, and the batch statistics by name, each [C].
    """
    names = [name for name, _ in plan.kernel.statistics]
    forward, backward = (
        (_forward, _backward)
        if plan.kernel.apply is None
        else (_forward_general, _backward_general)
    )

    @tf.custom_gradient
    def op(x, *parameters):
        y, fresh, saved = forward(plan, *_constant([x, *parameters]))

        def grad(dy, *unused):
            # Nobody differentiates moving averages; zeros arrive here.
            del unused
            return differentiable(dy, x, *parameters)

        @tf.custom_gradient
        def differentiable(dy, x, *parameters):
            inputs = _constant([dy, x, *parameters])
            grads = backward(plan, saved, *inputs)
            second = functools.partial(_second, plan, dy, x, parameters)
            return grads, second

        return (y, *fresh), grad

    y, *fresh = op(x, *(parameters[name] for name in plan.parameters))
    return y, {k: tf.stop_gradient(v) for k, v in zip(names, fresh)}


def _constant(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tf.stop_gradient(t) for t in tensors]


def _piece(function: Callable, plan: Plan) -> Callable:
    """A full-size step of this plan, compiled where it may be.

    Steps 1 and 3 are compiled one by one and step 2 stays between them: there
    the batch statistics can be all-reduced; and compiled together, the group
    arithmetic of step 2 would be repeated for every element of step 3
    (measured: twice the time, for S0).
    """
    if plan.xla:
        return _function(function, plan, jit=True)
    return functools.partial(function, plan)


def _function(function: Callable, plan: Plan, jit: bool) -> Callable:
    """`function` of this plan as a graph; kept with the plan's row."""
    known = plan.kernel.compiled
    key = (function, plan, jit)
    if key not in known:
        known[key] = tf.function(
            functools.partial(function, plan), autograph=False, jit_compile=jit
        )
    return known[key]


# -- analytic rows ----------------------------------------------------------


def _pointwise(plan: Plan, x: Tensor, *coefficients: Tensor) -> Tensor:
    expanded = [tf.expand_dims(c, plan.space) for c in coefficients]
    y = plan.kernel.pointwise.forward(widen(x), *expanded)
    return tf.cast(y, x.dtype)


def _forward(plan: Plan, x: Tensor, *values: Tensor):
    """Returns y, the fresh batch statistics, and what backward needs."""
    values = [widen(v) for v in values]
    saved = _statistics(plan, x)
    statistics = Statistics(*saved[:4])
    coefficients = coefficients_of(plan, statistics, values, x)
    y = _piece(_pointwise, plan)(x, *coefficients)
    fresh = [statistics.named()[name] for name, _ in plan.kernel.statistics]
    return y, fresh, saved


def _statistics(plan: Plan, x: Tensor) -> tuple[Tensor, ...]:
    """mean, variance [N, C], batch mean, batch variance [C], sample count."""
    if not plan.kernel.measures:
        return ()
    mean, variance = _piece(measure, plan)(x)
    if not plan.kernel.statistics:
        return mean, variance
    batch = moments.batch_moments(mean, variance, plan.synchronized)
    return mean, variance, *batch


def _sums(plan: Plan, x: Tensor, dy: Tensor, *coefficients: Tensor):
    expanded = [tf.expand_dims(c, plan.space) for c in coefficients]

    def terms(x, dy):
        return plan.kernel.pointwise.terms(widen(x), widen(dy), *expanded)

    sums = moments.spatial_sums(terms, [x, dy], plan.space, plan.form)
    return plan.kernel.pointwise.finish(sums, *coefficients)


def _slope(plan: Plan, x, dy, coefficients, mean=None, d_mean=0, d_variance=0):
    def expand(t):
        return tf.expand_dims(t, plan.space)

    wide = widen(x)
    dx = plan.kernel.pointwise.slope(
        wide, widen(dy), *(expand(c) for c in coefficients)
    )
    if mean is not None:
        size = tf.cast(tf.shape(x)[plan.space], wide.dtype)
        d_mean, d_variance = d_mean / size, 2.0 * d_variance / size
        dx += expand(d_mean) + expand(d_variance) * (wide - expand(mean))
    return tf.cast(dx, x.dtype)


def _backward(plan: Plan, saved, dy: Tensor, x: Tensor, *values: Tensor):
    wide = [widen(v) for v in values]
    small = list(saved[:4])
    with tf.GradientTape() as tape:
        tape.watch([*small, *wide])
        coefficients = coefficients_of(plan, Statistics(*small), wide, x)
    upstream = _piece(_sums, plan)(x, dy, *coefficients)
    grads = tape.gradient(
        coefficients,
        [*small, *wide],
        output_gradients=upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    d_small, d_values = grads[: len(small)], grads[len(small) :]
    if not small:
        dx = _piece(_slope, plan)(x, dy, coefficients)
    else:
        d_mean, d_variance = _pool_gradient(plan, saved, d_small)
        dx = _piece(_slope, plan)(
            x, dy, coefficients, small[0], d_mean, d_variance
        )
    return [dx, *(tf.cast(d, v.dtype) for d, v in zip(d_values, values))]


def _pool_gradient(plan: Plan, saved, d_small) -> tuple[Tensor, Tensor]:
    """Adds the batch statistics' gradient to the instance moments'."""
    d_mean, d_variance, *d_batch = d_small
    if not d_batch:
        return d_mean, d_variance
    mean, _, center, _, count = saved
    if plan.synchronized:
        d_batch = moments.all_reduce_sum(d_batch)
    d_center, d_spread = d_batch
    d_mean += (d_center + 2.0 * d_spread * (mean - center)) / count
    return d_mean, d_variance + d_spread / count


# -- general rows -----------------------------------------------------------


def _forward_general(plan: Plan, x: Tensor, *values: Tensor):
    y, fresh = _whole(_plain_step, plan)(x, *values)
    return y, fresh, ()


def _backward_general(plan: Plan, saved, dy, x, *values):
    del saved
    return _whole(_recomputed, plan)(dy, x, *values)


def _whole(function: Callable, plan: Plan) -> Callable:
    # The all-reduces of a synchronised row are inside; they do not compile.
    if plan.synchronized:
        return functools.partial(function, plan)
    return _piece(function, plan)


def _plain_step(plan: Plan, x: Tensor, *values: Tensor):
    return plain(plan, x, values)


def _recomputed(plan: Plan, dy, x, *values):
    # Autodiff that starts from x again: nothing but x is kept for it.
    sources = [x, *values]
    if not tf.executing_eagerly():
        return _gradients(lambda *v: plain(plan, v[0], v[1:])[0], sources, dy)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        y, _ = plain(plan, x, values)
    return tape.gradient(
        y,
        sources,
        output_gradients=dy,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _gradients(function: Callable, sources: Sequence[Tensor], dy) -> list:
    """Gradient of a function of tensors, where a graph is being built.

    By `tf.gradients`: a tape in a custom gradient sees nothing under a
    ForwardAccumulator, and its zeros would pass for a derivative.
    """
    sources = [tf.identity(s) for s in sources]
    y = function(*sources)
    return tf.gradients(y, sources, dy, unconnected_gradients="zero")


# -- second derivatives ----------------------------------------------------


def _second(plan: Plan, dy, x, parameters, *upstream):
    """Gradient of the gradient, by autodiff of the plain formula."""
    inputs = [dy, x, *parameters]
    if tf.executing_eagerly():
        return _function(_second_order, plan, jit=False)(inputs, upstream)
    return _second_order(plan, inputs, upstream)


def _second_order(plan: Plan, inputs, upstream):
    def first(dy, *sources):
        return _gradients(lambda *v: plain(plan, v[0], v[1:])[0], sources, dy)

    return _gradients(first, inputs, list(upstream))
