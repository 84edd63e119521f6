"""Sets of images to be measured: a folder, an array in a file, a TFDS set."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from gan import data, experiment

Array = np.ndarray
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_ARRAYS = ("images", "arr_0")
_BATCH = 100
# What Pillow raises on broken files, SyntaxError by its PNG reader.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError)
# Pillow clips them at 255 where it makes them RGB.
_DEEP = ("I", "F")


@dataclasses.dataclass(frozen=True)
class Set:
    """Images of one size.

    Attributes:
      name: what and where, for reports.
      count: how many.
      batches: gives them once, [n, S, S, 3], uint8.
    """

    name: str
    count: int
    batches: Callable[[], Iterator[Array]]


def open_set(place: str, tfds_data_dir: str = "", side: int = 299) -> Set:
    """Opens a set of images.

    Args:
      place: a folder of image files, however deep; an .npz whose array
        "images" or "arr_0" is [n, S, S, 3], uint8; or "tfds:NAME/SPLIT".
      tfds_data_dir: the directory that holds a TFDS set.
      side: pixels that TFDS images of no fixed size are brought to.

    Raises:
      ValueError: no such place, files that cannot be read, mixed sizes.
    """
    if place.startswith("tfds:"):
        dataset, _, split = place.removeprefix("tfds:").partition("/")
        settings = experiment.Data(
            dataset=dataset, split=split, tfds_data_dir=tfds_data_dir
        )
        found = data.open_set(settings, side)
        name = f"{found.name}, {found.side} px"
        return Set(name, len(found), lambda: found.in_order(_BATCH))
    if os.path.isdir(place):
        return _folder(place)
    if os.path.isfile(place) and place.endswith(".npz"):
        return _array(place)
    raise ValueError(
        "A set of images is a folder, an .npz file or tfds:NAME/SPLIT. "
        f"Received: {place!r}"
    )


def _folder(place: str) -> Set:
    paths = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(place)
        for name in names
        if name.lower().endswith(_SUFFIXES)
    )
    if not paths:
        raise ValueError(
            f"There is no image in the folder ({', '.join(_SUFFIXES)}). "
            f"Received: {place!r}"
        )
    first: dict[tuple[int, int], str] = {}
    for path in paths:
        try:
            with Image.open(path) as image:
                _require_8_bits(image)
                first.setdefault(image.size, path)
        except _BROKEN as error:
            raise _unreadable(path, error) from error
    if len(first) > 1:
        examples = ", ".join(
            f"{width}x{height}, {path!r}"
            for (width, height), path in list(first.items())[:3]
        )
        raise ValueError(
            "The images of a folder must share one size: how they are resized "
            "would decide of the number. Resize them all in one way first. "
            f"Received: {len(first)} sizes: {examples}"
        )
    ((width, height),) = first
    formats = sorted({os.path.splitext(path)[1].lower() for path in paths})
    name = (
        f"{os.path.abspath(place)}, {', '.join(formats)}, {width}x{height} "
        f"px, sha256 {_digest(place, paths)}"
    )

    def batches() -> Iterator[Array]:
        for start in range(0, len(paths), _BATCH):
            yield np.stack([_read(p) for p in paths[start : start + _BATCH]])

    return Set(name, len(paths), batches)


def _read(path: str) -> Array:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _digest(place: str, paths: list[str]) -> str:
    """Begins the SHA-256 of files and their names in a folder.

    A reference is of these images, not of what else may come to be there.
    """
    result = hashlib.sha256()
    for path in paths:
        result.update(os.path.relpath(path, place).encode() + b"\0")
        with open(path, "rb") as file:
            result.update(hashlib.file_digest(file, "sha256").digest())
    return result.hexdigest()[:12]


def _require_8_bits(image: Image.Image) -> None:
    """Raises ValueError for pixels that 8 bits do not hold."""
    if image.mode.startswith(_DEEP):
        raise ValueError(
            f"its pixels, of mode {image.mode}, have more than 8 bits; convert "
            "them to 8"
        )


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"An image cannot be read ({error}). Mend or remove it. "
        f"Received: {path!r}"
    )


def _array(place: str) -> Set:
    try:
        with np.load(place, allow_pickle=False) as file:
            key = next((key for key in _ARRAYS if key in file.files), None)
            keys, pixels = file.files, file[key] if key else None
    except (*_BROKEN, KeyError) as error:
        raise _unreadable(place, error) from error
    if pixels is None:
        raise ValueError(
            "An .npz of images has an array named images or arr_0. "
            f"Received: {place!r} with {keys}"
        )
    if pixels.dtype != np.uint8 or pixels.shape[3:] != (3,) or not len(pixels):
        raise ValueError(
            "Images must be [n, H, W, 3], uint8. Received: "
            f"{place!r} with {key} {list(pixels.shape)}, {pixels.dtype}"
        )

    def batches() -> Iterator[Array]:
        for start in range(0, len(pixels), _BATCH):
            yield pixels[start : start + _BATCH]

    height, width = pixels.shape[1:3]
    name = (
        f"{os.path.abspath(place)}, {width}x{height} px, "
        f"sha256 {_digest(place, [place])}"
    )
    return Set(name, len(pixels), batches)
