"""The Frechet distance between Gaussians fitted to two sets of features."""

import numpy as np

from gan.metrics.moments import Moments

Array = np.ndarray


def distance(one: Moments, other: Moments) -> float:
    """Returns the Frechet distance of two feature sets (arXiv:1706.08500).

    The bias for a finite set is large and decreases with its size, so compare
    only distances with equal numbers of samples.

    Args:
      one: moments of the first set.
      other: moments of the second, of the same extractor's features.

    Raises:
      ValueError: if a set has fewer than two samples.
    """
    return of_gaussians(
        one.mean, one.covariance(), other.mean, other.covariance()
    )


def of_gaussians(
    mean: Array, covariance: Array, other_mean: Array, other_covariance: Array
) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    With S1 = R R', tr (S1 S2)^(1/2) is the sum of the square roots of the
    eigenvalues of R' S2 R. This matrix is symmetric, so the result is real
    without any tolerance, unlike a general matrix square root.

    Args:
      mean: [d].
      covariance: [d, d], symmetric.
      other_mean: [d].
      other_covariance: [d, d], symmetric.
    """
    mean, other_mean = np.float64(mean), np.float64(other_mean)
    covariance = np.float64(covariance)
    other_covariance = np.float64(other_covariance)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    product = root.T @ other_covariance @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    trace_of_root = np.sqrt(np.clip(eigenvalues, 0.0, None)).sum()
    shift = mean - other_mean
    traces = np.trace(covariance) + np.trace(other_covariance)
    return float(shift @ shift + traces - 2.0 * trace_of_root)
