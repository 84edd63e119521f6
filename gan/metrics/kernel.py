"""The kernel distance of two sets of features, unbiased at any size.

The squared maximum mean discrepancy with the kernel (x y / d + 1)^3, as in
arXiv:1801.01401. On the 2015 Inception network's features it is KID.
"""

import numpy as np

Array = np.ndarray


class Kept:
    """A random selection of a set's features, in random order.

    The order is random because images sorted by class would otherwise fill one
    block each.

    Attributes:
      features: [kept, d], float32.
    """

    def __init__(self, count: int, size: int, kept: int, seed: int = 0):
        """Chooses among `count` samples that `update` will receive.

        Args:
          count: samples.
          size: d, features of a sample.
          kept: maximum number of samples to keep.
          seed: of the choice.
        """
        chosen = np.random.default_rng(seed).permutation(count)[:kept]
        self._places = np.full(count, -1)
        self._places[chosen] = np.arange(len(chosen))
        self._seen = 0
        self.features = np.zeros((len(chosen), size), np.float32)

    def update(self, features: Array) -> None:
        """Processes the next samples, [n, d]."""
        places = self._places[self._seen : self._seen + len(features)]
        self._seen += len(features)
        self.features[places[places >= 0]] = features[places >= 0]


def distance(
    one: Array, other: Array, block: int, blocks: int
) -> tuple[float, float]:
    """Returns mean and standard deviation of the distance over blocks.

    Args:
      one: features [m, d], in random order.
      other: features [n, d], in another random order.
      block: samples of each set per block, from 2 to those of a set.
      blocks: maximum number, at least 1; each sample is in one.
    """
    count = min(blocks, min(len(one), len(other)) // block)
    values = [
        of_block(
            one[k * block : (k + 1) * block], other[k * block : (k + 1) * block]
        )
        for k in range(count)
    ]
    return float(np.mean(values)), float(np.std(values))


def of_block(one: Array, other: Array) -> float:
    """Returns the unbiased estimate for two sets [n, d]; it may be < 0."""
    one, other = np.float64(one), np.float64(other)
    n, d = one.shape

    def kernel(x: Array, y: Array) -> Array:
        return (x @ y.T / d + 1.0) ** 3

    within = 0.0
    for x in (one, other):
        values = kernel(x, x)
        # Without each sample's kernel with itself, which causes the bias.
        within += (values.sum() - np.trace(values)) / (n * (n - 1))
    return float(within - 2.0 * kernel(one, other).mean())
