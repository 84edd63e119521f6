"""Mean and covariance of features in one pass, exact and mergeable."""

from typing import Self

import numpy as np

Array = np.ndarray


class Moments:
    """Count, mean and sum of outer products, in float64.

    Chan et al., 1983: what two workers saw, merged, equals what one would
    have. Memory does not grow with the number of samples.

    Attributes:
      count: samples seen.
      mean: [d].
    """

    def __init__(self, size: int):
        """Nothing seen yet.

        Args:
          size: d, features of a sample.
        """
        self.count = 0
        self.mean = np.zeros(size)
        self._outer = np.zeros((size, size))

    @classmethod
    def of(cls, features: Array) -> Self:
        """The moments of features [n, d]."""
        moments = cls(np.shape(features)[-1])
        moments.update(features)
        return moments

    @property
    def size(self) -> int:
        """d, features of a sample."""
        return len(self.mean)

    def update(self, features: Array) -> None:
        """Adds samples.

        Args:
          features: [n, d].

        Raises:
          ValueError: another shape, or values that are not finite.
        """
        features = np.asarray(features, np.float64)
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
        if not len(features):
            return
        mean = features.mean(axis=0)
        centred = features - mean
        self._add(len(features), mean, centred.T @ centred)

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
        self._add(other.count, other.mean, other._outer)

    def _add(self, count: int, mean: Array, outer: Array) -> None:
        total = self.count + count
        if not total:
            return
        shift = mean - self.mean
        weight = self.count * count / total
        self._outer = self._outer + outer + np.outer(shift, shift) * weight
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def covariance(self) -> Array:
        """[d, d], unbiased (divided by n - 1).

        Raises:
          ValueError: fewer than two samples.
        """
        if self.count < 2:
            raise ValueError(
                "A covariance needs two samples at least. "
                f"Received: count={self.count}"
            )
        return self._outer / (self.count - 1)
