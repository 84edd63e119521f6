"""Kernels: what a layer computes, apart from Keras and the array library.

There are two kinds with one interface, `plain` and `statistics`:

    Analytic  moments of every (sample, channel), coefficients from them, and
              an element-wise step with hand-written derivatives;
    General   any function of x, differentiated by the backend.

Kernels compute with `xp`, a namespace of array functions that each backend
(`ops.tensorflow`, `ops.jax`) provides. They import neither.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from evonorm_tf.ops import moments as moments_lib
from evonorm_tf.ops.moments import Moments
from evonorm_tf.ops.settings import Settings

Array = Any


class Statistic(NamedTuple):
    """A batch statistic with a moving average, [C].

    Attributes:
      name: the name of the weight that holds the moving average.
      initial: its initial value.
    """

    name: str
    initial: float


MOVING_MEAN = Statistic("moving_mean", 0.0)
MOVING_VARIANCE = Statistic("moving_variance", 1.0)
MOVING_MEAN_SQUARE = Statistic("moving_mean_square", 1.0)


class Statistics(NamedTuple):
    """What the coefficients of an analytic kernel are computed from.

    Attributes:
      sample: moments of every (sample, channel), [N, C]; None if the kernel
        does not read them.
      batch: moments over the batch, [C], or [N, C] where every sample has
        those of its own shard; moving averages at inference, where a moment
        without a moving average is None.
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
      parameters: names of the tensors that come with x, in order.
      settings: how sums and moments are taken, resolved.
      epsilon: added inside every square root.
      groups: number of channel groups, for kernels that have them.
      spatial_axis: the axis of the flattened space, 1 for [N, S, C] and 2
        for [N, C, S].
      synchronized: pool batch statistics over all replicas or shards.
      shards: the number of data-parallel shards of a global batch (JAX).
      xla: compile the training computation (TensorFlow).
      dtype: name of the output's dtype; None for that of x.
    """

    kernel: "Analytic | General"
    parameters: tuple[str, ...]
    settings: Settings
    epsilon: float = 1e-5
    groups: int = 1
    spatial_axis: int = 1
    synchronized: bool = False
    shards: int = 1
    xla: bool = False
    dtype: str | None = None


class Pointwise(NamedTuple):
    """The element-wise step y = f(x; c), with its derivatives.

    x and dy are [N, s, C] (or [N, C, s]) in the compute dtype. c is the
    kernel's tuple of coefficients, each [N, 1, C] (or [N, C, 1]) or None.

    Attributes:
      forward: (xp, x, c) -> y.
      terms: (xp, x, dy, c) -> full-size arrays by name; the backward pass
        needs their sums over space and no others.
      finish: (xp, sums, c) -> the gradient of every coefficient, a tuple like
        c, from the sums by name; all small.
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

    @property
    def measures(self) -> bool:
        """Whether training takes moments."""
        return self.instance or bool(self.statistics)

    def plain(
        self,
        backend: Any,
        plan: Plan,
        x: Array,
        values: Sequence[Array],
        moving: Mapping[str, Array] | None = None,
    ) -> tuple[Array, list[Array]]:
        """The plain formula, which the backend can differentiate.

        Args:
          backend: `ops.tensorflow` or `ops.jax`.
          plan: the computation.
          x: [N, S, C] (or [N, C, S]) in the compute dtype.
          values: of the plan's parameters, in order, [C] or [N, C].
          moving: moving averages by name, [C], to be used at inference;
            None to take the statistics of this batch.

        Returns:
          y, like x, and the fresh batch statistics in the order of
          `statistics`; none of them at inference.
        """
        statistics = self._statistics(backend, plan, x, moving)
        c = self.broadcast(backend.xp, plan, statistics, values, x)
        expanded = expand(backend.xp, c, plan.spatial_axis)
        y = self.pointwise.forward(backend.xp, x, expanded)
        return y, [] if moving is not None else self.fresh(statistics)

    def fresh(self, statistics: Statistics) -> list[Array]:
        """The batch statistics, in the order of their moving averages."""
        if not self.statistics:
            return []
        by_name = {
            MOVING_MEAN.name: statistics.batch.mean,
            MOVING_VARIANCE.name: statistics.batch.variance,
        }
        return [by_name[statistic.name] for statistic in self.statistics]

    def broadcast(
        self,
        xp: Any,
        plan: Plan,
        statistics: Statistics,
        values: Sequence[Array],
        x: Array,
    ) -> Any:
        """The coefficients, each [N, C], so that autodiff sums over n."""
        parameters = dict(zip(plan.parameters, values))
        n, *rest = xp.shape(x)
        shape = [n, rest[2 - plan.spatial_axis]]
        dtype = moments_lib.compute_dtype(xp, x)
        return _map(
            lambda t: xp.broadcast_to(xp.asarray(t, dtype), shape),
            self.coefficients(xp, statistics, parameters, plan),
        )

    def _statistics(self, backend, plan, x, moving) -> Statistics:
        sample = batch = None
        if self.instance or (self.statistics and moving is None):
            sample = moments_lib.spatial_moments(
                backend.xp, x, plan.spatial_axis, plan.settings
            )
            sample = backend.saved(sample)
        if moving is not None:
            found = (moving.get(s.name) for s in (MOVING_MEAN, MOVING_VARIANCE))
            batch = Moments(*found)
        elif self.statistics:
            batch, _ = moments_lib.batch_moments(backend, sample, plan)
        return Statistics(sample, batch)


