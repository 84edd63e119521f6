"""Kernels: what a layer computes, independent of Keras and array libraries.

There are two kinds with one interface, `compute` and `statistics`:

    Analytic  moments of every (sample, channel), coefficients from them, and
              an element-wise step with hand-written derivatives;
    General   any function of x, differentiated by the backend.

Kernels compute with `xp`, a namespace of array functions that each backend
(`ops.tensorflow`, `ops.jax`) provides. They import neither.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from evonorm_tf.ops import moments as moments_lib
from evonorm_tf.ops.moments import Moments
from evonorm_tf.ops.settings import Settings

Array = Any


class Statistic(NamedTuple):
    """A batch statistic with a moving average: weight name, initial value."""

    name: str
    initial: float


MOVING_MEAN = Statistic("moving_mean", 0.0)
MOVING_VARIANCE = Statistic("moving_variance", 1.0)
MOVING_MEAN_SQUARE = Statistic("moving_mean_square", 1.0)
_MOMENTS = (MOVING_MEAN, MOVING_VARIANCE)  # In the order of `Moments`.


class Statistics(NamedTuple):
    """The statistics from which an analytic kernel computes coefficients.

    Attributes:
      sample: moments of every (sample, channel), [N, C]; None if the kernel
        does not use them.
      batch: moments over the batch, [C], or [N, C] if every sample has those
        of its own shard; moving averages at inference, where a moment without
        a moving average is None.
    """

    sample: Moments | None = None
    batch: Moments | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static part of one layer's computation.

    A plan is hashable and complete, so that one compiled function serves all
    layers of a model that have the same plan and the same shapes.

    Attributes:
      kernel: the computation.
      settings: how sums and moments are taken, resolved.
      epsilon: added inside every square root.
      groups: number of channel groups, 1 for a layer without them.
      spatial_axis: the axis of the flattened space, 1 for [N, S, C] and 2
        for [N, C, S].
      synchronized: pool batch statistics over all replicas or shards.
      shards: the number of data-parallel shards of a global batch (JAX).
      xla: compile the training computation (TensorFlow).
      dtype: name of the output's dtype; None for that of x.
    """

    kernel: "Analytic | General"
    settings: Settings
    epsilon: float = 1e-5
    groups: int = 1
    spatial_axis: int = 1
    synchronized: bool = False
    shards: int = 1
    xla: bool = False
    dtype: str | None = None

    @property
    def channel_axis(self) -> int:
        """The axis of C, 2 for [N, S, C] and 1 for [N, C, S]."""
        return 3 - self.spatial_axis


def plain(
    backend: Any,
    plan: Plan,
    x: Array,
    parameters: Mapping[str, Array],
    moving: Mapping[str, Array] | None = None,
) -> tuple[Array, dict[str, Array], Any]:
    """The plain formula of a layer, which the backend can differentiate.

    Args:
      backend: `ops.tensorflow` or `ops.jax`.
      plan: the computation.
      x: [N, S, C] (or [N, C, S], as plan.spatial_axis says), floating.
      parameters: by name, [C], [N, C] or [].
      moving: moving averages by name, [C], to be used at inference; None to
        take the statistics of this batch.

    Returns:
      y, of the shape of x and the plan's dtype; the fresh batch statistics by
      name, none of them at inference; and the number of samples that these
      cover, None if there are none.
    """
    xp = backend.xp
    parameters, moving = (
        given and {name: moments_lib.wide(xp, t) for name, t in given.items()}
        for given in (parameters, moving)
    )
    y, fresh, count = plan.kernel.compute(
        backend, plan, moments_lib.wide(xp, x), parameters, moving
    )
    return xp.cast(y, plan.dtype or x.dtype), fresh, count


