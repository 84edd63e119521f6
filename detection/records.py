"""Converts an image and its objects to the tf.Example for training."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow as tf
from official.vision.data import tf_example_builder

from detection import instances, masks
from evonorm_tf import files
from training.images import decoding

# Masks consist of runs, for which this strategy compresses best; OpenCV's
# default choice of filter takes three times as long.
_PACKING = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
]


class ImageFile(NamedTuple):
    """A decoded image file.

    Attributes:
      encoded: JPEG or PNG of the pixels, which other readers of records can
        decode.
      kind: which of the two.
      pixels: [H, W, 3], uint8.
      transparent: number of transparent pixels, composited on white.
    """

    encoded: bytes
    kind: str
    pixels: np.ndarray
    transparent: int


def read_image(image: dict[str, Any], folder: str) -> ImageFile:
    """Reads and decodes an image.

    A JPEG is stored unchanged, and so is a PNG without transparent pixels;
    other formats are converted to a PNG with the same pixels.

    Args:
      image: COCO's entry.
      folder: of the images.

    Raises:
      ValueError: if the file does not exist, cannot be read as an image, or
        has another size than the entry.
    """
    about = f"image id={image['id']}, file_name={image.get('file_name')!r}"
    lacking = {"file_name", "height", "width"} - set(image)
    if lacking:
        raise ValueError(f"An image lacks {sorted(lacking)}. Received: {about}")
    path = files.join(folder, image["file_name"])
    content = decoding.load(path, f"{about}, path={path!r}")
    found = decoding.read(content, about)
    height, width = found.pixels.shape[:2]
    if (width, height) != (image["width"], image["height"]):
        raise ValueError(
            "An image has another size than its annotation, so its boxes "
            f"belong to another picture. Received: {about}, width x height "
            f"{width}x{height}, annotated {image['width']}x{image['height']}"
        )
    encoded, kind = decoding.standardize(content, about)
    if kind not in ("JPEG", "PNG") or found.transparent:
        encoded, kind = tf.io.encode_png(found.pixels).numpy(), "PNG"
    return ImageFile(encoded, kind, found.pixels, found.transparent)


def example(
    image: dict[str, Any],
    encoded: bytes,
    kind: str,
    found: list[instances.Instance],
    with_masks: bool,
) -> tf_example_builder.TfExampleBuilder:
    """Returns the tf.Example of an image for `datasets.Decoder`."""
    height, width = image["height"], image["width"]
    builder = tf_example_builder.TfExampleBuilder()
    builder.add_encoded_image_feature(
        encoded, kind, height, width, 3, str(image["id"]).encode()
    )
    boxes = [one.box for one in found]
    builder.add_boxes_feature(
        xmins=[box[0] / width for box in boxes],
        xmaxs=[box[2] / width for box in boxes],
        ymins=[box[1] / height for box in boxes],
        ymaxs=[box[3] / height for box in boxes],
        labels=[one.label for one in found],
    )
    crowds = [int(one.crowd) for one in found]
    builder.add_ints_feature("image/object/is_crowd", crowds)
    areas = [one.area for one in found]
    if not with_masks:
        return builder.add_floats_feature("image/object/area", areas)
    pictures = [_png(one.mask) for one in found]
    return builder.add_encoded_instance_masks_feature(pictures, areas)


def _png(code: dict) -> bytes:
    done, encoded = cv2.imencode(".png", masks.decode(code), _PACKING)
    if not done:
        raise ValueError("OpenCV could not encode a mask as PNG")
    return encoded.tobytes()
