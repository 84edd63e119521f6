"""COCO annotations as what a model is trained on, checked one by one."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from detection import masks

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
      crowd: whether it is a group that is not told apart.
      area: of the object in pixels, as annotated.
      mask: compressed RLE; None without masks.
    """

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    mask: dict | None


class Counts(collections.Counter):
    """What was met, and an example of each.

    Attributes:
      first: name of a count to the annotation that was first counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}

    def note(self, name: str, where: str) -> None:
        """Counts one more, of the annotation `where`."""
        self[name] += 1
        self.first.setdefault(name, where)


def read(
    image: Mapping[str, Any],
    annotations: list[dict],
    categories: Mapping[int, str],
    with_masks: bool,
    counts: Counts,
    skip_invalid: bool = False,
) -> list[Instance]:
    """The objects of an image.

    A box that leaves the image is clipped: COCO's rounding puts many a hair
    outside, and they are as good as any. One without an area inside the
    image is dropped, with its mask. Both are counted.

    Args:
      image: COCO's entry, with height and width.
      annotations: its annotations.
      categories: id to name.
      with_masks: whether to read segmentations.
      counts: gets what was met.
      skip_invalid: leave out, and count, what would be an error.

    Raises:
      ValueError: an annotation lacks something or has what cannot be.
    """
    instances = []
    for annotation in annotations:
        where = f"annotation id={annotation.get('id')}, image_id={image['id']}"
        try:
            instance = _instance(image, annotation, with_masks, counts, where)
            if instance and instance.label not in categories:
                raise ValueError(
                    "its category is none of the file's. Received: "
                    f"category_id={instance.label!r}"
                )
        except (TypeError, ValueError) as error:
            if not skip_invalid:
                raise ValueError(f"{where}: {error}") from error
            counts.note(INVALID, f"{where}: {error}")
            continue
        if instance is not None:
            instances.append(instance)
            counts["objects"] += 1
            counts["crowds"] += instance.crowd
    return instances


def _instance(
    image: Mapping, annotation: Mapping, with_masks: bool, counts: Counts, where
) -> Instance | None:
    needed = ["bbox", "category_id", "iscrowd"]
    needed += ["segmentation"] if with_masks else []
    missing = [key for key in needed if key not in annotation]
    if missing:
        raise ValueError(f"it lacks {missing}")
    crowd = annotation["iscrowd"]
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1. Received: iscrowd={crowd!r}")
    size = image["width"], image["height"]
    box = _box(annotation["bbox"], size, counts, where)
    if box is None:
        return None
    mask = None
    if with_masks:
        mask = masks.rle(annotation["segmentation"], size[1], size[0])
    # Of the box where it is not said, as the Model Garden's decoder has it.
    left, top, right, bottom = box
    area = annotation.get("area", (right - left) * (bottom - top))
    label = annotation["category_id"]
    return Instance(box, label, bool(crowd), float(area), mask)


def _box(bbox: Any, size: tuple[int, int], counts: Counts, where: str):
    """Corners inside an image of (width, height); None where none is."""
    if (
        not isinstance(bbox, list)
        or len(bbox) != 4
        or not all(math.isfinite(value) for value in bbox)
    ):
        raise ValueError(
            f"bbox must be [x, y, width, height]. Received: bbox={bbox!r}"
        )
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