class Pointwise(NamedTuple):
    """The element-wise step y = f(x; c), with its derivatives.

    x and dy are [N, s, C] (or [N, C, s]) in the compute dtype. c is the
    kernel's named tuple of coefficients, each [N, 1, C] (or [N, C, 1]) or
    None.

    Attributes:
      forward: (xp, x, c) -> y.
      terms: (xp, x, dy, c) -> full-size arrays by name; the backward pass
        needs their sums over space and no others.
      finish: (sums, c) -> the gradient of every coefficient, a tuple like c,
        from the sums by name; all [N, C].
      slope: (xp, x, dy, c) -> dy * df/dx with the coefficients held constant.
    """

    forward: Callable[..., Array]
    terms: Callable[..., Mapping[str, Array]]
    finish: Callable[..., Any]
    slope: Callable[..., Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Analytic:
    """Moments, coefficients and an element-wise step.

    Attributes:
      pointwise: the element-wise step.
      coefficients: (xp, Statistics, parameters by name, plan) -> the named
        tuple of coefficients that `pointwise` takes, each broadcastable to
        [N, C], or None.
      instance: whether `coefficients` reads `Statistics.sample`.
      statistics: batch statistics with moving averages, MOVING_MEAN and
        MOVING_VARIANCE.
    """

    pointwise: Pointwise
    coefficients: Callable[..., Any]
    instance: bool = False
    statistics: tuple[Statistic, ...] = ()

    def compute(
        self,
        backend: Any,
        plan: Plan,
        x: Array,
        parameters: Mapping[str, Array],
        moving: Mapping[str, Array] | None = None,
    ) -> tuple[Array, dict[str, Array], Any]:
        """Computes the layer in the compute dtype; see `plain`."""
        sample = batch = count = None
        if self.instance or (self.statistics and moving is None):
            sample = backend.sample_moments(plan, x)
        if moving is not None:
            batch = Moments(*(moving.get(s.name) for s in _MOMENTS))
        elif self.statistics:
            batch, count = moments_lib.batch_moments(backend, sample, plan)
        statistics = Statistics(sample, batch)
        c = self.broadcast(backend.xp, plan, statistics, parameters, x)
        expanded = expand(backend.xp, c, plan.spatial_axis)
        y = self.pointwise.forward(backend.xp, x, expanded)
        return y, self.fresh(statistics) if moving is None else {}, count

    def fresh(self, statistics: Statistics) -> dict[str, Array]:
        """Returns the batch statistics by the names of moving averages."""
        found = dict(zip(_MOMENTS, statistics.batch or ()))
        return {s.name: found[s] for s in self.statistics}

    def broadcast(
        self,
        xp: Any,
        plan: Plan,
        statistics: Statistics,
        parameters: Mapping[str, Array],
        x: Array,
    ) -> Any:
        """Broadcasts coefficients to [N, C], so that autodiff sums over n."""
        sizes = xp.shape(x)
        shape = [sizes[0], sizes[plan.channel_axis]]
        dtype = moments_lib.compute_dtype(xp, x)
        return _map(
            lambda t: xp.broadcast_to(xp.asarray(t, dtype), shape),
            self.coefficients(xp, statistics, parameters, plan),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class General:
    """A plain function of x, differentiated by the backend.

    Attributes:
      apply: (xp, x [N, S, C], parameters by name, batch, plan) -> y
        [N, S, C], including the affine; gets batch statistics from `batch`, a
        `BatchStatistics`.
      statistics: the batch statistics that `apply` uses.
    """

    apply: Callable[..., Array]
    statistics: tuple[Statistic, ...] = ()

    def compute(
        self,
        backend: Any,
        plan: Plan,
        x: Array,
        parameters: Mapping[str, Array],
        moving: Mapping[str, Array] | None = None,
    ) -> tuple[Array, dict[str, Array], Any]:
        """Computes the layer in the compute dtype; see `plain`."""
        xp, batch = backend.xp, BatchStatistics(backend, plan, moving)

        def swapped(t: Array) -> Array:
            return t if plan.spatial_axis == 1 else xp.transpose(t, (0, 2, 1))

        y = self.apply(xp, swapped(x), parameters, batch, plan)
        return swapped(y), batch.fresh, batch.count


class BatchStatistics:
    """The statistics of the batch, for a general kernel.

    Attributes:
      fresh: in training, the results of `moment`, by name; empty at inference.
      count: the number of samples that they cover; None if there are none.
    """

    def __init__(
        self, backend: Any, plan: Plan, moving: Mapping[str, Array] | None
    ):
        self._backend, self._plan, self._moving = backend, plan, moving
        self.fresh: dict[str, Array] = {}
        self.count: Any = None

    def moment(self, kind: str, name: str, x: Array) -> Array:
        """Returns a moment of x over batch and space.

        Args:
          kind: "mean", "mean_square" or "variance" (biased).
          name: of the moving average, which is the value at inference.
          x: [N, S, C].

        Returns:
          An array that broadcasts against [N, S, C].
        """
        if self._moving is not None:
            return over_space(self._moving[name])
        if kind == "variance":
            x = x - over_space(self._average(x))
        power = x if kind == "mean" else self._backend.xp.square(x)
        self.fresh[name] = self._average(power)
        return over_space(self.fresh[name])

    def _average(self, x: Array) -> Array:
        per_sample = self._backend.xp.mean(x, 1)
        (average,), self.count = self._backend.batch_average(
            self._plan, [per_sample]
        )
        return average


def over_space(t: Array | float) -> Array | float:
    """Expands [N, C] to [N, 1, C]; scalars and [C] are unchanged."""
    return t[:, None] if len(getattr(t, "shape", ())) == 2 else t


def expand(xp: Any, c: Any, spatial_axis: int) -> Any:
    """Expands coefficients [N, C] with an axis for the space."""
    return _map(lambda t: xp.expand_dims(t, spatial_axis), c)


def affine(parameters: Mapping[str, Array]) -> tuple[Array, Array]:
    """Returns gamma and beta; 1 and 0 if the layer has none."""
    return parameters.get("gamma", 1.0), parameters.get("beta", 0.0)


def _map(function: Callable[[Array], Array], c: Any) -> Any:
    return type(c)(*(None if t is None else function(t) for t in c))
