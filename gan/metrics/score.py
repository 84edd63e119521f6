"""The class score, exp(E KL(p(y|x) || p(y))), in one pass.

With the 2015 Inception network's logits it is the Inception score
(arXiv:1606.03498); with any other classifier's it is not comparable to it.
"""

import numpy as np

Array = np.ndarray


class ClassScore:
    """Sums for the score of each split; memory is splits x classes.

    exp(mean_x sum_y p log p - sum_y q log q), where q is the mean of p.
    """

    def __init__(
        self, count: int, classes: int, splits: int = 10, seed: int = 0
    ):
        """Assigns `count` samples to the splits.

        Randomly, because images sorted by class would otherwise fill one split
        each, and the score of every split would be 1.

        Args:
          count: samples that `update` will receive.
          classes: number of logits.
          splits: equal parts, at most `count`; the mean and deviation are
            over them.
          seed: of the assignment.
        """
        order = np.random.default_rng(seed).permutation(count)
        self._split = order % splits
        self._seen = 0
        self._counts = np.bincount(self._split, minlength=splits)
        self._entropies = np.zeros(splits)
        self._sums = np.zeros((splits, classes))

    def update(self, logits: Array) -> None:
        """Adds the next samples.

        Args:
          logits: [n, classes].

        Raises:
          ValueError: if the shape is wrong or there are too many samples.
        """
        logits = np.asarray(logits, np.float64)
        classes = self._sums.shape[1]
        if logits.ndim != 2 or logits.shape[1] != classes:
            raise ValueError(
                f"Logits must be [n, {classes}]. "
                f"Received: shape={list(logits.shape)}"
            )
        split = self._split[self._seen : self._seen + len(logits)]
        if len(split) < len(logits):
            raise ValueError(
                f"{len(self._split)} samples were announced. Received: "
                f"{self._seen + len(logits)}"
            )
        self._seen += len(logits)
        logits = logits - logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        np.add.at(self._entropies, split, _p_log_p(p, log_p).sum(axis=1))
        np.add.at(self._sums, split, p)

    def result(self) -> tuple[float, float]:
        """Returns mean and (biased) standard deviation over the splits.

        Raises:
          ValueError: if samples are missing.
        """
        if self._seen != len(self._split):
            raise ValueError(
                f"{len(self._split)} samples were announced. "
                f"Received: {self._seen}"
            )
        q = self._sums / self._counts[:, np.newaxis]
        # log 0 is only multiplied by 0.
        log_q = np.log(np.where(q > 0, q, 1.0))
        information = self._entropies / self._counts
        information -= _p_log_p(q, log_q).sum(axis=1)
        scores = np.exp(information)
        return float(scores.mean()), float(scores.std())


def _p_log_p(p: Array, log_p: Array) -> Array:
    """Returns p * log p, 0 where p is 0, which some classifiers return."""
    return np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0)
