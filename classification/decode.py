"""Decoding of image files: only the part that is asked for, in any format."""

from collections.abc import Callable

import tensorflow as tf

from training import encoded as files

_ADVICE = (
    "Mend or remove it; `python -m classification.data check` finds all such."
)


def window(
    encoded: tf.Tensor,
    name: tf.Tensor,
    choose: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """The part of an image that `choose` picks.

    Args:
      encoded: a scalar string, the file's bytes.
      name: a scalar string, what an error calls the image.
      choose: from the image's shape [3] to top, left, height and width [4].

    Returns:
      [height, width, 3], uint8.
    """
    return files.window(encoded, name, choose, _ADVICE)


def whole(encoded: tf.Tensor, name: tf.Tensor) -> tf.Tensor:
    """The whole image [H, W, 3], uint8; as `window` otherwise."""
    return window(
        encoded, name, lambda shape: tf.concat([[0, 0], shape[:2]], axis=0)
    )
