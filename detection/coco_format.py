"""The gate that every COCO entry passes before anything reads it.

pycocotools takes what it is given: an annotation id of 0 is no match to it, a
box of NaN is found by every detection, a detection of negative size counts in
no figure. Each function here takes an entry of a file, refuses what could
mislead, fills in what everyone means, and returns the fields that are used,
with their types. Where an entry stands, the caller says.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any

from detection import coco_json, masks
from detection.masks import short

# COCO's figures leave out any object that is larger, in pixels. A box within
# `masks.FARTHEST` is not.
LARGEST_AREA = 1e5**2
_MOST_ID = 2**53
_SHOWN = 5

# What is filled in, and how a report says it.
FILLED = {
    "iscrowd": "annotations have no iscrowd: taken as 0, a single object",
    "area": (
        "annotations have no area: taken from the mask, or from the box where "
        "there is no mask or no image size"
    ),
    "id_0": "annotations have the id 0: renumbered where they are scored",
    "integer": "integers are written as fractions, such as 64.0: read as such",
    "name": "categories have no name: called by their id",
}


class Counts(collections.Counter):
    """How often something was met, and an example of each.

    Attributes:
      first: name of a count to the entry that was first counted.
    """

    def __init__(
        self,
        counts: Mapping[str, int] | None = None,
        first: Mapping[str, str] | None = None,
    ):
        super().__init__(counts)
        self.first: dict[str, str] = dict(first or {})

    def note(self, name: str, where: str) -> None:
        """Counts one more, of the entry `where`."""
        self[name] += 1
        self.first.setdefault(name, where)

    def add(self, other: "Counts") -> None:
        """Adds what was counted elsewhere, later."""
        self.update(other)
        self.first = other.first | self.first

    def lines(self, texts: Mapping[str, str]) -> list[str]:
        """A line for each of the names that was counted, with its text."""
        return [
            f"{self[name]:,} {text} (the first: {self.first[name]})"
            for name, text in texts.items()
            if self[name]
        ]


class Faults:
    """Entries that were refused: all counted, the first ones named.

    Attributes:
      counts: how many of each list of the file.
      first: of each list, its first one's fault and place.
    """

    def __init__(self, path: str):
        """Args: the file that they are in."""
        self._path = path
        self.counts: collections.Counter = collections.Counter()
        self.first: dict[str, str] = {}
        self._shown: list[str] = []

    def add(self, section: str, number: int, entry: Any, why: Any) -> None:
        """Counts an entry; arguments as of `coco_json.name`, and its fault."""
        self.counts[section] += 1
        text = f"{coco_json.name(section, number, entry)}: {why}"
        self.first.setdefault(section, text)
        if len(self._shown) < _SHOWN:
            self._shown.append(text)

    def check(self) -> None:
        """Raises what was found.

        Raises:
          ValueError: any entry was refused.
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
    """An image: id, and file_name, height and width where it has them.

    Args:
      entry: of the file.
      note: called with a key of `FILLED` for each value that is filled in.

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
            f"Received: height={clean['height']}, width={clean['width']}"
        )
    if entry.get("file_name") is not None:
        clean["file_name"] = _text(entry, "file_name")
    return clean


def check_trains(clean: Mapping[str, Any]) -> None:
    """Refuses an image that cannot be read for training.

    Args:
      clean: as `image` returned it.

    Raises:
      ValueError: no file name or no size.
    """
    lacking = [k for k in ("file_name", "height", "width") if k not in clean]
    if lacking:
        raise ValueError(
            f"an image of a training set needs {', '.join(lacking)}; null is "
            f"none. Received: {short(dict(clean))}"
        )


def category(entry: Any, note: Note) -> tuple[int, str]:
    """A category's id and name; arguments as of `image`.

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
    """An object that is there; arguments as of `image`.

    Returns:
      id, image_id, category_id, bbox, iscrowd; area and segmentation (lists
      of points, or a compressed RLE) where it has them.

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
    """Something that was found; arguments as of `image`.

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
    """A value that is an integer, also where it is written as 64.0."""
    value = entry.get(key)
    if type(value) is float and value.is_integer():
        value = int(value)
        note("integer")
    # A bool is an int, but no id.
    if type(value) is not int or not 0 <= value < _MOST_ID:
        missing = " It is missing." if key not in entry else ""
        raise ValueError(
            f"{key} must be an integer from 0 to 2^53; number what is named by "
            f"text.{missing} Received: {key}={short(value)}"
        )
    return value


def _crowd(entry: Mapping, note: Note) -> int:
    value = entry.get("iscrowd")
    if value is None:
        note("iscrowd")
        return 0
    if not isinstance(value, int | float) or value not in (0, 1):
        raise ValueError(
            "iscrowd must be 0, or 1 for a group that is not told apart. "
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
    """[x, y, width, height]; width and height may be 0, as some of COCO's."""
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
