"""The layers on JAX: array functions, and statistics across devices.

JAX differentiates the plain formula; only the moments have a hand-written
derivative. Under `jax.jit` this accesses as much memory as the three
hand-written steps of `ops.tensorflow` (measured with the TPU's compiler).

Arrays under `jax.jit` are global, so a plain mean over the batch is one over
all devices. Synchronized statistics are such means. Unsynchronized ones are
those of each data-parallel shard, as each replica has its own on TensorFlow:
the batch is viewed as [shards, N / shards], which XLA computes on the devices
of the shards. Inside `jax.shard_map` and `jax.pmap` arrays are those of one
shard: there a plain mean is the shard's own, and synchronized ones are pooled.
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

from evonorm_tf.ops import kernel, moments
from evonorm_tf.ops.kernel import Plan
from evonorm_tf.ops.moments import Moments
from evonorm_tf.ops.settings import Settings

Array = jax.Array
_BACKEND = sys.modules[__name__]  # The namespace for kernels.
_MOMENTS = "norm_act_moments"
_SAVE_MOMENTS = jax.checkpoint_policies.save_only_these_names(_MOMENTS)


@jax.custom_jvp
def _maximum(a: Array, b: Array) -> Array:
    """Returns the maximum; at a tie the gradient goes to a."""
    return jnp.maximum(a, b)


@_maximum.defjvp
def _maximum_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return jnp.maximum(a, b), jnp.where(b > a, db, da)


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
    mean=jnp.mean,
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
    stack=jnp.stack,
    sum=jnp.sum,
    tanh=jnp.tanh,
    transpose=jnp.transpose,
    where=jnp.where,
    zeros=jnp.zeros,
    zeros_like=jnp.zeros_like,
)


# -- what a layer needs -------------------------------------------------------


def tensor(value: Any) -> Array:
    """Returns an input, or a Keras variable, as an array."""
    # A variable's value depends on the scope: inside a stateless call it is
    # the value that was passed in.
    return jnp.asarray(getattr(value, "value", value))


def assign(variable: Any, value: Array) -> None:
    """Assigns a weight."""
    variable.assign(value)


def static_value(value: Any) -> Any:
    """Returns the Python value of `value`; None for a traced array."""
    if isinstance(value, jax.core.Tracer):
        return None
    return value.item() if isinstance(value, jax.Array | np.ndarray) else value


def with_size(x: Array, axis: int, size: int) -> Array:
    """Returns x, whose sizes are always known."""
    del axis, size
    return x


def reshaped_like(y: Array, x: Array) -> Array:
    """Returns y in the shape of x."""
    return jnp.reshape(y, x.shape)


def accelerated() -> bool:
    """Returns whether the computation is for a GPU or TPU."""
    return jax.default_backend() != "cpu"


def compiles(settings: Settings, xla: str | bool, x: Array) -> bool:
    """Returns True: `jax.jit` compiles everything."""
    del settings, xla, x
    return True


# -- shards -------------------------------------------------------------------

# Names that libraries use for the mesh axis over which the batch is split.
_DATA_AXES = ("batch", "data")


def _data_axis() -> tuple[Any, int, bool]:
    """Finds the mesh axis over which the batch is split.

    It is called "batch" or "data", or is the only one.

    Returns:
      Its name, None if there is no such axis; its size; and whether arrays are
      those of one shard, as in `jax.shard_map` and `jax.pmap`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    sizes = dict(zip(mesh.axis_names, mesh.axis_sizes))
    known = sizes if len(sizes) == 1 else _DATA_AXES
    name = next((name for name in known if name in sizes), None)
    return name, sizes.get(name, 1), name in mesh.manual_axes


def _check_known(plan: Plan) -> None:
    """Rejects shards whose axis is unknown, which could not be pooled."""
    mesh = jax.sharding.get_abstract_mesh()
    name, _, _ = _data_axis()
    if plan.synchronized and mesh.manual_axes and name is None:
        raise ValueError(
            "synchronized=True needs to know the mesh axis over which the "
            f"batch is split: name it {' or '.join(map(repr, _DATA_AXES))}, or "
            "use synchronized=False if each device has the whole batch. "
            f"Received: axes={mesh.axis_names}"
        )


def inside_a_shard() -> bool:
    """Returns whether the batch is already that of one shard."""
    return _data_axis()[2]


def data_shards() -> int:
    """Returns the number of shards of a global batch under `jax.set_mesh`."""
    _, size, inside = _data_axis()
    return 1 if inside else size


def batch_average(
    plan: Plan, terms: Sequence[Array]
) -> tuple[list[Array], int]:
    """Averages over the samples of the batch, or of each of its shards.

    Args:
      plan: the computation.
      terms: each [N, C].

    Returns:
      The averages, each [C], or with several shards [N, C], where every
      sample has that of its shard; and the number of samples that an average
      covers.

    Raises:
      ValueError: if the shards do not divide the batch, or are to be pooled
        over an unknown axis.
    """
    _check_known(plan)
    samples = terms[0].shape[0]
    name, size, inside = _data_axis()
    if plan.synchronized and inside:
        return [jax.lax.pmean(jnp.mean(t, 0), name) for t in terms], (
            samples * size
        )
    shards = 1 if plan.synchronized else plan.shards
    if samples % shards:
        raise ValueError(
            "Unsynchronized batch statistics are those of each shard of the "
            "batch, so the number of samples must be a multiple of the number "
            "of shards; or use synchronized=True. Received: a batch of "
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sample_moments(plan: Plan, x: Array) -> Moments:
    """Returns mean and variance of every (sample, channel), [N, C].

    These are what `Settings.recompute` saves.
    """
    found = moments.spatial_moments(xp, x, plan.spatial_axis, plan.settings)
    return Moments(*(checkpoint_name(t, _MOMENTS) for t in found))


@sample_moments.defjvp
def _sample_moments_jvp(plan, primals, tangents):
    """The derivative by the definition, however the moments are computed.

    Its transpose is one pass over x; that of merged blocks would be many.
    """
    (x,), (dx,) = primals, tangents
    axis = plan.spatial_axis
    sample = sample_moments(plan, x)
    apart = x - jnp.expand_dims(sample.mean, axis)
    d_variance = 2.0 * jnp.mean(apart * dx, axis)
    return sample, Moments(jnp.mean(dx, axis), d_variance)


# -- training -----------------------------------------------------------------

plain = functools.partial(kernel.plain, _BACKEND)


def train(
    plan: Plan, x: Array, parameters: Mapping[str, Array]
) -> tuple[Array, dict[str, Array], int | None]:
    """Computes the layer in training; arguments are those of `kernel.plain`.

    Returns:
      As `kernel.plain`. The statistics are each [C], without a gradient; with
      several shards, the mean over them.
    """
    function = functools.partial(plain, plan)
    if plan.settings.recompute:
        function = jax.checkpoint(function, policy=_SAVE_MOMENTS)
    y, fresh, count = function(x, parameters)
    moved = {k: v if v.ndim == 1 else jnp.mean(v, 0) for k, v in fresh.items()}
    return y, jax.lax.stop_gradient(moved), count
