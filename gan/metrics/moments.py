"""Mean and covariance of features in one pass."""

from typing import Self

import numpy as np

Array = np.ndarray
_BLOCK = 4096  # samples per matrix product


class Moments:
    """Count, mean and sum of outer products, in float64.

    Blocks of samples are merged as by Chan et al., 1983. Memory does not grow
    with the number of samples; at most one block of them is buffered, because
    many small products are much slower.
    """

    def __init__(self, size: int):
        """Initializes empty moments.

        Args:
          size: d, features of a sample.
        """
        self._count = 0
        self._mean = np.zeros(size)
        self._outer = np.zeros((size, size))
        self._waiting: list[Array] = []

    @classmethod
    def of(cls, features: Array) -> Self:
        """Returns the moments of features [n, d]."""
        moments = cls(np.shape(features)[-1])
        moments.update(features)
        return moments

    @classmethod
    def known(cls, count: int, mean: Array, covariance: Array) -> Self:
        """Returns moments computed before.

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
        """Returns d, the number of features."""
        return len(self._mean)

    @property
    def count(self) -> int:
        """Returns the number of samples."""
        return self._count + sum(map(len, self._waiting))

    @property
    def mean(self) -> Array:
        """Returns the mean, [d]."""
        self._flush()
        return self._mean

    def update(self, features: Array) -> None:
        """Adds samples.

        Args:
          features: [n, d].

        Raises:
          ValueError: if the shape is wrong or values are not finite.
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

    def covariance(self) -> Array:
        """Returns the unbiased covariance [d, d], divided by n - 1.

        Raises:
          ValueError: if there are fewer than two samples.
        """
        self._flush()
        if self._count < 2:
            raise ValueError(
                "A covariance needs at least two samples. "
                f"Received: count={self._count}"
            )
        return self._outer / (self._count - 1)

    def _flush(self) -> None:
        """Adds the buffered samples."""
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
