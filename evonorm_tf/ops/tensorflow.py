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

The computations run on tensors that no tape watches (`tf.stop_gradient`),
because a compiled function called under a tape would return every intermediate
value that its own autodiff might need. Second derivatives come from the plain
formula.
"""

import contextlib
import contextvars
import dataclasses
import functools
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import tensorflow as tf

from evonorm_tf import versions
from evonorm_tf.ops import kernel as kernel_lib
from evonorm_tf.ops import moments
from evonorm_tf.ops.custom_gradient import custom_gradient
from evonorm_tf.ops.kernel import Analytic, Plan, Statistics
from evonorm_tf.ops.moments import Moments
from evonorm_tf.ops.settings import Settings

versions.check_minimum("tensorflow", tf.__version__)

Tensor = tf.Tensor
_BACKEND = sys.modules[__name__]  # The namespace for kernels.


def _shape(x: Tensor) -> list[int | Tensor]:
    """Returns the shape of x; unknown sizes are scalar tensors."""
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
    stack=tf.stack,
    sum=tf.reduce_sum,
    tanh=tf.tanh,
    transpose=tf.transpose,
    where=tf.where,
    zeros=tf.zeros,
    zeros_like=tf.zeros_like,
)


# -- what a layer needs -------------------------------------------------------


def tensor(value: Any) -> Tensor:
    """Returns an input or a weight as a tensor.

    Variables are converted before anything is compiled, because a compiled
    function that captures a variable fails on a second device.
    """
    deferred = _deferred.get()
    if deferred is not None and id(value) in deferred:
        return deferred[id(value)][1]
    return tf.convert_to_tensor(value)


def assign(variable: Any, value: Tensor) -> None:
    """Assigns a weight, or leaves that to whoever defers writes."""
    deferred = _deferred.get()
    if deferred is None:
        variable.assign(value)
    else:
        deferred[id(variable)] = variable, value


def static_value(value: Any) -> Any:
    """Returns the Python value of `value`; None for a symbolic tensor."""
    if not tf.is_tensor(value):
        return value
    static = tf.get_static_value(value)
    return None if static is None else static.item()


def with_size(x: Tensor, axis: int, size: int) -> Tensor:
    """Returns x with a static size, which is checked when x is computed."""
    shape = x.shape.as_list()
    shape[axis] = size
    return x if x.shape[axis] == size else tf.ensure_shape(x, shape)


def reshaped_like(y: Tensor, x: Tensor) -> Tensor:
    """Returns y in the shape of x, including static sizes."""
    y = tf.reshape(y, tf.shape(x))
    y.set_shape(x.shape)
    return y


def accelerated() -> bool:
    """Returns whether the computation is for a GPU or TPU."""
    # Not `list_physical_devices`, which has those that are hidden from this
    # process. A TPU on the network appears only when a program connects to it.
    visible = map(tf.config.get_visible_devices, ("GPU", "TPU"))
    strategy = type(tf.distribute.get_strategy()).__name__
    return any(visible) or strategy.startswith("TPU")


# With fewer elements, plain kernels are faster than starting compiled ones.
# Measured on two cores of an AMD EPYC, where the two are equal between 75,000
# (plain: 0.6 of the time) and 165,000 (as fast, B0 1.3).
_XLA_ELEMENTS = 100_000


def compiles(settings: Settings, xla: str | bool, x: Tensor) -> bool:
    """Returns whether a layer's training on x is compiled."""
    least = settings.xla_elements
    if least == "auto":
        least = 0 if accelerated() else _XLA_ELEMENTS
    elements = x.shape.num_elements()  # None if a size is unknown.
    large = elements is None or elements >= least
    return settings.xla == xla == "auto" and large


# -- replicas -----------------------------------------------------------------

# Variables and what was written to them, by the identity of the variables; each
# replica is traced in a thread of its own, which has its own value.
_Writes = dict[int, tuple[Any, Tensor]]
_deferred: contextvars.ContextVar[_Writes | None] = contextvars.ContextVar(
    "deferred writes", default=None
)


