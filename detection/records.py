"""One image and its objects as the tf.Example that a model is trained on."""

import os
from typing import Any

import cv2
from official.vision.data import tf_example_builder
from PIL import Image

from detection import instances, masks

_FORMATS = ("JPEG", "PNG")
# Masks are runs: looking for nothing else packs them best, and OpenCV's own
# choice of filter triples the time.
_PACKING = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
]


def read_image(image: dict[str, Any], folder: str) -> tuple[bytes, str]:
    """The bytes and the format of an image, its header checked.

    Args:
      image: COCO's entry.
      folder: of the images.

    Raises:
      ValueError: no such file, no JPEG or PNG, or another size than said.
    """
    about = f"image id={image['id']}, file_name={image.get('file_name')!r}"
    lacking = {"file_name", "height", "width"} - set(image)
    if lacking:
        raise ValueError(f"An image lacks {sorted(lacking)}. Received: {about}")
    path = os.path.join(folder, image["file_name"])
    try:
        with Image.open(path) as header:
            kind, size = header.format, header.size
    except OSError as error:
        raise ValueError(
            f"An image cannot be read: {error}. Received: {about}"
        ) from error
    if kind not in _FORMATS:
        raise ValueError(
            f"Images must be of {_FORMATS}. Received: {about}, format={kind!r}"
        )
    if size != (image["width"], image["height"]):
        raise ValueError(
            "An image is of another size than its annotation says, so its "
            f"boxes are of another picture. Received: {about}, width x height "
            f"{size[0]}x{size[1]}, annotated "
            f"{image['width']}x{image['height']}"
        )
    with open(path, "rb") as file:
        return file.read(), kind


def example(
    image: dict[str, Any],
    encoded: bytes,
    kind: str,
    found: list[instances.Instance],
    with_masks: bool,
) -> tf_example_builder.TfExampleBuilder:
    """The tf.Example of an image, as `TfExampleDecoder` reads it."""
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
