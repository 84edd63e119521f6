"""Stateless augmentation: what happens to an image is a pure function of
(seed, position in the run), so that a resumed run sees what an unbroken one
would have seen.

Images are uint8 in and out; `normalize` makes them float32.
"""

import numpy as np
import tensorflow as tf

_CROP_PADDING = 32  # Pixels around an evaluation's images,
_CROP_SIZE = 224  # and the least size of an image that the rule is for.


def normalize(
    images: tf.Tensor, mean: list[float], std: list[float]
) -> tf.Tensor:
    """(image / 255 - mean) / std, for one value or one a channel.

    Args:
      images: [..., H, W, C].
      mean: of pixels in [0, 1].
      std: likewise.

    Returns:
      float32.
    """
    # A row of the whole width: an operand of 3 values is read three times
    # slower on CPU than one that fills the cache lines.
    shape = [images.shape[-2] or 1, images.shape[-1]]
    scale = np.broadcast_to(1 / (255 * np.asarray(std)), shape)
    offset = np.broadcast_to(-np.asarray(mean) / np.asarray(std), shape)
    images = tf.cast(images, tf.float32)
    return images * scale.astype(np.float32) + offset.astype(np.float32)


def random_crop(images: tf.Tensor, pad: int, seed: tf.Tensor) -> tf.Tensor:
    """Pads with black and cuts a window of the old size out, one an image.

    Args:
      images: [N, H, W, C].
      pad: pixels added on each side.
      seed: [2], integers.
    """
    count = tf.shape(images)[0]
    height, width = images.shape[1], images.shape[2]
    images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    corners = tf.random.stateless_uniform(
        [count, 2], seed, 0, 2 * pad + 1, tf.int32
    )
    rows = corners[:, :1] + tf.range(height)
    columns = corners[:, 1:] + tf.range(width)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def random_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images [N, H, W, C], left to right."""
    draw = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(draw < 0.5, tf.reverse(images, [2]), images)


def random_flip_one(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors an image [H, W, C] or not, by a fair coin."""
    draw = tf.random.stateless_uniform([], seed)
    # Not image[:, ::-1], which takes four times as long.
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def inception_window(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random part of an image, as in arXiv:1409.4842.

    8 to 100 % of the area at 3/4 to 4/3 its aspect; the whole image where
    ten attempts find no such part.

    Args:
      shape: of the image, [3].
      seed: [2], integers.

    Returns:
      Top, left, height and width, [4].
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.1,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], axis=0)


def center_window(shape: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of size / (size + 32) of the shorter side.

    The rule of the public EfficientNet code; at 224 it is ResNet's 87.5 %,
    and smaller sizes keep that: the rule was made for none of them.

    Args:
      shape: of the image, [3].
      size: what the part is resized to, in pixels.

    Returns:
      Top, left, height and width, [4].
    """
    # In whole numbers: 7/8 of 8 pixels is 7, not a rounded 6.99.
    shorter = tf.reduce_min(shape[:2])
    # An image one pixel high has a part, too.
    size = max(size, _CROP_SIZE)
    side = tf.maximum(shorter * size // (size + _CROP_PADDING), 1)
    begin = (shape[:2] - side) // 2
    return tf.concat([begin, [side, side]], axis=0)


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """[H, W, C] to [size, size, C], bicubic."""
    image = tf.image.resize(image, [size, size], "bicubic")
    # Half a level more, for the cast cuts off; one pass where saturate_cast
    # and clip_by_value make two.
    image = tf.raw_ops.ClipByValue(
        t=image + 0.5, clip_value_min=0.0, clip_value_max=255.0
    )
    return tf.cast(image, tf.uint8)
