"""The kernel distance of two sets of features, unbiased at any size.

The squared maximum mean discrepancy with the kernel (x y / d + 1)^3, as in
arXiv:1801.01401. On the 2015 Inception network's features it is KID.
"""

import numpy as np

Array = np.ndarray


class Kept:
    """A few of a set's features, chosen at random, in random order.

    At random: images that come class by class would else fill a block each.

    Attributes:
      features: [kept, d], float32.
    """

    def __init__(self, count: int, size: int, kept: int, seed: int = 0):
        """Chooses among `count` samples that `update` will see.

        Args:
          count: samples.
          size: d, features of a sample.
          kept: of them, at most.
          seed: of the choice.
        """
        chosen = np.random.default_rng(seed).permutation(count)[:kept]
        self._places = np.full(count, -1)
        self._places[chosen] = np.arange(len(chosen))
        self._seen = 0
        self.features = np.zeros((len(chosen), size), np.float32)

    def update(self, features: Array) -> None:
        """Looks at the next samples, [n, d]."""
        places = self._places[self._seen : self._seen + len(features)]
        self._seen += len(features)
        self.features[places[places >= 0]] = features[places >= 0]


def distance(
    one: Array, other: Array, block: int, blocks: int
) -> tuple[float, float]:
    """Mean and standard deviation of the kernel distance over blocks.

    Args:
      one: features [m, d], in random order.
      other: features [n, d], likewise.
      block: samples of each set in a block.
      blocks: how many, at most; each sample is in one.

    Raises:
      ValueError: sets of two sizes, or too small for a block.
    """
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            "The two sets must have features of one extractor. Received: "
            f"sizes {one.shape[1]} and {other.shape[1]}"
        )
    fewest = min(len(one), len(other))
    count = min(blocks, fewest // block) if block > 1 else 0
    if not count:
        raise ValueError(
            "A block needs two samples of each set at least, and no more than "
            f"there are. Set kernel_block from 2 to {fewest}. "
            f"Received: kernel_block={block}"
        )
    values = [
        of_block(
            one[k * block : (k + 1) * block], other[k * block : (k + 1) * block]
        )
        for k in range(count)
    ]
    return float(np.mean(values)), float(np.std(values))


def of_block(one: Array, other: Array) -> float:
    """The unbiased estimate of two sets [n, d] of one size; it may be < 0."""
    one, other = np.float64(one), np.float64(other)
    n, d = one.shape

    def kernel(x: Array, y: Array) -> Array:
        return (x @ y.T / d + 1.0) ** 3

    within = 0.0
    for x in (one, other):
        values = kernel(x, x)
        # Without each sample's kernel with itself: these are the bias.
        within += (values.sum() - np.trace(values)) / (n * (n - 1))
    return float(within - 2.0 * kernel(one, other).mean())