@contextlib.contextmanager
def deferred_writes() -> Iterator[_Writes]:
    """Collects what layers write to moving statistics instead of writing it.

    A write merges the values of all replicas, which a compiled function cannot
    contain: return the values from it, and assign them afterwards. Inside, a
    layer that is called again reads what it wrote.
    """
    writes: _Writes = {}
    token = _deferred.set(writes)
    try:
        yield writes
    finally:
        _deferred.reset(token)


def data_shards() -> int:
    """Returns 1: a replica of `tf.distribute` computes on its own batch."""
    return 1


def batch_average(
    plan: Plan, terms: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Averages over the samples of a batch, of all replicas if synchronized.

    Args:
      plan: the computation.
      terms: each [N, C].

    Returns:
      The averages, each [C], 0 without samples; and the number of samples.
    """
    count = tf.cast(tf.shape(terms[0])[0], terms[0].dtype)
    totals = [tf.reduce_sum(t, 0) for t in terms]
    if plan.synchronized:
        *totals, count = _all_reduce_sum([*totals, count])
    # A replica without samples writes nothing; 0 / 0 would spread to all.
    return [total / tf.maximum(count, 1.0) for total in totals], count


def _all_reduce_sum(tensors: list[Tensor]) -> list[Tensor]:
    """Sums over replicas; the identity without a replica context.

    Outside a replica (when a functional model is built under the scope of a
    strategy) statistics are local by definition.
    """
    if tf.distribute.in_cross_replica_context():
        return tensors
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, tensors))


# -- training -----------------------------------------------------------------


def sample_moments(plan: Plan, x: Tensor) -> Moments:
    """Returns mean and variance of every (sample, channel), [N, C]."""
    return moments.spatial_moments(xp, x, plan.spatial_axis, plan.settings)


# No control flow depends on tensors, so AutoGraph would only convert the source
# for every layer of a model.
plain = tf.autograph.experimental.do_not_convert(
    functools.partial(kernel_lib.plain, _BACKEND)
)


@tf.autograph.experimental.do_not_convert
def train(
    plan: Plan, x: Tensor, parameters: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Computes the layer in training; see `plain`.

    Its gradient is the analytic one; the statistics have none.
    """
    names = list(parameters)
    statistics = [statistic.name for statistic in plan.kernel.statistics]

    @custom_gradient
    def op(x, *values):
        inputs = dict(zip(names, _stop(values)))
        y, fresh, count, saved = _forward(
            plan.kernel, plan, *_stop([x]), inputs
        )
        found = [*(fresh[name] for name in statistics)]

        def grad(dy, *unused):
            # Nothing differentiates moving averages; their gradient is zero.
            del unused
            return differentiable(dy, x, *values)

        @custom_gradient
        def differentiable(dy, x, *values):
            dx, d_values = _backward(
                plan.kernel, plan, saved, *_stop([dy, x]), inputs
            )
            grads = [dx, *(d_values[name] for name in names)]
            second = functools.partial(_second, plan, names, dy, x, values)
            return grads, second

        return (y, *found, count) if found else y, grad

    if not statistics:
        return op(x, *parameters.values()), {}, None
    y, *fresh, count = op(x, *parameters.values())
    return y, dict(zip(statistics, _stop(fresh))), count


def _stop(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tf.stop_gradient(t) for t in tensors]


# Functions by what they compute, for as long as their kernel exists: a search
# creates thousands of kernels in one process.
_compiled: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = (
    weakref.WeakKeyDictionary()
)


def _piece(function: Callable, plan: Plan) -> Callable:
    """Returns `function` of this plan, compiled if allowed."""
    if plan.xla:
        return _traced(function, plan, jit=True)
    return functools.partial(function, plan)


def _joined(function: Callable, plan: Plan) -> Callable:
    """Returns a piece with averages over the batch, which may all-reduce.

    An all-reduce does not compile; if there is one, the full-size pieces
    inside are compiled separately.
    """
    if plan.synchronized:
        return functools.partial(function, plan)
    return _piece(function, plan)


def _traced(function: Callable, plan: Plan, jit: bool) -> Callable:
    """Returns `function` of this plan as a graph, cached."""
    known = _compiled.setdefault(plan.kernel, {})
    # The cached function must not keep its own key alive.
    rest = dataclasses.replace(plan, kernel=None)
    key = (function, rest, jit)
    if key not in known:
        # A partial, because TensorFlow would count the traces of all closures
        # of the same code together and warn about too many.
        call = functools.partial(
            _call, function, weakref.ref(plan.kernel), rest
        )
        known[key] = tf.function(call, autograph=False, jit_compile=jit)
    return known[key]


def _call(function: Callable, kernel: Any, rest: Plan, *args: Any) -> Any:
    return function(dataclasses.replace(rest, kernel=kernel()), *args)


# -- any kernel: autodiff that recomputes from x, so that only x is saved ------


@functools.singledispatch
def _forward(kernel: Any, plan: Plan, x: Tensor, parameters: Any):
    """Returns what `plain` does, and what backward needs."""
    return *_joined(plain, plan)(x, parameters), None


@functools.singledispatch
def _backward(
    kernel: Any, plan: Plan, saved: Any, dy: Tensor, x: Tensor, parameters: Any
):
    """Returns the gradients of x and, by name, of the parameters."""
    return _joined(_recomputed, plan)(dy, x, parameters)


def _recomputed(plan: Plan, dy: Tensor, x: Tensor, parameters: Any):
    return _gradients(lambda *v: plain(plan, *v)[0], [x, parameters], dy)


def _gradients(function: Callable, sources: Any, dy: Any) -> Any:
    """Returns the gradient of a function of tensors.

    While a graph is built, it uses `tf.gradients`: a tape in a custom gradient
    sees nothing under a ForwardAccumulator, and its zeros would be mistaken for
    a derivative.
    """
    sources = tf.nest.map_structure(tf.identity, sources)
    if tf.executing_eagerly():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = function(*sources)
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(y, sources, dy, zero)
    found = tf.gradients(
        tf.nest.flatten(function(*sources)),
        tf.nest.flatten(sources),
        tf.nest.flatten(dy),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return tf.nest.pack_sequence_as(sources, found)


# -- analytic kernels: three steps forward, three back ------------------------


class _Saved(NamedTuple):
    """What the forward pass of an analytic kernel saves besides x.

    Attributes:
      statistics: moments of every (sample, channel), even if the coefficients
        use only the batch, and moments over the batch.
      count: the number of samples that the latter cover.
    """

    statistics: Statistics
    count: Tensor | None


@_forward.register
def _(kernel: Analytic, plan: Plan, x: Tensor, parameters: Any):
    c, fresh, saved = _joined(_prepare, plan)(x, parameters)
    return _piece(_pointwise, plan)(x, c), fresh, saved.count, saved


def _prepare(plan: Plan, x: Tensor, parameters: Any):
    """Runs steps 1 and 2: returns the coefficients and what they need."""
    kernel, sample, batch, count = plan.kernel, None, None, None
    if kernel.instance or kernel.statistics:
        sample = _piece(sample_moments, plan)(x)
    if kernel.statistics:
        batch, count = moments.batch_moments(_BACKEND, sample, plan)
    statistics = Statistics(sample, batch)
    c = kernel.broadcast(xp, plan, statistics, _all_wide(parameters), x)
    return c, kernel.fresh(statistics), _Saved(statistics, count)


def _pointwise(plan: Plan, x: Tensor, c: Any) -> Tensor:
    c = kernel_lib.expand(xp, c, plan.spatial_axis)
    y = plan.kernel.pointwise.forward(xp, _wide(x), c)
    return tf.cast(y, plan.dtype or x.dtype)


@_backward.register
def _(kernel: Analytic, plan: Plan, saved: _Saved, dy, x, parameters):
    c, d_moments, d_parameters = _joined(_differentiate, plan)(
        saved, dy, x, parameters
    )
    return _piece(_slope, plan)(x, dy, c, d_moments), d_parameters


def _differentiate(plan: Plan, saved: _Saved, dy, x, parameters):
    """Runs steps 1 and 2 of the backward pass.

    Returns:
      The coefficients; mean, d_mean and d_variance of every (sample,
      channel), or None; and the gradients of the parameters.
    """
    sources = _arrays(saved.statistics), _all_wide(parameters)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        c = plan.kernel.broadcast(xp, plan, saved.statistics, sources[1], x)
    d_c = _piece(_sums, plan)(x, dy, c)
    d_statistics, d_parameters = tape.gradient(
        _arrays(c), sources, _arrays(d_c), tf.UnconnectedGradients.ZERO
    )
    d_parameters = {
        name: tf.cast(d, parameters[name].dtype)
        for name, d in d_parameters.items()
    }
    return c, _moment_terms(plan, saved, d_statistics), d_parameters


def _sums(plan: Plan, x: Tensor, dy: Tensor, c: Any) -> Any:
    """Returns the gradient of the coefficients."""
    pointwise = plan.kernel.pointwise
    expanded = kernel_lib.expand(xp, c, plan.spatial_axis)

    def terms(x, dy):
        return pointwise.terms(xp, _wide(x), _wide(dy), expanded)

    sums = moments.spatial_sums(
        xp, terms, [x, dy], plan.spatial_axis, plan.settings
    )
    return pointwise.finish(sums, c)


def _moment_terms(plan: Plan, saved: _Saved, d_statistics: list[Tensor]):
    """Adds the gradient of the batch statistics to that of the moments."""
    (sample, batch), count = saved
    if sample is None:
        return None
    d_mean, d_variance, *d_batch = d_statistics
    if batch is None:
        return sample.mean, d_mean, d_variance
    if plan.synchronized:
        d_batch = _all_reduce_sum(d_batch)
    d_batch_mean, d_batch_variance = (d / count for d in d_batch)
    d_mean += d_batch_mean
    d_mean += 2.0 * d_batch_variance * (sample.mean - batch.mean)
    return sample.mean, d_mean, d_variance + d_batch_variance


def _slope(plan: Plan, x: Tensor, dy: Tensor, c: Any, d_moments: Any):
    """Runs step 3 of the backward pass: returns dx."""

    def expand(t):
        return tf.expand_dims(t, plan.spatial_axis)

    wide, expanded = _wide(x), kernel_lib.expand(xp, c, plan.spatial_axis)
    dx = plan.kernel.pointwise.slope(xp, wide, _wide(dy), expanded)
    if d_moments is not None:
        size = tf.cast(xp.shape(x)[plan.spatial_axis], wide.dtype)
        mean, d_mean, d_variance = d_moments
        d_mean, d_variance = d_mean / size, 2.0 * d_variance / size
        dx += expand(d_mean) + expand(d_variance) * (wide - expand(mean))
    return tf.cast(dx, x.dtype)


_wide = functools.partial(moments.wide, xp)


def _all_wide(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: _wide(t) for name, t in tensors.items()}


def _arrays(structure: Any) -> list[Tensor]:
    """Returns the tensors of nested named tuples, without None."""
    return [t for t in tf.nest.flatten(structure) if t is not None]


# -- second derivatives -------------------------------------------------------


def _second(plan: Plan, names, dy, x, values, *upstream):
    """Returns the gradient of the gradient, by autodiff of the formula."""
    inputs = [dy, x, dict(zip(names, values))]
    upstream = [upstream[0], dict(zip(names, upstream[1:]))]
    second = functools.partial(_second_order, plan)
    if tf.executing_eagerly():
        second = _traced(_second_order, plan, jit=False)
    d_dy, d_x, d_parameters = second(inputs, upstream)
    return [d_dy, d_x, *(d_parameters[name] for name in names)]


def _second_order(plan: Plan, inputs: Any, upstream: Any):
    def first(dy, *sources):
        return _gradients(lambda *v: plain(plan, *v)[0], sources, dy)

    return _gradients(first, inputs, upstream)
