"""Stateless augmentation: what happens to an image is a pure function of
(seed, position in the run), so that a resumed run sees what an unbroken one
would have seen.

Images are uint8 in and out; `normalize` makes them float32.
"""

import tensorflow as tf


def normalize(
    images: tf.Tensor, mean: list[float], std: list[float]
) -> tf.Tensor:
    """(image / 255 - mean) / std, for one value or one a channel."""
    images = tf.cast(images, tf.float32) / 255.0
    return (images - tf.constant(mean)) / tf.constant(std)


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
    return tf.where(draw < 0.5, images[:, :, ::-1], images)


def inception_crop(encoded: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """A random part of a JPEG, decoded alone, resized and maybe mirrored.

    8 to 100 % of the area at 3/4 to 4/3 its aspect, as in arXiv:1409.4842.

    Args:
      encoded: a scalar string, the JPEG's bytes.
      size: side of the result [size, size, 3], in pixels.
      seed: [2], integers.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        tf.zeros([1, 0, 4]),
        seeds[0],
        min_object_covered=0.1,
        area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    return random_flip(_resize(image, size)[tf.newaxis], seeds[1])[0]


def center_crop(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of a JPEG, 87.5 % of its shorter side, resized."""
    shape = tf.image.extract_jpeg_shape(encoded)[:2]
    shorter = tf.cast(tf.reduce_min(shape), tf.float32)
    side = tf.cast(shorter * 0.875, tf.int32)
    begin = (shape - side) // 2
    window = tf.concat([begin, [side, side]], axis=0)
    image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    return _resize(image, size)


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    image = tf.image.resize(image, [size, size], "bicubic")
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
