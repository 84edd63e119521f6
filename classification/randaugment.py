"""RandAugment, arXiv:1909.13719, stateless.

The 16 operations, their ranges and directions, and the common magnitude are
those of the authors' released code (tensorflow/tpu, models/official/
efficientnet/autoaugment.py), in which Posterize and Solarize become weaker with
increasing magnitude. There are four differences:

- A 17th operation with the same probability does nothing, as in the Model
  Garden.
- Contrast follows Pillow and blends with the mean grey level; that code blends
  with the number of pixels over 256, white for an image of 256 x 256.
- Translation and Cutout, given there in pixels at 224, are fractions of the
  side, so that they are equivalent at any size.
- Values are rounded as by Pillow; the Model Garden's differ by at most 1.

Uncovered pixels are grey, as in that code; the Model Garden mirrors the image
into them.

`classification.garden` has the Model Garden's operations with these draws.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

MAX_MAGNITUDE = 10.0
TRANSLATE = 100 / 224  # Fraction of the side, at the largest magnitude.
CUTOUT = 40 / 224  # Half of a square's side, likewise.
_GREY = 128
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

Operation = Callable[[tf.Tensor, float, tf.Tensor, tf.Tensor], tf.Tensor]


def rand_augment(
    image: tf.Tensor,
    layers: int,
    magnitude: float,
    seed: tf.Tensor,
    operations: dict[str, Operation] | None = None,
) -> tf.Tensor:
    """Applies `layers` random operations, one after another.

    Args:
      image: [H, W, 3], uint8, of static shape.
      layers: number of operations.
      magnitude: 0 to 10, the same for all.
      seed: [2], integers.
      operations: by name; None for those of this module. Each takes the image,
        the magnitude, a sign (+1.0 or -1.0) and a place [2] in [0, 1).
    """
    known = operations or _OPERATIONS
    seeds = tf.random.experimental.stateless_split(seed, 3)
    chosen = tf.random.stateless_uniform(
        [layers], seeds[0], 0, len(OPERATIONS) + 1, tf.int32
    )
    heads = tf.random.stateless_uniform([layers], seeds[1]) < 0.5
    signs = tf.where(heads, 1.0, -1.0)
    places = tf.random.stateless_uniform([layers, 2], seeds[2])
    for k in range(layers):
        before, sign, place = image, signs[k], places[k]

        def branch(name, before=before, sign=sign, place=place):
            return lambda: known[name](before, magnitude, sign, place)

        branches = [branch(name) for name in OPERATIONS]
        image = tf.switch_case(
            chosen[k], [*branches, lambda image=before: image]
        )
        image = tf.ensure_shape(image, before.shape)
    return image


def _lookup(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Replaces each value by table[value], or table[channel, value]."""
    height, width, channels = image.shape
    index = tf.cast(tf.reshape(image, [height, width * channels]), tf.int32)
    if table.shape.rank == 2:
        index += np.tile(256 * np.arange(channels, dtype=np.int32), width)
    values = tf.gather(tf.reshape(table, [-1]), index)
    return tf.reshape(values, image.shape)


def _levels() -> tf.Tensor:
    return tf.range(256, dtype=tf.float32)


def _enhancement(magnitude: float) -> float:
    """Returns the factor of Color, Contrast, Brightness and Sharpness."""
    return magnitude / MAX_MAGNITUDE * 1.8 + 0.1


def _auto_contrast(image, *_):
    low = tf.cast(tf.reduce_min(image, [0, 1]), tf.float32)[:, tf.newaxis]
    high = tf.cast(tf.reduce_max(image, [0, 1]), tf.float32)[:, tf.newaxis]
    stretched = (_levels() - low) * (255 / tf.maximum(high - low, 1))
    table = tf.where(high > low, stretched, _levels())
    # 1e-3, because rounding must not reduce an integer.
    return _lookup(image, tf.saturate_cast(table + 1e-3, tf.uint8))


def _equalize(image, *_):
    height, width, channels = image.shape
    index = tf.cast(tf.reshape(image, [height, width * channels]), tf.int32)
    index += np.tile(256 * np.arange(channels, dtype=np.int32), width)
    counts = tf.math.bincount(
        index, minlength=256 * channels, maxlength=256 * channels
    )
    counts = tf.reshape(counts, [channels, 256])
    brightest = tf.cast(tf.reduce_max(image, [0, 1]), tf.int32)
    last = tf.gather(counts, brightest, batch_dims=1)
    step = (height * width - last)[:, tf.newaxis] // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    equal = (below + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, equal, tf.range(256))
    return _lookup(image, tf.saturate_cast(table, tf.uint8))


