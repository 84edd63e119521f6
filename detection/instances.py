"""Converts COCO annotations to training targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from detection import masks
from training.images.folders import Counts

# Each is a name in `Counts`.
CLIPPED, FAR, DROPPED = "clipped", "clipped_far", "dropped"
INVALID = "invalid"
# Rounding in COCO's files puts edges up to this far outside, in pixels.
_HAIR = 1.0


@dataclasses.dataclass(frozen=True)
class Instance:
    """One object.

    Attributes:
      box: left, top, right, bottom in pixels, inside the image.
      label: category id.
      crowd: whether it is a group of objects.
      area: of the object in pixels, as annotated.
      mask: compressed RLE; None without masks.
    """

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    mask: dict | None


def read(
    image: Mapping[str, Any],
    annotations: list[dict],
    with_masks: bool,
    counts: Counts,
) -> list[Instance]:
    """Returns the objects of an image.

    A box that extends beyond the image is clipped; COCO's rounding puts many
    slightly outside. A box without an area inside the image is dropped, with
    its mask. Both are counted.

    Args:
      image: of a `ground_truth.Reader` for training, with height and width.
      annotations: its annotations, of the same.
      with_masks: whether to read segmentations; an annotation without one is
        then skipped and counted.
      counts: is updated.
    """
    instances, height, width = [], image["height"], image["width"]
    for annotation in annotations:
        where = f"annotation id={annotation['id']}, image_id={image['id']}"
        if with_masks and "segmentation" not in annotation:
            counts.note(INVALID, f"{where}: it has no segmentation")
            continue
        box = _box(annotation["bbox"], (width, height), counts, where)
        if box is None:
            continue
        mask = None
        if with_masks:
            mask = masks.rle(annotation["segmentation"], height, width)
        label, crowd = annotation["category_id"], bool(annotation["iscrowd"])
        area = annotation["area"]
        instances.append(Instance(box, label, crowd, area, mask))
        counts["objects"] += 1
        counts["crowds"] += crowd
    return instances


def _box(bbox: list, size: tuple[int, int], counts: Counts, where: str):
    """Returns corners inside an image of (width, height), or None."""
    x, y, width, height = bbox
    corners = (x, y, x + width, y + height)
    limits = (*size, *size)
    box = tuple(
        min(max(value, 0.0), limit) for value, limit in zip(corners, limits)
    )
    if min(width, height) <= 0 or box[2] <= box[0] or box[3] <= box[1]:
        counts.note(DROPPED, f"{where}, bbox={bbox}")
        return None
    outside = max(abs(a - b) for a, b in zip(box, corners))
    if outside > 0:
        counts.note(
            FAR if outside > _HAIR else CLIPPED, f"{where}, bbox={bbox}"
        )
    return box
