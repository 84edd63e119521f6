"""The layers on TensorFlow: array functions, gradients, compilation, replicas.

Training takes three steps forward and three back:

    forward   1. moments of every (sample, channel): one read of x
              2. coefficients: arithmetic on [N, C] tensors
              3. pointwise: one read of x, one write of y
    backward  1. sums over space of the kernel's terms: one read of (x, dy)
              2. the gradient of the coefficients, by autodiff of step 2, down
                 to d_mean and d_variance
              3. dx = dy * dy/dx + (d_mean + 2 * d_variance * (x - mean)) / S:
                 one read of (x, dy), one write of dx

Saved for the backward pass are x, the parameters and [N, C] statistics.

The computations run on tensors that no tape watches (`tf.stop_gradient`), for
a compiled function called under a tape would return every intermediate that
its own autodiff might want. Second derivatives come from the plain formula.
"""

import dataclasses
import functools
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import tensorflow as tf

from evonorm_tf import versions
from evonorm_tf.ops import kernel as kernel_lib
from evonorm_tf.ops import moments
from evonorm_tf.ops.kernel import Analytic, General, Plan, Statistics
from evonorm_tf.ops.moments import Moments

versions.check_minimum("tensorflow", tf.__version__)

Tensor = tf.Tensor
_BACKEND = sys.modules[__name__]  # What kernels get to compute with.


def _shape(x: Tensor) -> list[int | Tensor]:
    """The shape of x; a number where it is known, else a scalar tensor."""
    if x.shape.is_fully_defined():
        return x.shape.as_list()
    dynamic = tf.shape(x)
    return [
        dynamic[axis] if size is None else size
        for axis, size in enumerate(x.shape.as_list())
    ]


def _asarray(value: Any, dtype: tf.DType) -> Tensor:
    if tf.is_tensor(value):
        return tf.cast(value, dtype)
    return tf.constant(value, dtype)


xp = SimpleNamespace(
    abs=tf.abs,
    asarray=_asarray,
    broadcast_to=tf.broadcast_to,
    cast=tf.cast,
    erf=tf.math.erf,
    exp=tf.exp,
    expand_dims=tf.expand_dims,
    float32=tf.float32,
    float64=tf.float64,
    log=tf.math.log,
    logical_not=tf.logical_not,
    maximum=tf.maximum,
    mean=tf.reduce_mean,
    ones_like=tf.ones_like,
    relu=tf.nn.relu,
    reshape=tf.reshape,
    rsqrt=tf.math.rsqrt,
    shape=_shape,
    sigmoid=tf.sigmoid,
    sign=tf.sign,
    sqrt=tf.sqrt,
    square=tf.square,
    squared_difference=tf.math.squared_difference,
    sum=tf.reduce_sum,
    tanh=tf.tanh,
    transpose=tf.transpose,
    where=tf.where,
    zeros=tf.zeros,
    zeros_like=tf.zeros_like,
)


# -- what a layer needs -------------------------------------------------------


def tensor(value: Any) -> Tensor:
    """An input or a weight as a tensor.

    Variables become tensors before anything is compiled: a compiled function
    that captures a variable fails on a second device.
    """
    return tf.convert_to_tensor(value)


def static_value(value: Any) -> Any:
    """The Python value of `value`; None for a tensor that has none yet."""
    if not tf.is_tensor(value):
        return value
    static = tf.get_static_value(value)
    return None if static is None else static.item()


def reshaped_like(y: Tensor, x: Tensor) -> Tensor:
    """y in the shape of x, static sizes included."""
    y = tf.reshape(y, tf.shape(x))
    y.set_shape(x.shape)
    return y


@functools.cache
def _local_accelerator() -> bool:
    return bool(
        tf.config.list_physical_devices("GPU")
        or tf.config.list_physical_devices("TPU")
    )


def accelerated() -> bool:
    """Whether the computation is for a GPU or TPU."""
    # A TPU reached over the network is no physical device, and appears when
    # the program connects to it, so this part is not cached.
    strategy = type(tf.distribute.get_strategy()).__name__
    return _local_accelerator() or strategy.startswith("TPU")