def _invert(image, *_):
    return 255 - image


def _posterize(image, magnitude, *_):
    bits = min(int(magnitude / MAX_MAGNITUDE * 4), 8)
    return tf.bitwise.bitwise_and(
        image, tf.cast(256 - 2 ** (8 - bits), "uint8")
    )


def _solarize(image, magnitude, *_):
    threshold = int(magnitude / MAX_MAGNITUDE * 256)
    levels = np.arange(256)
    table = np.where(levels < threshold, levels, 255 - levels)
    return _lookup(image, tf.constant(table, tf.uint8))


def _solarize_add(image, magnitude, *_):
    levels = np.arange(256)
    added = np.clip(levels + int(magnitude / MAX_MAGNITUDE * 110), 0, 255)
    table = np.where(levels < 128, added, levels)
    return _lookup(image, tf.constant(table, tf.uint8))


def _color(image, magnitude, *_):
    factor = _enhancement(magnitude)
    mixed = factor * np.eye(3) + (1 - factor) * _LUMA[:, np.newaxis]
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.float32)
    pixels = tf.matmul(pixels, tf.constant(mixed, tf.float32))
    return tf.reshape(tf.saturate_cast(pixels, tf.uint8), image.shape)


def _contrast(image, magnitude, *_):
    means = tf.reduce_mean(tf.cast(image, tf.float32), [0, 1])
    mean = tf.floor(tf.reduce_sum(means * _LUMA) + 0.5)
    table = mean + _enhancement(magnitude) * (_levels() - mean)
    return _lookup(image, tf.saturate_cast(table, tf.uint8))


def _brightness(image, magnitude, *_):
    table = np.clip(np.arange(256) * _enhancement(magnitude), 0, 255)
    return _lookup(image, tf.constant(table.astype(np.uint8)))


def _sharpness(image, magnitude, *_):
    factor = _enhancement(magnitude)
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    inside = tf.nn.depthwise_conv2d(
        tf.cast(image, tf.float32)[tf.newaxis],
        np.tile(kernel[:, :, np.newaxis, np.newaxis], [1, 1, 3, 1]),
        [1, 1, 1, 1],
        "VALID",
    )[0]
    inside = tf.saturate_cast(inside, tf.uint8)
    # The outermost pixels are unchanged, as in Pillow.
    rows = tf.concat([image[1:-1, :1], inside, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], rows, image[-1:]], axis=0)


def _warp(image: tf.Tensor, matrix: list) -> tf.Tensor:
    """Reads pixel (x, y) at (a x + b y + c, d x + e y + f)."""
    transform = tf.stack([tf.cast(m, tf.float32) for m in (*matrix, 0, 0)])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=transform[tf.newaxis],
        output_shape=image.shape[:2],
        fill_value=float(_GREY),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _rotate(image, magnitude, sign, _):
    angle = sign * (magnitude / MAX_MAGNITUDE * math.pi / 6)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return _warp(
        image,
        [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y],
    )


def _shear_x(image, magnitude, sign, _):
    level = sign * (magnitude / MAX_MAGNITUDE * 0.3)
    return _warp(image, [1, level, 0, 0, 1, 0])


def _shear_y(image, magnitude, sign, _):
    level = sign * (magnitude / MAX_MAGNITUDE * 0.3)
    return _warp(image, [1, 0, 0, level, 1, 0])


def _translate_x(image, magnitude, sign, _):
    pixels = magnitude / MAX_MAGNITUDE * TRANSLATE * image.shape[1]
    return _warp(image, [1, 0, sign * pixels, 0, 1, 0])


def _translate_y(image, magnitude, sign, _):
    pixels = magnitude / MAX_MAGNITUDE * TRANSLATE * image.shape[0]
    return _warp(image, [1, 0, 0, 0, 1, sign * pixels])


def cutout(image, magnitude, _, place):
    """Draws a grey square around a place, clipped at the border."""
    edges = []
    for axis in range(2):
        side = image.shape[axis]
        half = int(magnitude / MAX_MAGNITUDE * CUTOUT * side)
        center = tf.cast(place[axis] * side, tf.int32)
        edges.append(tf.maximum(center - half, 0))
        edges.append(tf.minimum(center + half, side))
    top, bottom, left, right = edges
    rows = image[top:bottom]
    grey = tf.fill([bottom - top, right - left, 3], tf.constant(_GREY, "uint8"))
    rows = tf.concat([rows[:, :left], grey, rows[:, right:]], axis=1)
    return tf.concat([image[:top], rows, image[bottom:]], axis=0)


_OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Cutout": cutout,
}
OPERATIONS = tuple(_OPERATIONS)
