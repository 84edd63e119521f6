"""Decoding of image files: only the part that is asked for, in any format.

JPEG and PNG are decoded by TensorFlow, a JPEG in the asked part alone. What
does not begin and end as either should goes through Pillow, which also reads
the rest (GIF, BMP, WebP, bytes after a JPEG's end) or else names the record:
TensorFlow's own error would not say which of a million images it was.
"""

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

# First and last bytes of a whole file.
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")


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

    def jpeg():
        part = choose(tf.image.extract_jpeg_shape(encoded))
        return tf.image.decode_and_crop_jpeg(encoded, part, channels=3)

    def png():
        return _cut(tf.io.decode_png(encoded, channels=3), choose)

    def other():
        pixels = tf.numpy_function(_pillow, [encoded, name], tf.uint8)
        pixels.set_shape([None, None, 3])
        return _cut(pixels, choose)

    is_jpeg, is_png = _is(encoded, *_JPEG), _is(encoded, *_PNG)
    kind = tf.where(is_jpeg, 0, tf.where(is_png, 1, 2))
    return tf.switch_case(kind, [jpeg, png, other])


def whole(encoded: tf.Tensor, name: tf.Tensor) -> tf.Tensor:
    """The whole image [H, W, 3], uint8; as `window` otherwise."""
    return window(
        encoded, name, lambda shape: tf.concat([[0, 0], shape[:2]], axis=0)
    )


def _cut(
    image: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    top, left, height, width = tf.unstack(choose(tf.shape(image)))
    return image[top : top + height, left : left + width]


def _is(encoded: tf.Tensor, begin: bytes, end: bytes) -> tf.Tensor:
    length = tf.strings.length(encoded)
    first = tf.strings.substr(encoded, 0, len(begin))
    last = tf.strings.substr(
        encoded, tf.maximum(length - len(end), 0), len(end)
    )
    return (first == begin) & (last == end)


def _pillow(encoded: bytes | np.ndarray, name: bytes | np.ndarray):
    # In a graph they are bytes, outside of one arrays.
    encoded, name = (np.asarray(x, object).item() for x in (encoded, name))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    # What Pillow raises on broken files, SyntaxError by its PNG reader.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"{name.decode(errors='replace')} is no image that can be "
            f"decoded ({error}). Mend or remove it; `python -m "
            "classification.data check` finds all such. Received: "
            f"{len(encoded)} bytes, the first {encoded[:8]!r}"
        ) from error
