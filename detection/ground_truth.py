"""COCO ground truth: validated as a whole, then read image by image.

Conversion, the check of a data set, training and evaluation all read
annotations through this module. The file is read once; validated entries go
to a temporary file, and a few integers per annotation are held in memory.
"""

import dataclasses
import pickle
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from detection import coco_format, coco_json, masks
from detection.coco_format import Faults
from training.images.folders import Counts

_SECTIONS = ("images", "annotations", "categories")
_ADD_ONE = (
    "jq '(.categories[].id, .annotations[].category_id) += 1' OLD.json "
    "> NEW.json"
)
_RENUMBER = (
    "jq '.annotations |= [to_entries[] | .value + {id: (.key + 1)}]' OLD.json "
    "> NEW.json"
)
# Columns of tables of integers. Height and width, of an annotation those of
# its RLE, are 0 if there is none; `place` is in the temporary file.
_SHARED = ("number", "id", "height", "width", "place")
_COLUMNS = {
    "images": _SHARED,
    "annotations": (*_SHARED, "image_id", "category_id"),
}


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The contents of a file, in memory.

    Attributes:
      path: the file.
      images: id to image, as returned by `coco_format.image`.
      objects: image id to annotations, as returned by
        `coco_format.annotation`, each with an area.
      categories: id to name.
      filled: counts of the defaults that were filled in.
      maskless: the annotations without a segmentation.
    """

    path: str
    images: dict[int, dict]
    objects: dict[int, list[dict]]
    categories: dict[int, str]
    filled: Counts
    maskless: Faults

    def annotations(self) -> list[dict]:
        """All annotations, by image."""
        return [one for found in self.objects.values() for one in found]


def load(path: str) -> GroundTruth:
    """Reads a file for evaluation.

    Args:
      path: COCO's JSON.

    Raises:
      ValueError: as `Reader`.
    """
    with Reader(path) as reader:
        images, objects = {}, {}
        for image, annotations in reader:
            images[image["id"]] = image
            objects[image["id"]] = annotations
        return GroundTruth(
            *(path, images, objects, reader.categories),
            *(reader.filled, reader.maskless),
        )


def categories(path: str) -> dict[int, str]:
    """Reads the categories of a file, id to name; validates nothing else.

    Args:
      path: COCO's JSON.

    Raises:
      ValueError: the file cannot be read, or a category is invalid.
    """
    found: dict[int, str] = {}
    faults = Faults(path)
    for section, number, entry in coco_json.sections(path):
        if section != "categories" or number is None:
            continue
        try:
            _add_category(found, entry, lambda _: None)
        except ValueError as error:
            faults.add(section, number, entry, error)
    faults.check()
    return found


def check_trainable(categories: Mapping[int, str], path: str) -> None:
    """Checks that no category has the id 0, the background's in training.

    Args:
      categories: id to name.
      path: their file.

    Raises:
      ValueError: one has.
    """
    if 0 in categories:
        raise ValueError(
            "A category has the id 0, which is the background's in training. "
            "Add 1 to every category id, in annotations and results alike: "
            f"{_ADD_ONE}. Received: file={path!r}, name={categories[0]!r}"
        )


class Reader:
    """The images of a COCO file, in its order, and their annotations.

    Iterating gives pairs of an image and its annotations. A context manager:
    it holds a temporary file.

    Attributes:
      path: the file.
      categories: id to name.
      ids: of the images, in the order of the file.
      annotations: how many there are.
      filled: counts of the defaults that were filled in.
      faults: with `skip_invalid`, the entries that were skipped.
      maskless: the annotations without a segmentation.
      repeated: counts of the images that have the file name of another.
    """

    def __init__(
        self, path: str, training: bool = False, skip_invalid: bool = False
    ):
        """Reads the file once.

        Args:
          path: COCO's JSON.
          training: whether every image needs a file name and a size, and
            category ids begin at 1.
          skip_invalid: skip invalid annotations, and invalid images with
            their annotations, instead of raising an error.

        Raises:
          ValueError: the file cannot be read, or has invalid entries; names
            the first ones.
        """
        self.path = path
        self.categories: dict[int, str] = {}
        self.filled, self.repeated = Counts(), Counts()
        self._names: set[int] = set()  # Hashes: names take more memory.
        self.faults, self.maskless = Faults(path), Faults(path)
        self._training, self._skips = training, skip_invalid
        self._left_out: set[int] = set()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._tables = self._read()
            self._check_ids()
            self._check_references()
            if not skip_invalid:
                self.faults.check()
        except BaseException:
            self._file.close()
            raise
        self.ids: list[int] = self._tables["images"]["id"].tolist()
        self.annotations = len(self._tables["annotations"])
        self._places, self._ranges = self._grouped()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[dict, list[dict]]]:
        for index in range(len(self)):
            yield self._pair(index)

    def find(self, image_id: int) -> tuple[dict, list[dict]] | None:
        """An image and its annotations by its id; None where it is not."""
        found = np.flatnonzero(self._tables["images"]["id"] == image_id)
        return self._pair(found[0]) if found.size else None

    def _pair(self, index: int) -> tuple[dict, list[dict]]:
        image = self._load(self._tables["images"]["place"][index])
        first, last = self._ranges[index]
        found = [self._load(place) for place in self._places[first:last]]
        for one in found:
            if "area" not in one:
                one["area"] = _area(one, image)
        return image, found

    def _load(self, place: int) -> Any:
        self._file.seek(place)
        return pickle.load(self._file)

    def _read(self) -> dict[str, np.ndarray]:
        """Validates every entry by itself; returns tables of valid ones."""
        rows = {name: array("q") for name in _COLUMNS}
        found: set[str] = set()
        unnamed = Faults(self.path)  # Categories, which cannot be skipped.
        for section, number, entry in coco_json.sections(self.path):
            if section not in _SECTIONS:
                continue
            if number is None:
                self._check_list(section, entry)
                continue
            found.add(section)

            def note(what: str, entry=(section, number, entry)) -> None:
                self.filled.note(what, coco_json.name(*entry))

            try:
                if section == "categories":
                    _add_category(self.categories, entry, note)
                else:
                    row = self._add(section, number, entry, note)
                    rows[section].extend(row)
            except ValueError as error:
                faults = unnamed if section == "categories" else self.faults
                faults.add(section, number, entry, error)
                number = entry.get("id") if isinstance(entry, dict) else None
                if section == "images" and type(number) is int:
                    self._left_out.add(number)
        unnamed.check()
        self._require(found)
        if self._training:
            check_trainable(self.categories, self.path)
        return {name: _table(rows[name], _COLUMNS[name]) for name in rows}

    def _add(
        self, section: str, number: int, entry: Any, note: coco_format.Note
    ) -> tuple[int, ...]:
        """Validates and stores an image or annotation; returns its row."""
        if section == "images":
            clean = coco_format.image(entry, note)
            if self._training:
                coco_format.check_trains(clean)
            size, others = (clean.get("height", 0), clean.get("width", 0)), ()
            name = clean.get("file_name")
            if hash(name) in self._names:
                where = f"image id={clean['id']}, file_name={name!r}"
                self.repeated.note("file_name", where)
            elif name is not None:
                self._names.add(hash(name))
        else:
            clean = coco_format.annotation(entry, note)
            mask = clean.get("segmentation")
            if mask is None:
                why = (
                    "its segmentation is missing or empty; for boxes alone, "
                    "convert with --no_masks and train with "
                    "task.model.include_mask=False"
                )
                self.maskless.add(section, number, clean, why)
            size = mask["size"] if isinstance(mask, dict) else (0, 0)
            others = clean["image_id"], clean["category_id"]
        place = self._file.tell()
        pickle.dump(clean, self._file)
        return (number, clean["id"], *size, place, *others)

    def _grouped(self) -> tuple[np.ndarray, np.ndarray]:
        """Annotations' places grouped by image; [N, 2], range per image."""
        table = self._tables["annotations"]
        # Stable: an image's annotations keep the order of the file.
        order = np.argsort(table["image_id"], kind="stable")
        owners = table["image_id"][order]
        sides = ("left", "right")
        ranges = [np.searchsorted(owners, self.ids, side) for side in sides]
        return table["place"][order], np.stack(ranges, axis=1)

    def _check_list(self, section: str, value: Any) -> None:
        """Checks that a section without entries is an empty list."""
        if value != []:
            raise ValueError(
                f"{section!r} must be a list. Received: file={self.path!r}, "
                f"{section}={masks.short(value)}"
            )

    def _require(self, found: set[str]) -> None:
        missing = sorted(set(_SECTIONS) - found)
        # A test set has images without annotations.
        if missing not in ([], ["annotations"]):
            raise ValueError(
                f"COCO annotations need {missing}, not empty. "
                f"Received: file={self.path!r}"
            )

    def _check_ids(self) -> None:
        for section, table in self._tables.items():
            ids = table["id"]
            _, first, counts = np.unique(
                ids, return_index=True, return_counts=True
            )
            if np.all(counts == 1):
                continue
            row = first[counts > 1].min()
            twice = table["number"][ids == ids[row]][:2]
            advice = f" Number them anew: {_RENUMBER}." * (
                section == "annotations"
            )
            raise ValueError(
                f"Two of the {section} have the same id.{advice} Received: "
                f"file={self.path!r}, id={ids[row]} at {section}[{twice[0]}] "
                f"and {section}[{twice[1]}]"
            )

    def _check_references(self) -> None:
        """Checks that each annotation has an image and a category."""
        images, table = (self._tables[name] for name in _COLUMNS)
        if not len(images):
            self.faults.check()
        places = _positions(table["image_id"], images["id"])
        owners = images[places]
        known = np.isin(table["category_id"], list(self.categories))
        sized = (table["height"] > 0) & (owners["height"] > 0)
        sized &= owners["width"] > 0
        differs = sized & (
            (table["height"] != owners["height"])
            | (table["width"] != owners["width"])
        )
        bad = (places < 0) | ~known | differs
        for index in np.flatnonzero(bad):
            row = table[index]
            owner = owners[index] if places[index] >= 0 else None
            self._add_misfit(row, owner)
        self._tables["annotations"] = table[~bad]

    def _add_misfit(self, row: np.void, owner: np.void | None) -> None:
        """Adds an annotation to the faults; `owner` is its image's row."""
        ids = {key: int(row[key]) for key in ("id", "image_id")}
        if owner is None and ids["image_id"] in self._left_out:
            if not self._skips:
                return  # The image is counted, and is what to look at.
            why: Any = "its image is invalid"
        elif owner is None:
            why = (
                "its image is not in the file. "
                f"Received: image_id={ids['image_id']}"
            )
        elif row["category_id"] not in self.categories:
            why = (
                "its category is not in the file, expected one of "
                f"{masks.short(sorted(self.categories))}. "
                f"Received: category_id={row['category_id']}"
            )
        else:
            try:
                size = [int(row["height"]), int(row["width"])]
                masks.check_size(size, owner["height"], owner["width"])
            except ValueError as error:
                why = error
        self.faults.add("annotations", int(row["number"]), ids, why)


def _add_category(
    categories: dict[int, str], entry: Any, note: coco_format.Note
) -> None:
    """Validates a category and adds it to the others, id to name."""
    number, name = coco_format.category(entry, note)
    if number in categories or name in categories.values():
        raise ValueError(
            "two categories have the same id or the same name; their "
            f"figures could not be told apart. Received: id={number}, "
            f"name={name!r}"
        )
    categories[number] = name


def _table(values: array, columns: tuple[str, ...]) -> np.ndarray:
    """[N] rows with named columns, of the values row by row."""
    return np.array(values, np.int64).view([(c, np.int64) for c in columns])


def _positions(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The index in `ids` of each wanted one; -1 if it is not there."""
    order = np.argsort(ids)
    found = np.searchsorted(ids, wanted, sorter=order)
    found = order[np.minimum(found, len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)


def _area(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> float:
    """The area in pixels of an annotation without one."""
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        return float(masks.area(mask))
    if mask is not None and {"height", "width"} <= set(image):
        code = masks.rle(mask, image["height"], image["width"])
        return float(masks.area(code))
    return float(annotation["bbox"][2] * annotation["bbox"][3])
