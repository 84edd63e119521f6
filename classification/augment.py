"""Stateless augmentation.

The augmentation of an image is a function of (seed, position in the run), so a
resumed run sees the same images as an uninterrupted one. Images are uint8 in
and out; `normalize` makes them float32.
"""

import numpy as np
import tensorflow as tf

_CROP_PADDING = 32  # Pixels around an evaluation's crop,
_CROP_SIZE = 224  # and the minimum size for which this rule was made.


def normalize(
    images: tf.Tensor, mean: list[float], std: list[float]
) -> tf.Tensor:
    """Returns (image / 255 - mean) / std, with one value or one per channel.

    Args:
      images: [..., H, W, C].
      mean: of pixels in [0, 1].
      std: likewise.

    Returns:
      float32.
    """
    # Broadcast to a full row: an operand with 3 values is read three times
    # slower on CPU than one that fills the cache lines.
    shape = [images.shape[-2] or 1, images.shape[-1]]
    scale = np.broadcast_to(1 / (255 * np.asarray(std)), shape)
    offset = np.broadcast_to(-np.asarray(mean) / np.asarray(std), shape)
    images = tf.cast(images, tf.float32)
    return images * scale.astype(np.float32) + offset.astype(np.float32)


def random_crop(images: tf.Tensor, pad: int, seed: tf.Tensor) -> tf.Tensor:
    """Pads each image with black and crops a window of the original size.

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
    """Flips half of the images [N, H, W, C] horizontally."""
    draw = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(draw < 0.5, tf.reverse(images, [2]), images)


def random_flip_one(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Flips an image [H, W, C] horizontally with probability 1/2."""
    draw = tf.random.stateless_uniform([], seed)
    # Not image[:, ::-1], which is four times slower.
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def inception_window(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws a random part of an image, as in arXiv:1409.4842.

    It has 8 to 100 % of the area and 3/4 to 4/3 of the aspect ratio, or is the
    whole image if ten attempts fail.

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
    """Returns the central square, size / (size + 32) of the shorter side.

    This is the rule of the public EfficientNet code. At 224 it equals ResNet's
    87.5 %, which is also used for smaller sizes.

    Args:
      shape: of the image, [3].
      size: size in pixels to which the part is resized.

    Returns:
      Top, left, height and width, [4].
    """
    # In integers: 7/8 of 8 pixels is 7, not a truncated 6.99.
    shorter = tf.reduce_min(shape[:2])
    # At least one pixel, also for an image that is one pixel high.
    size = max(size, _CROP_SIZE)
    side = tf.maximum(shorter * size // (size + _CROP_PADDING), 1)
    begin = (shape[:2] - side) // 2
    return tf.concat([begin, [side, side]], axis=0)


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes [H, W, C] to [size, size, C], bicubic."""
    image = tf.image.resize(image, [size, size], "bicubic")
    # Adding 0.5 makes the cast round. This is one pass, whereas saturate_cast
    # and clip_by_value make two.
    image = tf.raw_ops.ClipByValue(
        t=image + 0.5, clip_value_min=0.0, clip_value_max=255.0
    )
    return tf.cast(image, tf.uint8)