# -- replicas -----------------------------------------------------------------


def data_shards() -> int:
    """1: a replica of `tf.distribute` computes on its own batch."""
    return 1


def batch_average(
    plan: Plan, terms: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Averages over the samples of a batch, of all replicas if synchronized.

    Args:
      plan: the computation.
      terms: each [N, C].

    Returns:
      The averages, each [C], and the number of samples, at least 1.
    """
    count = tf.cast(tf.shape(terms[0])[0], terms[0].dtype)
    totals = [tf.reduce_sum(t, 0) for t in terms]
    if plan.synchronized:
        *totals, count = _all_reduce_sum([*totals, count])
    # A replica without samples writes nothing; 0 / 0 would reach them all.
    count = tf.maximum(count, 1.0)
    return [total / count for total in totals], count


def _all_reduce_sum(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums over replicas; the identity where there is no replica context.

    Outside a replica (a functional model being built under the scope of a
    strategy) the statistics are local by definition.
    """
    if not tf.distribute.in_cross_replica_context():
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            return list(
                context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
            )
    return list(tensors)


def saved(sample: Moments) -> Moments:
    """The moments: what is saved for the backward pass is explicit here."""
    return sample


# -- inference and the plain formula ------------------------------------------


@tf.autograph.experimental.do_not_convert
def infer(
    x: Tensor,
    parameters: Mapping[str, Tensor],
    moving: Mapping[str, Tensor],
    plan: Plan,
) -> Tensor:
    """The layer at inference, with moving statistics.

    Args:
      x: [N, S, C] (or [N, C, S], as plan.spatial_axis says), floating.
      parameters: tensors [C], [N, C] or [] by the names in plan.parameters.
      moving: the moving statistics by name, [C] each.
      plan: the computation.

    Returns:
      y, of the shape of x and the plan's dtype.
    """
    values = [parameters[name] for name in plan.parameters]
    return plain(plan, x, values, moving)[0]


def plain(
    plan: Plan,
    x: Tensor,
    values: Sequence[Tensor],
    moving: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The plain formula: y and the fresh batch statistics.

    With `moving`, those are used and no statistics returned.
    """
    if moving is not None:
        moving = {name: _wide(value) for name, value in moving.items()}
    values = [_wide(v) for v in values]
    y, fresh = plan.kernel.plain(_BACKEND, plan, _wide(x), values, moving)
    return _output(plan, y, x), fresh


def _wide(x: Tensor) -> Tensor:
    """x in the dtype that everything is computed in."""
    return tf.cast(x, moments.compute_dtype(xp, x))


def _output(plan: Plan, y: Tensor, x: Tensor) -> Tensor:
    return tf.cast(y, plan.dtype or x.dtype)


# -- training -----------------------------------------------------------------


# Nothing here depends on the value of a tensor: AutoGraph would only read the
# source, at every layer of a model.
@tf.autograph.experimental.do_not_convert
def train(
    x: Tensor, parameters: Mapping[str, Tensor], plan: Plan
) -> tuple[Tensor, dict[str, Tensor]]:
    """The layer in training, with fresh statistics and analytic gradients.

    Args:
      x: [N, S, C] (or [N, C, S], as plan.spatial_axis says), floating.
      parameters: tensors [C], [N, C] or [] by the names in plan.parameters.
      plan: the computation.

    Returns:
      y, of the shape of x and the plan's dtype, and the batch statistics by
      name, each [C].
    """

    @tf.custom_gradient
    def op(x, *parameters):
        y, fresh, saved = _forward(plan.kernel, plan, *_stop([x, *parameters]))

        def grad(dy, *unused):
            # Nothing differentiates moving averages; zeros arrive here.
            del unused
            return differentiable(dy, x, *parameters)

        @tf.custom_gradient
        def differentiable(dy, x, *parameters):
            inputs = _stop([dy, x, *parameters])
            grads = _backward(plan.kernel, plan, saved, *inputs)
            second = functools.partial(_second, plan, dy, x, parameters)
            return grads, second

        return (y, *fresh), grad

    y, *fresh = op(x, *(parameters[name] for name in plan.parameters))
    names = [statistic.name for statistic in plan.kernel.statistics]
    return y, {k: tf.stop_gradient(v) for k, v in zip(names, fresh)}


def _stop(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tf.stop_gradient(t) for t in tensors]


@functools.singledispatch
def _forward(kernel: Any, plan: Plan, x: Tensor, *values: Tensor):
    """Returns y, the fresh batch statistics, and what backward needs."""
    raise TypeError(
        "A kernel is Analytic or General. "
        f"Received: kernel={kernel!r} of type {type(kernel).__name__}"
    )


@functools.singledispatch
def _backward(
    kernel: Any, plan: Plan, saved: Any, dy: Tensor, x: Tensor, *values: Tensor
):
    """Returns the gradients of x and of the values."""
    raise TypeError(f"Received: kernel={kernel!r}")


# -- compiled pieces ----------------------------------------------------------

# Functions by what they compute, for as long as their kernel lives: a search
# tries thousands of kernels in one process.
_compiled: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = (
    weakref.WeakKeyDictionary()
)


def _piece(function: Callable, plan: Plan) -> Callable:
    """A full-size step of this plan, compiled where it may be.

    Steps 1 and 3 are compiled one by one and step 2 stays between them: there
    the batch statistics can be all-reduced; and compiled together, the group
    arithmetic of step 2 is repeated for every element of step 3 (measured:
    1.5 times the time for S0, an optimization barrier included).
    """
    if plan.xla:
        return _function(function, plan, jit=True)
    return functools.partial(function, plan)


def _function(function: Callable, plan: Plan, jit: bool) -> Callable:
    """`function` of this plan as a graph, cached."""
    known = _compiled.setdefault(plan.kernel, {})
    # The cached function must not keep its own key alive.
    rest = dataclasses.replace(plan, kernel=None)
    key = (function, rest, jit)
    if key not in known:
        # A partial: TensorFlow would count the traces of all closures of one
        # piece of code together, and warn of too many.
        traced = functools.partial(
            _call, function, weakref.ref(plan.kernel), rest
        )
        known[key] = tf.function(traced, autograph=False, jit_compile=jit)
    return known[key]


def _call(function: Callable, kernel: Any, rest: Plan, *args: Any) -> Any:
    return function(dataclasses.replace(rest, kernel=kernel()), *args)


# -- analytic kernels ---------------------------------------------------------


class _Saved(NamedTuple):
    """What the forward pass of an analytic kernel saves beside x.

    Attributes:
      statistics: those that the coefficients came from.
      sample: moments of every (sample, channel), also where the coefficients
        read the batch alone; None if the kernel takes no moments.
      count: the number of samples that batch statistics are taken over.
    """

    statistics: Statistics
    sample: Moments | None = None
    count: Tensor | None = None


def _measure(plan: Plan, x: Tensor) -> Moments:
    return moments.spatial_moments(xp, x, plan.spatial_axis, plan.settings)


def _coefficients(plan: Plan, statistics, values, x: Tensor) -> Any:
    return plan.kernel.broadcast(xp, plan, statistics, values, x)


def _pointwise(plan: Plan, x: Tensor, c: Any) -> Tensor:
    c = kernel_lib.expand(xp, c, plan.spatial_axis)
    y = plan.kernel.pointwise.forward(xp, _wide(x), c)
    return _output(plan, y, x)


@_forward.register
def _(kernel: Analytic, plan: Plan, x: Tensor, *values: Tensor):
    saved = _statistics(plan, x)
    values = [_wide(v) for v in values]
    c = _coefficients(plan, saved.statistics, values, x)
    y = _piece(_pointwise, plan)(x, c)
    return y, kernel.fresh(saved.statistics), saved


def _statistics(plan: Plan, x: Tensor) -> _Saved:
    if not plan.kernel.measures:
        return _Saved(Statistics())
    sample = _piece(_measure, plan)(x)
    if not plan.kernel.statistics:
        return _Saved(Statistics(sample), sample)
    batch, count = moments.batch_moments(_BACKEND, sample, plan)
    return _Saved(Statistics(sample, batch), sample, count)


def _sums(plan: Plan, x: Tensor, dy: Tensor, c: Any) -> Any:
    pointwise = plan.kernel.pointwise
    expanded = kernel_lib.expand(xp, c, plan.spatial_axis)

    def terms(x, dy):
        return pointwise.terms(xp, _wide(x), _wide(dy), expanded)

    sums = moments.spatial_sums(
        xp, terms, [x, dy], plan.spatial_axis, plan.settings
    )
    return pointwise.finish(xp, sums, c)


def _slope(plan: Plan, x: Tensor, dy: Tensor, c: Any, moment_terms: Any):
    def expand(t):
        return tf.expand_dims(t, plan.spatial_axis)

    wide = _wide(x)
    expanded = kernel_lib.expand(xp, c, plan.spatial_axis)
    dx = plan.kernel.pointwise.slope(xp, wide, _wide(dy), expanded)
    if moment_terms is not None:
        mean, d_mean, d_variance = moment_terms
        size = tf.cast(xp.shape(x)[plan.spatial_axis], wide.dtype)
        d_mean, d_variance = d_mean / size, 2.0 * d_variance / size
        dx += expand(d_mean) + expand(d_variance) * (wide - expand(mean))
    return tf.cast(dx, x.dtype)


@_backward.register
def _(kernel: Analytic, plan: Plan, saved: _Saved, dy, x, *values):
    wide = [_wide(v) for v in values]
    with tf.GradientTape() as tape:
        tape.watch([_arrays(saved.statistics), wide])
        c = _coefficients(plan, saved.statistics, wide, x)
    d_c = _piece(_sums, plan)(x, dy, c)
    d_small, d_values = tape.gradient(
        _arrays(c),
        [_arrays(saved.statistics), wide],
        output_gradients=_arrays(d_c),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    moment_terms = None
    if saved.sample is not None:
        moment_terms = _moment_terms(plan, saved, d_small)
    dx = _piece(_slope, plan)(x, dy, c, moment_terms)
    return [dx, *(tf.cast(d, v.dtype) for d, v in zip(d_values, values))]


def _arrays(structure: Any) -> list[Tensor]:
    """The tensors of nested named tuples, without what is None."""
    return [t for t in tf.nest.flatten(structure) if t is not None]


def _moment_terms(plan: Plan, saved: _Saved, d_small: Sequence[Tensor]):
    """mean, d_mean and d_variance of every (sample, channel), [N, C].

    Adds the gradient of the batch statistics to that of the moments.
    """
    mean = saved.sample.mean
    d_mean, d_variance, *d_batch = d_small
    if not d_batch:
        return mean, d_mean, d_variance
    if plan.synchronized:
        d_batch = _all_reduce_sum(d_batch)
    d_center, d_spread = d_batch
    center = saved.statistics.batch.mean
    shift = (d_center + 2.0 * d_spread * (mean - center)) / saved.count
    return mean, d_mean + shift, d_variance + d_spread / saved.count


# -- general kernels ----------------------------------------------------------


@_forward.register
def _(kernel: General, plan: Plan, x: Tensor, *values: Tensor):
    y, fresh = _whole(_plain_step, plan)(x, *values)
    return y, fresh, None


@_backward.register
def _(kernel: General, plan: Plan, saved: None, dy, x, *values):
    return _whole(_recomputed, plan)(dy, x, *values)


def _whole(function: Callable, plan: Plan) -> Callable:
    # The all-reduces of synchronized statistics are inside and do not compile.
    if plan.synchronized:
        return functools.partial(function, plan)
    return _piece(function, plan)


def _plain_step(plan: Plan, x: Tensor, *values: Tensor):
    return plain(plan, x, values)


def _recomputed(plan: Plan, dy, x, *values):
    # Autodiff that starts from x again, so that nothing but x is saved.
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


# -- second derivatives -------------------------------------------------------


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
