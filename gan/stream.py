"""Image files decoded while training: a set that does not fit in memory.

The preprocessing is BigGAN's: the centre square of the shorter side, brought
to the network's size by averaging areas (arXiv:1809.11096, appendix C).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from training.images import decoding, labels, readers
from training.images.order import ALONE, Share

_as_written = tf.autograph.experimental.do_not_convert
_ADVICE = "Fix or remove it; `python -m gan.data check` finds all such."


@dataclasses.dataclass(frozen=True)
class Stream:
    """A set of images that are read as they are needed.

    Attributes:
      name: data set, split and how the pixels were made, for reports.
      reader: gives the files' content, labels and names.
      side: pixels of an image, either way.
      classes: labels are below it.
      buffer: records that are shuffled among each other.
    """

    name: str
    reader: readers.Shards | readers.Listed
    side: int
    classes: int
    buffer: int = 1

    def __len__(self) -> int:
        return self.reader.examples

    def decode(
        self,
        number: tf.Tensor,
        image: tf.Tensor,
        label: tf.Tensor,
        name: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Pixels [S, S, 3], uint8, and label of one example."""
        del number  # Nothing is drawn.
        label = labels.inside(
            label, self.classes, name, "task.model.num_classes"
        )
        return centre(image, name, self.side), label

    def in_order(
        self, batch: int, share: Share = ALONE
    ) -> Iterator[np.ndarray]:
        """A share of each `batch` pixels in turn, [n, S, S, 3], uint8.

        All once; of several shares the last batch is filled.
        """

        def load(*element: tf.Tensor) -> tf.Tensor:
            image, _, name = self.reader.read(*element)
            return centre(image, name, self.side)

        elements = self.reader.in_order()
        if share != ALONE:
            fill = elements.take(1).repeat(-len(self) % batch)
            elements = share.of_batches(elements.concatenate(fill), batch)
        stream = elements.map(
            _as_written(load), num_parallel_calls=tf.data.AUTOTUNE
        ).batch(batch // share.pipelines)
        yield from stream.prefetch(2).as_numpy_iterator()


def centre(image: tf.Tensor, name: tf.Tensor, side: int) -> tf.Tensor:
    """The centre square of an image, [side, side, 3], uint8.

    Args:
      image: a scalar string, the file's bytes.
      name: a scalar string, what an error calls the image.
      side: in pixels.
    """
    pixels = decoding.window(image, name, _square, _ADVICE)
    pixels = tf.image.resize(pixels, (side, side), "area")
    return tf.cast(tf.round(pixels), tf.uint8)


def _square(shape: tf.Tensor) -> tf.Tensor:
    """Top, left, height and width of the largest square in the middle."""
    side = tf.minimum(shape[0], shape[1])
    return tf.stack(
        [(shape[0] - side) // 2, (shape[1] - side) // 2, side, side]
    )
