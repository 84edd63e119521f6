"""Mean and covariance of features in one pass, exact and mergeable."""

from typing import Self

import numpy as np

Array = np.ndarray
_BLOCK = 4096  # samples that one product of matrices is for


class Moments:
    """Count, mean and sum of outer products, in float64.

    Chan et al., 1983: what two workers saw, merged, equals what one would
    have. Memory does not grow with the number of samples: at most a block of
    them waits to be added, for many small products take far longer.
    """

    def __init__(self, size: int):
        """Nothing seen yet.

        Args:
          size: d, features of a sample.
        """
        self._count = 0
        self._mean = np.zeros(size)
        self._outer = np.zeros((size, size))
        self._waiting: list[Array] = []

    @classmethod
    def of(cls, features: Array) -> Self:
        """The moments of features [n, d]."""
        moments = cls(np.shape(features)[-1])
        moments.update(features)
        return moments

    @classmethod
    def known(cls, count: int, mean: Array, covariance: Array) -> Self:
        """Moments that were taken before.

        Args:
          count: samples.
          mean: [d].
          covariance: [d, d], unbiased.
        """
        moments = cls(len(mean))
        outer = np.float64(covariance) * (count - 1)
        moments._add(count, np.float64(mean), outer)
        return moments

    @property
    def size(self) -> int:
        """d, features of a sample."""
        return len(self._mean)

    @property
    def count(self) -> int:
        """Samples seen."""
        return self._count + sum(map(len, self._waiting))

    @property
    def mean(self) -> Array:
        """[d]."""
        self._flush()
        return self._mean

    def update(self, features: Array) -> None:
        """Adds samples.

        Args:
          features: [n, d].

        Raises:
          ValueError: another shape, or values that are not finite.
        """
        features = np.array(features)
        if features.ndim != 2 or features.shape[1] != self.size:
            raise ValueError(
                f"Features must be [n, {self.size}]. "
                f"Received: shape={list(features.shape)}"
            )
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features).all(axis=1)).sum())
            raise ValueError(
                "Features must be finite; the images or the extractor are "
                f"broken. Received: {bad} of {len(features)} samples that "
                "are not"
            )
        self._waiting.append(features)
        if sum(map(len, self._waiting)) >= _BLOCK:
            self._flush()

    def merge(self, other: "Moments") -> None:
        """Adds what another has seen.

        Raises:
          ValueError: it saw features of another size.
        """
        if other.size != self.size:
            raise ValueError(
                "Only moments of features of one size merge. Received: "
                f"{self.size} and {other.size}"
            )
        self._flush()
        other._flush()
        self._add(other._count, other._mean, other._outer)

    def covariance(self) -> Array:
        """[d, d], unbiased (divided by n - 1).

        Raises:
          ValueError: fewer than two samples.
        """
        self._flush()
        if self._count < 2:
            raise ValueError(
                "A covariance needs two samples at least. "
                f"Received: count={self._count}"
            )
        return self._outer / (self._count - 1)

    def _flush(self) -> None:
        """Adds what waits."""
        waiting, self._waiting = self._waiting, []
        if not sum(map(len, waiting)):
            return
        features = np.concatenate(waiting).astype(np.float64)
        mean = features.mean(axis=0)
        features -= mean
        self._add(len(features), mean, features.T @ features)

    def _add(self, count: int, mean: Array, outer: Array) -> None:
        total = self._count + count
        if not total:
            return
        shift = mean - self._mean
        weight = self._count * count / total
        self._outer += outer
        self._outer += np.outer(shift, shift * weight)
        self._mean = self._mean + shift * (count / total)
        self._count = total
