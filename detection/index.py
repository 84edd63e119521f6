"""COCO's JSON without holding it: where each image and annotation stands.

`json.load` of COCO's 448 MB takes gigabytes. Here the file is read once, a
block at a time, and what is kept is three integers an image or annotation;
an image's annotations are read again from their places when they are asked
for. Categories alone are held.
"""

import json
import os
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO, Self

import numpy as np

_BLOCK = 1 << 20
# An element that is longer is no annotation but a broken file.
_LONGEST = 1 << 26
_SECTIONS = ("images", "annotations", "categories")
_SPACE = " \t\n\r"


class Index:
    """The images of a COCO file, in its order, and their annotations.

    Iterating gives pairs of an image and its annotations, both as in the
    file. A context manager: it holds the file open.

    Attributes:
      path: the file.
      categories: id to name.
      ids: of the images, in the order of the file.
      annotations: how many there are.
    """

    def __init__(self, path: str):
        """Reads the file once.

        Raises:
          ValueError: no such file, no JSON, or not COCO's; an id twice, an
            annotation of no image.
        """
        if not os.path.isfile(path):
            raise ValueError(
                "There is no such annotation file. "
                f"Received: annotations={path!r}"
            )
        self.path = path
        self.categories: dict[int, str] = {}
        # Of images: id, place, length. Of annotations: id, place, length
        # and the image's id.
        columns = {name: array("q") for name in ("images", "annotations")}
        found, categories = set(), []
        for section, place, length, element in elements(path):
            found.add(section)
            if section in columns:
                self._note(columns[section], section, place, length, element)
            elif section == "categories":
                categories.append((place, length))
        self._require(found)
        self._images = np.array(columns["images"], np.int64).reshape(-1, 3)
        self.ids = self._images[:, 0].tolist()
        table = np.array(columns["annotations"], np.int64).reshape(-1, 4)
        del columns
        self.annotations = len(table)
        self._check(table)
        # Stable: an image's annotations keep the order of the file.
        self._table = table[np.argsort(table[:, 3], kind="stable")]
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            for place, length in categories:
                self._category(self._read(place, length))
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[dict, list[dict]]]:
        for row in self._images:
            yield self._pair(row)

    def find(self, image_id: int) -> tuple[dict, list[dict]] | None:
        """An image and its annotations by its id; None where it is not."""
        row = np.flatnonzero(self._images[:, 0] == image_id)
        return self._pair(self._images[row[0]]) if row.size else None

    def _pair(self, row: np.ndarray) -> tuple[dict, list[dict]]:
        number, place, length = row
        first, last = np.searchsorted(self._table[:, 3], [number, number + 1])
        mine = self._table[first:last]
        return (
            self._read(place, length),
            [self._read(one[1], one[2]) for one in mine],
        )

    def _read(self, place: int, length: int) -> dict:
        self._file.seek(place)
        return json.loads(self._file.read(length))

    def _note(self, column, section, place, length, element) -> None:
        number = self._integer(element, section, "id")
        column.extend((number, place, length))
        if section == "annotations":
            column.append(
                self._integer(element, section, "image_id", f"id={number}")
            )

    def _integer(
        self, element: Any, section: str, key: str, about: str = ""
    ) -> int:
        value = element.get(key) if isinstance(element, dict) else None
        # bool is an int; an id is none.
        if type(value) is not int or not 0 <= value < 2**53:
            raise ValueError(
                f"An element of {section!r} needs an integer {key!r}, not "
                "negative and below 2^53. Received: "
                f"file={self.path!r}, {about or str(element)[:60]}, "
                f"{key}={value!r}"
            )
        return value

    def _category(self, element: Any) -> None:
        number = self._integer(element, "categories", "id")
        if number in self.categories or number == 0:
            raise ValueError(
                "Categories' ids must differ and be above 0, which is the "
                f"background's. Received: file={self.path!r}, id={number}"
            )
        self.categories[number] = str(element.get("name", number))

    def _require(self, found: set[str]) -> None:
        missing = sorted(set(_SECTIONS) - found)
        # A test set has images without annotations.
        if missing not in ([], ["annotations"]):
            raise ValueError(
                f"COCO annotations need {missing}, not empty. "
                f"Received: file={self.path!r}"
            )

    def _check(self, table: np.ndarray) -> None:
        for what, numbers in (
            ("images", self._images[:, 0]),
            ("annotations", table[:, 0]),
        ):
            values, counts = np.unique(numbers, return_counts=True)
            if np.any(counts > 1):
                raise ValueError(
                    f"Two of the {what} have the same id. Received: "
                    f"file={self.path!r}, id={values[counts > 1][0]}"
                )
        stray = ~np.isin(table[:, 3], self._images[:, 0])
        if np.any(stray):
            number, _, _, image = table[stray][0]
            raise ValueError(
                "An annotation is of an image that is not there. Received: "
                f"file={self.path!r}, annotation id={number}, "
                f"image_id={image}"
            )


def elements(path: str) -> Iterator[tuple[str, int, int, Any]]:
    """The elements of the arrays of a JSON object, one at a time.

    Args:
      path: of the JSON.

    Yields:
      The array's key, the element's place and length in bytes, and the
      element. Text in it that is not ASCII is not decoded; read the place
      for that.

    Raises:
      ValueError: no JSON, or no object.
    """
    with open(path, "rb") as file:
        text = _Text(file, path)
        text.expect("{")
        while text.peek() != "}":
            key, _, _ = text.value()
            text.expect(":")
            if text.peek() != "[":
                text.value()
            else:
                text.expect("[")
                while text.peek() != "]":
                    element, place, length = text.value()
                    yield key, place, length, element
                    if text.peek() != "]":
                        text.expect(",")
                text.expect("]")
            if text.peek() != "}":
                text.expect(",")


class _Text:
    """JSON's tokens from a file that is read in blocks.

    Bytes are taken for Latin-1, one character each, so that a place in the
    text is a place in the file; JSON's own characters are all ASCII.
    """

    def __init__(self, file: BinaryIO, path: str):
        self._file, self._path = file, path
        self._buffer, self._at, self._start = "", 0, 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def _more(self) -> None:
        """Drops what was read and doubles what is left."""
        left = self._buffer[self._at :]
        if len(left) > _LONGEST:
            self._refuse(f"an element of more than {_LONGEST} bytes")
        block = self._file.read(max(_BLOCK, len(left)))
        self._ended = not block
        self._start += self._at
        self._buffer, self._at = left + block.decode("latin-1"), 0

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._at < len(self._buffer):
                character = self._buffer[self._at]
                if character not in _SPACE:
                    return character
                self._at += 1
            if self._ended:
                self._refuse("it ends too early")
            self._more()

    def expect(self, character: str) -> None:
        """Passes one character."""
        if self.peek() != character:
            self._refuse(f"expected {character!r}")
        self._at += 1

    def value(self) -> tuple[Any, int, int]:
        """The next value, its place and its length in bytes."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._refuse(error.msg)
            else:
                # A number may go on in the next block.
                if end < len(self._buffer) or self._ended:
                    break
            self._more()
        place, length = self._start + self._at, end - self._at
        self._at = end
        return value, place, length

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"This is no JSON of COCO's format: {why}, at byte "
            f"{self._start + self._at}. Received: file={self._path!r}"
        )
