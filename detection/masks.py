"""COCO's segmentations: polygons and run lengths, to and from pixels."""

from typing import Any

import numpy as np
from pycocotools import mask as mask_api


def rle(segmentation: Any, height: int, width: int) -> dict:
    """A segmentation as one compressed RLE, whatever COCO wrote it as.

    Args:
      segmentation: a list of polygons, each [x, y, x, y, ...] in pixels, or
        an RLE {"size": [H, W], "counts": a list, or compressed}.
      height: of the image.
      width: of the image.

    Raises:
      ValueError: an empty one, a polygon of fewer than three points, an RLE
        of another size, or something else altogether.
    """
    if isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon)
        parts = mask_api.frPyObjects(segmentation, height, width)
        return mask_api.merge(parts)
    if isinstance(segmentation, dict) and segmentation.get("counts"):
        size = segmentation.get("size")
        if size != [height, width]:
            raise ValueError(
                f"its RLE is of another size than its image, expected "
                f"[{height}, {width}]. Received: size={size!r}"
            )
        counts = segmentation["counts"]
        if not isinstance(counts, list):
            return {"size": size, "counts": counts}
        if sum(counts) != height * width or min(counts) < 0:
            raise ValueError(
                "its RLE's counts do not add up to its image, expected "
                f"{height * width}. Received: sum(counts)={sum(counts)}"
            )
        return mask_api.frPyObjects(segmentation, height, width)
    raise ValueError(
        "its segmentation is empty or neither polygons nor RLE. Received: "
        f"segmentation={str(segmentation)[:60]}"
    )


def _check_polygon(polygon: Any) -> None:
    whole = isinstance(polygon, list) and len(polygon) % 2 == 0
    if not whole or len(polygon) < 6 or not np.all(np.isfinite(polygon)):
        raise ValueError(
            "its segmentation has a polygon that is none; expected a list of "
            "x, y, x, y, ..., three points at least. Received: "
            f"polygon={str(polygon)[:60]}"
        )


def decode(code: dict) -> np.ndarray:
    """[H, W], uint8, 0 or 1, of a compressed RLE."""
    return mask_api.decode(code)


def encode(mask: np.ndarray) -> dict:
    """[H, W] of 0 and 1 as the compressed RLE that JSON can hold."""
    code = mask_api.encode(np.asfortranarray(mask, np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode()}
