"""What a norm-act computation is, before any tensor: the static part.

A `Plan` is hashable and complete, so that one compiled function serves every
layer of a model that has the same plan and the same shapes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from evonorm_tf.ops import moments
from evonorm_tf.ops.pointwise import Pointwise
from evonorm_tf.ops.settings import Settings

Tensor = tf.Tensor


class Statistics(NamedTuple):
    """What the coefficients of an analytic row may be made from.

    Attributes:
      mean: of every (sample, channel), [N, C]; None if the row has no use.
      variance: biased, [N, C], or None.
      batch_mean: [C]; of this batch in training, the moving one elsewhere.
      batch_variance: [C], likewise.
    """

    mean: Tensor | None = None
    variance: Tensor | None = None
    batch_mean: Tensor | None = None
    batch_variance: Tensor | None = None

    def named(self) -> dict[str, Tensor | None]:
        """The batch statistics under the names of their moving averages."""
        return {
            "moving_mean": self.batch_mean,
            "moving_variance": self.batch_variance,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """The computation of a row; exactly one of the two kinds.

    Analytic: `pointwise` and `coefficients`; general: `apply`.

    Attributes:
      pointwise: the family, with its hand-written derivatives.
      coefficients: (Statistics, parameters, plan) -> the coefficients of
        `pointwise`, each broadcastable to [N, C].
      instance: whether `coefficients` reads the moments of every (sample,
        channel), and not of the batch alone.
      statistics: names of the batch statistics, with their initial values.
      apply: (x [N, S, C], parameters, batch, plan) -> y, differentiated by
        TensorFlow; asks `batch` (a `BatchStatistics`) for what it needs.
      compiled: functions by what they compute; they go when the row goes,
        as the thousands that a search tries must.
    """

    pointwise: Pointwise | None = None
    coefficients: Callable[..., list[Any]] | None = None
    instance: bool = False
    statistics: tuple[tuple[str, float], ...] = ()
    apply: Callable[..., Tensor] | None = None
    compiled: dict[Any, Any] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @property
    def measures(self) -> bool:
        """Whether training takes moments (step 1)."""
        analytic = self.apply is None
        return analytic and (self.instance or bool(self.statistics))


@dataclasses.dataclass(frozen=True)
class Plan:
    """One site's computation.

    Attributes:
      kernel: the row's computation.
      parameters: names of the tensors that come with x, in order.
      form: how sums and moments are taken; resolved settings.
      epsilon: inside every square root.
      groups: number of channel groups, for rows that have them.
      space: the axis of the flattened space, 1 ([N, S, C]) or 2 ([N, C, S]).
      synchronized: pool batch statistics over replicas.
      xla: compile the training computation.
    """

    kernel: Kernel
    parameters: tuple[str, ...]
    form: Settings
    epsilon: float = 1e-5
    groups: int = 1
    space: int = 1
    synchronized: bool = False
    xla: bool = False


class BatchStatistics:
    """Answers a general row's questions about the batch.

    In training: the value of this batch, pooled over replicas when
    synchronised, and kept in `fresh` for the moving average. Elsewhere: the
    moving value of that name.
    """

    def __init__(
        self,
        moving: Mapping[str, Tensor] | None = None,
        synchronized: bool = False,
    ):
        self._moving = moving
        self._synchronized = synchronized
        self.fresh: dict[str, Tensor] = {}

    def mean(self, name: str, x: Tensor) -> Tensor:
        """E[x] over batch and space, [C], from [N, S, C]."""
        return self._ask(name, lambda: self._average(x))

    def mean_square(self, name: str, x: Tensor) -> Tensor:
        """E[x^2] over batch and space, [C]."""
        return self._ask(name, lambda: self._average(tf.square(x)))

    def variance(self, name: str, x: Tensor) -> Tensor:
        """Biased variance over batch and space, [C]."""

        def fresh():
            return self._average(tf.square(x - self._average(x)))

        return self._ask(name, fresh)

    def _ask(self, name: str, fresh: Callable[[], Tensor]) -> Tensor:
        if self._moving is not None:
            return self._moving[name]
        value = self.fresh[name] = fresh()
        return value

    def _average(self, x: Tensor) -> Tensor:
        count = tf.cast(tf.shape(x)[0], x.dtype)
        total = tf.reduce_sum(tf.reduce_mean(x, 1), 0)
        if self._synchronized:
            total, count = moments.all_reduce_sum([total, count])
        return total / tf.maximum(count, 1.0)
