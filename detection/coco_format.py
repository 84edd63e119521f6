"""Validation of COCO entries: images, categories, annotations, results.

pycocotools trusts its input. It takes an annotation id of 0 for "no match",
lets every detection match a box of NaN, and ignores detections of negative
size. Each function here validates one entry of a file, fills in the defaults
that everyone means, and returns the fields that are used. The caller adds to
an error where the entry is.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any

from detection import coco_json, masks
from detection.masks import short

# COCO's figures ignore any object that is larger, in pixels. Boxes within
# `masks.FARTHEST` are not.
LARGEST_AREA = 1e5**2
_MOST_ID = 2**53
_SHOWN = 5

# Defaults that are filled in, and their descriptions in reports.
FILLED = {
    "iscrowd": "annotations have no iscrowd: 0, a single object, is assumed",
    "area": (
        "annotations have no area: that of the mask is used, or that of the "
        "box if there is no mask or no image size"
    ),
    "id_0": "annotations have the id 0: they are renumbered for scoring",
    "integer": "integers are written as floats, such as 64.0",
    "name": "categories have no name: their id is used",
}


class Faults:
    """Invalid entries: counts of all of them, details of the first few.

    Attributes:
      counts: number of invalid entries by list of the file.
      first: list of the file to its first invalid entry and the reason.
    """

    def __init__(self, path: str):
        """Args: the file, for messages."""
        self._path = path
        self.counts: collections.Counter = collections.Counter()
        self.first: dict[str, str] = {}
        self._shown: list[str] = []

    def add(self, section: str, number: int, entry: Any, why: Any) -> None:
        """Adds an entry, named as by `coco_json.name`, and the reason."""
        self.counts[section] += 1
        text = f"{coco_json.name(section, number, entry)}: {why}"
        self.first.setdefault(section, text)
        if len(self._shown) < _SHOWN:
            self._shown.append(text)

    def check(self) -> None:
        """Raises an error if there is any invalid entry.

        Raises:
          ValueError: names the first ones.
        """
        total = self.counts.total()
        if total:
            entries = "1 entry" if total == 1 else f"{total:,} entries"
            first = ":" if total <= _SHOWN else f"; the first {_SHOWN}:"
            raise ValueError(
                f"{self._path}: {entries} must be corrected{first}\n  "
                + "\n  ".join(self._shown)
            )


Note = Callable[[str], None]


def image(entry: Any, note: Note) -> dict[str, Any]:
    """Validates an image.

    Args:
      entry: the entry as in the file.
      note: called with a key of `FILLED` for each default that is filled in.

    Returns:
      id, and file_name, height and width if the entry has them.

    Raises:
      ValueError: an invalid value.
    """
    _check_object(entry)
    clean = {"id": _integer(entry, "id", note)}
    for key in ("height", "width"):
        if entry.get(key) is not None:
            clean[key] = _integer(entry, key, note)
            if not clean[key]:
                raise ValueError(
                    f"{key} must be at least 1, in pixels. Received: {key}=0"
                )
    if clean.get("height", 1) * clean.get("width", 1) >= masks.MOST_PIXELS:
        raise ValueError(
            f"an image must have fewer than {masks.MOST_PIXELS} pixels. "
            f"Received: height={clean.get('height')}, "
            f"width={clean.get('width')}"
        )
    if entry.get("file_name") is not None:
        clean["file_name"] = _text(entry, "file_name")
    return clean


def check_trains(clean: Mapping[str, Any]) -> None:
    """Checks that an image can be used for training.

    Args:
      clean: the image as returned by `image`.

    Raises:
      ValueError: it has no file name or no size.
    """
    lacking = [k for k in ("file_name", "height", "width") if k not in clean]
    if lacking:
        raise ValueError(
            f"an image of a training set needs {', '.join(lacking)}, not "
            f"null. Received: {short(dict(clean))}"
        )


def category(entry: Any, note: Note) -> tuple[int, str]:
    """Validates a category; arguments as for `image`.

    Returns:
      Its id and name.

    Raises:
      ValueError: an invalid value.
    """
    _check_object(entry)
    number = _integer(entry, "id", note)
    if entry.get("name") is None:
        note("name")
        return number, str(number)
    return number, _text(entry, "name")


def annotation(entry: Any, note: Note) -> dict[str, Any]:
    """Validates a ground-truth object; arguments as for `image`.

    Returns:
      id, image_id, category_id, bbox, iscrowd; area and segmentation
      (polygons, or a compressed RLE) if the entry has them.

    Raises:
      ValueError: an invalid value.
    """
    _check_object(entry)
    keys = ("id", "image_id", "category_id")
    clean: dict[str, Any] = {key: _integer(entry, key, note) for key in keys}
    if not clean["id"]:
        note("id_0")
    clean["bbox"] = _box(entry)
    clean["iscrowd"] = _crowd(entry, note)
    if entry.get("area") is None:
        note("area")
    else:
        clean["area"] = _number(entry, "area", 0.0, LARGEST_AREA)
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        clean["segmentation"] = masks.check_rle(segmentation)
    elif segmentation is not None and segmentation != []:
        masks.check_polygons(segmentation)
        clean["segmentation"] = segmentation
    return clean


def detection(entry: Any, note: Note) -> dict[str, Any]:
    """Validates a detection; arguments as for `image`.

    Returns:
      image_id, category_id, score; bbox, segmentation (a compressed RLE) or
      both.

    Raises:
      ValueError: an invalid value.
    """
    _check_object(entry)
    keys = ("image_id", "category_id")
    clean: dict[str, Any] = {key: _integer(entry, key, note) for key in keys}
    clean["score"] = _number(entry, "score")
    if "bbox" in entry:
        clean["bbox"] = _box(entry)
    if "segmentation" in entry:
        if not isinstance(entry["segmentation"], dict):
            raise ValueError(
                "a result's segmentation must be an RLE, {'size': [H, W], "
                "'counts': ...}; leave the key out where there is no mask. "
                f"Received: segmentation={short(entry['segmentation'])}"
            )
        clean["segmentation"] = masks.check_rle(entry["segmentation"])
    if not {"bbox", "segmentation"} & set(clean):
        raise ValueError(
            "a result needs bbox or segmentation. Received: "
            f"keys={short(sorted(map(str, entry)))}"
        )
    return clean


def _check_object(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError(
            f"an entry must be an object, {{...}}. Received: {short(entry)}"
        )


def _integer(entry: Mapping, key: str, note: Note) -> int:
    """An integer, which may be written as 64.0."""
    value = entry.get(key)
    if type(value) is float and value.is_integer():
        value = int(value)
        note("integer")
    # A bool is an int, but no id.
    if type(value) is not int or not 0 <= value < _MOST_ID:
        missing = " It is missing." if key not in entry else ""
        raise ValueError(
            f"{key} must be an integer from 0 to 2^53; replace names by "
            f"numbers.{missing} Received: {key}={short(value)}"
        )
    return value


def _crowd(entry: Mapping, note: Note) -> int:
    value = entry.get("iscrowd")
    if value is None:
        note("iscrowd")
        return 0
    if not isinstance(value, int | float) or value not in (0, 1):
        raise ValueError(
            "iscrowd must be 0, or 1 for a group of objects. "
            f"Received: iscrowd={short(value)}"
        )
    return int(value)


def _number(
    entry: Mapping, key: str, least: float | None = None, most: float = 1e300
) -> float:
    """A finite number, from `least` to `most`."""
    value = entry.get(key)
    least = -most if least is None else least
    valid = type(value) in (int, float)
    # NaN is not between any.
    if not valid or not least <= value <= most:
        missing = " It is missing." if key not in entry else ""
        bounds = f" from {least:g} to {most:g}" if most < 1e300 else ""
        raise ValueError(
            f"{key} must be a finite number{bounds}.{missing} "
            f"Received: {key}={short(value)}"
        )
    return float(value)


def _box(entry: Mapping) -> list[float]:
    """[x, y, width, height]; COCO's files have some of width or height 0."""
    value = entry.get("bbox")
    valid = isinstance(value, list) and len(value) == 4
    valid = valid and all(type(number) in (int, float) for number in value)
    if (
        not valid
        or not all(abs(number) <= masks.FARTHEST for number in value)
        or min(value[2:]) < 0
    ):
        missing = " It is missing." if "bbox" not in entry else ""
        raise ValueError(
            "bbox must be [x, y, width, height], finite numbers of pixels "
            f"of at most {masks.FARTHEST:g}, width and height not negative."
            f"{missing} Received: bbox={short(value)}"
        )
    return value


def _text(entry: Mapping, key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(
            f"{key} must be text, and not empty. Received: {key}={short(value)}"
        )
    return value
