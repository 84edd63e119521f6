"""The layers on JAX: array functions, and statistics across devices.

JAX differentiates the plain formula. Under `jax.jit` that reads and writes as
much memory as the three hand-written steps of `ops.tensorflow` do (measured
with the TPU's compiler), so there is no gradient here.

Arrays under `jax.jit` are global: a plain mean over the batch is one over all
devices. That is what synchronized statistics are. Unsynchronized ones are
those of each data-parallel shard, as each replica has its own on TensorFlow:
the batch is seen as [shards, N / shards], which XLA computes where the shards
are.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from evonorm_tf.ops import moments
from evonorm_tf.ops.kernel import Plan
from evonorm_tf.ops.moments import Moments

Array = jax.Array
_BACKEND = sys.modules[__name__]  # What kernels get to compute with.
_MOMENTS = "norm_act_moments"
_SAVE_MOMENTS = jax.checkpoint_policies.save_only_these_names(_MOMENTS)


@jax.custom_jvp
def _maximum(a: Array, b: Array) -> Array:
    """The maximum; at a tie its gradient is that of a, as on TensorFlow."""
    return jnp.maximum(a, b)


@_maximum.defjvp
def _maximum_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return jnp.maximum(a, b), jnp.where(b > a, db, da)


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _mean(x: Array, axis: Any, keepdims: bool = False) -> Array:
    return jnp.mean(x, _axes(axis), keepdims=keepdims)


def _sum(x: Array, axis: Any, keepdims: bool = False) -> Array:
    return jnp.sum(x, _axes(axis), keepdims=keepdims)


xp = SimpleNamespace(
    abs=jnp.abs,
    asarray=jnp.asarray,
    broadcast_to=jnp.broadcast_to,
    cast=jnp.asarray,
    erf=jax.scipy.special.erf,
    exp=jnp.exp,
    expand_dims=jnp.expand_dims,
    float32=jnp.dtype("float32"),
    float64=jnp.dtype("float64"),
    log=jnp.log,
    logical_not=jnp.logical_not,
    maximum=_maximum,
    mean=_mean,
    ones_like=jnp.ones_like,
    relu=jax.nn.relu,
    reshape=jnp.reshape,
    rsqrt=jax.lax.rsqrt,
    shape=lambda x: list(x.shape),
    sigmoid=jax.nn.sigmoid,
    sign=jnp.sign,
    sqrt=jnp.sqrt,
    square=jnp.square,
    squared_difference=lambda a, b: jnp.square(a - b),
    sum=_sum,
    tanh=jnp.tanh,
    transpose=jnp.transpose,
    where=jnp.where,
    zeros=jnp.zeros,
    zeros_like=jnp.zeros_like,
)


# -- what a layer needs -------------------------------------------------------


def tensor(value: Any) -> Array:
    """An input, or a Keras variable, as an array."""
    # A variable's value depends on the scope: inside a stateless call it is
    # the one that was passed in.
    return jnp.asarray(getattr(value, "value", value))


def static_value(value: Any) -> Any:
    """The Python value of `value`; None for a traced array."""
    if isinstance(value, jax.core.Tracer):
        return None
    return value.item() if isinstance(value, jax.Array | np.ndarray) else value


def reshaped_like(y: Array, x: Array) -> Array:
    """y in the shape of x."""
    return jnp.reshape(y, x.shape)


def accelerated() -> bool:
    """Whether the computation is for a GPU or TPU."""
    return jax.default_backend() != "cpu"


# -- shards -------------------------------------------------------------------

# Names of a mesh axis over which the batch is split, as libraries call it.
_DATA_AXES = ("batch", "data")


def data_shards() -> int:
    """How many shards the batch has under the mesh of `jax.set_mesh`.

    The axis of the batch is called "batch" or "data", or is the only one.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return 1
    if len(mesh.axis_names) == 1:
        return mesh.size
    sizes = dict(zip(mesh.axis_names, mesh.axis_sizes))
    found = [sizes[name] for name in _DATA_AXES if name in sizes]
    return found[0] if found else 1


def batch_average(
    plan: Plan, terms: Sequence[Array]
) -> tuple[list[Array], int]:
    """Averages over the samples of the batch, or of each of its shards.

    Args:
      plan: the computation.
      terms: each [N, C].

    Returns:
      The averages, each [C], or with several shards [N, C], where every
      sample has that of its shard; and the number of samples in one.

    Raises:
      ValueError: if the shards do not divide the batch.
    """
    samples = terms[0].shape[0]
    shards = 1 if plan.synchronized else plan.shards
    if samples % shards:
        raise ValueError(
            "Unsynchronized batch statistics are those of each shard of the "
            "batch: the number of samples must be a multiple of the number "
            "of shards, or the layer synchronized=True. Received: a batch of "
            f"{samples}, shards={shards}"
        )
    count = samples // shards
    if shards == 1:
        return [jnp.mean(t, 0) for t in terms], count

    def average(t: Array) -> Array:
        split = jnp.reshape(t, (shards, count, -1))
        mean = jnp.mean(split, 1, keepdims=True)
        return jnp.reshape(jnp.broadcast_to(mean, split.shape), t.shape)

    return [average(t) for t in terms], count


def saved(sample: Moments) -> Moments:
    """The moments, marked as what `Settings.recompute` saves."""
    return Moments(*(checkpoint_name(t, _MOMENTS) for t in sample))


# -- training and inference ---------------------------------------------------


def train(
    x: Array, parameters: Mapping[str, Array], plan: Plan
) -> tuple[Array, dict[str, Array]]:
    """The layer in training, with fresh statistics.

    Args:
      x: [N, S, C] (or [N, C, S], as plan.spatial_axis says), floating.
      parameters: arrays [C], [N, C] or [] by the names in plan.parameters.
      plan: the computation.

    Returns:
      y, of the shape of x and the plan's dtype, and the batch statistics by
      name, each [C]: over several shards, the mean of theirs.
    """
    function = functools.partial(plain, plan)
    if plan.settings.recompute:
        function = jax.checkpoint(function, policy=_SAVE_MOMENTS)
    y, fresh = function(x, [parameters[name] for name in plan.parameters])
    names = [statistic.name for statistic in plan.kernel.statistics]
    moved = [v if v.ndim == 1 else jnp.mean(v, 0) for v in fresh]
    return y, {k: jax.lax.stop_gradient(v) for k, v in zip(names, moved)}


def infer(
    x: Array,
    parameters: Mapping[str, Array],
    moving: Mapping[str, Array],
    plan: Plan,
) -> Array:
    """The layer at inference, with moving statistics.

    Args:
      x: as in `train`.
      parameters: as in `train`.
      moving: the moving statistics by name, [C] each.
      plan: the computation.

    Returns:
      y, of the shape of x and the plan's dtype.
    """
    values = [parameters[name] for name in plan.parameters]
    return plain(plan, x, values, moving)[0]


def plain(
    plan: Plan,
    x: Array,
    values: Sequence[Array],
    moving: Mapping[str, Array] | None = None,
) -> tuple[Array, list[Array]]:
    """The plain formula: y and the fresh batch statistics.

    With `moving`, those are used and no statistics returned.
    """
    if moving is not None:
        moving = {name: _wide(value) for name, value in moving.items()}
    values = [_wide(v) for v in values]
    y, fresh = plan.kernel.plain(_BACKEND, plan, _wide(x), values, moving)
    return y.astype(plan.dtype or x.dtype), fresh


def _wide(x: Array) -> Array:
    """x in the dtype that everything is computed in."""
    return x.astype(moments.compute_dtype(xp, x))