@dataclasses.dataclass(frozen=True, eq=False)
class General:
    """A plain function of x, differentiated by the backend.

    Attributes:
      apply: (xp, x [N, S, C], parameters by name, batch, plan) -> y
        [N, S, C], affine included; takes what it needs of the batch from
        `batch`, a `BatchStatistics`.
      statistics: the batch statistics that `apply` takes, in order.
      instance: whether it reads moments of every (sample, channel).
    """

    apply: Callable[..., Array]
    statistics: tuple[Statistic, ...] = ()
    instance: bool = False

    def plain(
        self,
        backend: Any,
        plan: Plan,
        x: Array,
        values: Sequence[Array],
        moving: Mapping[str, Array] | None = None,
    ) -> tuple[Array, list[Array]]:
        """The formula; arguments and result as in `Analytic.plain`."""
        xp, swap = backend.xp, [0, 2, 1]
        batch = BatchStatistics(backend, plan, moving)
        if plan.spatial_axis == 2:
            x = xp.transpose(x, swap)
        parameters = dict(zip(plan.parameters, values))
        y = self.apply(xp, x, parameters, batch, plan)
        if plan.spatial_axis == 2:
            y = xp.transpose(y, swap)
        if moving is not None:
            return y, []
        return y, [batch.fresh[s.name] for s in self.statistics]


class BatchStatistics:
    """The statistics of the batch, as a general kernel asks for them.

    In training: the value of this batch, recorded in `fresh` for the moving
    average. At inference: the moving average of that name. Every method
    returns an array that broadcasts against [N, S, C].
    """

    def __init__(
        self,
        backend: Any,
        plan: Plan,
        moving: Mapping[str, Array] | None = None,
    ):
        self._backend, self._plan, self._moving = backend, plan, moving
        self.fresh: dict[str, Array] = {}

    def mean(self, name: str, x: Array) -> Array:
        """E[x] over batch and space, from [N, S, C]."""
        return self._value(name, lambda: self._average(x))

    def mean_square(self, name: str, x: Array) -> Array:
        """E[x^2] over batch and space."""
        square = self._backend.xp.square
        return self._value(name, lambda: self._average(square(x)))

    def variance(self, name: str, x: Array) -> Array:
        """Biased variance over batch and space."""
        square = self._backend.xp.square

        def fresh():
            centered = x - self._over_space(self._average(x))
            return self._average(square(centered))

        return self._value(name, fresh)

    def _value(self, name: str, fresh: Callable[[], Array]) -> Array:
        if self._moving is not None:
            return self._over_space(self._moving[name])
        self.fresh[name] = fresh()
        return self._over_space(self.fresh[name])

    def _over_space(self, t: Array) -> Array:
        # [C] broadcasts as it is; [N, C], one row per sample, does not.
        return t if len(t.shape) == 1 else t[:, None]

    def _average(self, x: Array) -> Array:
        per_sample = self._backend.xp.mean(x, 1)
        (average,), _ = self._backend.batch_average(self._plan, [per_sample])
        return average


def expand(xp: Any, c: Any, spatial_axis: int) -> Any:
    """Coefficients [N, C] with an axis for the space."""
    return _map(lambda t: xp.expand_dims(t, spatial_axis), c)


def affine(parameters: Mapping[str, Array]) -> tuple[Array, Array]:
    """gamma and beta; 1 and 0 where the layer has none."""
    return parameters.get("gamma", 1.0), parameters.get("beta", 0.0)


def _map(function: Callable[[Array], Array], c: Any) -> Any:
    return type(c)(*(None if t is None else function(t) for t in c))
