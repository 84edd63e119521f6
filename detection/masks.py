"""COCO's segmentations: polygons and run lengths, to and from pixels.

pycocotools decodes a compressed mask without validating it: past the end of a
truncated string it reads whatever memory contains, and either never returns or
gives another mask in each process. So no RLE is decoded before its run lengths
are known to add up to its size.
"""

from typing import Any

import numpy as np
from pycocotools import mask as mask_api

# A run length's six characters of five bits, sign included: pycocotools
# computes a seventh in 32 bits, where it overflows.
_LONGEST_NUMBER = 6
MOST_PIXELS = 1 << 29
# In pixels. Far outside any image, a polygon takes gigabytes to trace.
FARTHEST = 1e5
_LONGEST = 1e6
_NUMBERS = {int, float}


def rle(segmentation: Any, height: int, width: int) -> dict:
    """A segmentation as one compressed RLE, whatever COCO wrote it as.

    Args:
      segmentation: a list of polygons, each [x, y, x, y, ...] in pixels, or
        an RLE {"size": [H, W], "counts": a list, or compressed}.
      height: of the image, in pixels.
      width: of the image, in pixels.

    Raises:
      ValueError: an empty one, a polygon of fewer than three points, an RLE
        of another size or whose runs do not add up to it, or something else
        altogether.
    """
    if isinstance(segmentation, dict):
        code = check_rle(segmentation)
        check_size(code["size"], height, width)
        return code
    check_polygons(segmentation)
    parts = mask_api.frPyObjects(segmentation, height, width)
    return mask_api.merge(parts)


def check_size(size: list[int], height: int, width: int) -> None:
    """Checks that an RLE has the size of its image.

    Raises:
      ValueError: its size is not [height, width].
    """
    if size != [height, width]:
        raise ValueError(
            "the RLE of its segmentation has another size than its image, "
            f"expected [height, width] = [{height}, {width}]. "
            f"Received: size={size!r}"
        )


def check_rle(segmentation: dict) -> dict:
    """Validates and compresses an RLE.

    Runs of length 0 are removed, and their neighbours joined: if two masks
    have one at the same place, pycocotools stops computing their overlap
    there.

    Args:
      segmentation: {"size": [H, W], "counts": a list, or compressed}.

    Raises:
      ValueError: no valid size, or counts that do not add up to it.
    """
    size = _check_sides(segmentation.get("size"))
    counts = segmentation.get("counts")
    pixels = size[0] * size[1]
    if isinstance(counts, str | bytes):
        runs = _uncompress(counts)
    elif isinstance(counts, list) and counts:
        counts = _integers(counts, pixels)
        runs = np.array(counts, np.int64)
    else:
        raise ValueError(
            "its segmentation is empty: the counts of an RLE must be a list "
            f"or a compressed string. Received: counts={short(counts)}"
        )
    total = int(runs.sum())
    if total != pixels or runs.min() < 0:
        raise ValueError(
            "the counts of its RLE do not add up to its size; it was "
            f"truncated, or belongs to another image. Expected {pixels} pixels "
            f"in runs of 0 or more. Received: size={size}, "
            f"sum(counts)={total}, min(counts)={int(runs.min())}"
        )
    if np.all(runs[1:] > 0):
        if isinstance(counts, list):
            return _compress(counts, size)
        text = counts if isinstance(counts, str) else counts.decode("ascii")
        return {"size": size, "counts": text}
    return _compress(_without_empty_runs(runs.tolist()), size)


def _integers(counts: list, pixels: int) -> list[int]:
    """Run lengths as integers: 64.0 is 64."""
    if set(map(type, counts)) <= _NUMBERS and all(
        0 <= run <= pixels and run == int(run) for run in counts
    ):
        return list(map(int, counts))
    raise ValueError(
        "the counts of its RLE must be integers from 0 to its number of "
        f"pixels, {pixels}. Received: counts={short(counts)}"
    )


def _check_sides(size: Any) -> list[int]:
    """[H, W] as integers: 64.0 is 64."""
    if isinstance(size, list | tuple) and len(size) == 2:
        sides = [
            int(side)
            for side in size
            if type(side) in (int, float) and side == side // 1 and side > 0
        ]
        if len(sides) == 2 and sides[0] * sides[1] < MOST_PIXELS:
            return sides
    raise ValueError(
        "the size of its RLE must be [height, width], integers above 0 and "
        f"fewer than {MOST_PIXELS} pixels. Received: size={short(size)}"
    )


def _uncompress(counts: str | bytes) -> np.ndarray:
    """The run lengths of a compressed RLE, as pycocotools defines it.

    A number is a sequence of characters with five bits each, the lowest ones
    first. Bit 5 of a character means that another one follows, bit 4 of the
    last is the sign. From the fourth number on, each is the difference to the
    one before the last.
    """
    data = counts.encode() if isinstance(counts, str) else counts
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63:
        hint = ""
        if data.startswith((b"b'", b'b"')):
            hint = (
                "This is the text of Python bytes: write counts.decode() to "
                "the file, not str(counts). "
            )
        raise ValueError(
            "the counts of its RLE are not a compressed RLE: one or more of "
            f"the characters '0' to 'o'. {hint}"
            f"Received: counts={short(counts)}"
        )
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    lengths = last - first + 1
    if codes[-1] & 32 or lengths.max() > _LONGEST_NUMBER:
        raise ValueError(
            "the counts of its RLE end within a number, or have one that is "
            "too long: the string was truncated. "
            f"Received: counts={short(counts)}"
        )
    shifts = 5 * (np.arange(len(codes)) - np.repeat(first, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, first)
    runs -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _compress(counts: list[int], size: list[int]) -> dict:
    """Valid run lengths as a compressed RLE."""
    code = mask_api.frPyObjects({"size": size, "counts": counts}, *size)
    return {"size": size, "counts": code["counts"].decode()}


def _without_empty_runs(runs: list[int]) -> list[int]:
    """The same mask, with no run of length 0 but the first one, of zeros."""
    joined = [runs[0]]
    value = 0  # Of the run that is last in `joined`.
    for index, run in enumerate(runs[1:], start=1):
        if not run:
            continue
        if index % 2 == value:
            joined[-1] += run
        else:
            joined.append(run)
            value = 1 - value
    return joined


def check_polygons(segmentation: Any) -> None:
    """Validates a list of polygons.

    Raises:
      ValueError: no polygon, one of fewer than three points, numbers that are
        not finite, or points far outside any image.
    """
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(
            "its segmentation is empty or neither polygons nor RLE. Expected "
            "[[x, y, x, y, ...], ...] or {'size': [H, W], 'counts': ...}. "
            f"Received: segmentation={short(segmentation)}"
        )
    for polygon in segmentation:
        _check_polygon(polygon)


def _check_polygon(polygon: Any) -> None:
    whole = isinstance(polygon, list) and len(polygon) % 2 == 0
    if not whole or len(polygon) < 6 or not set(map(type, polygon)) <= _NUMBERS:
        raise ValueError(
            "its segmentation has an invalid polygon; expected a list of "
            "finite numbers x, y, x, y, ..., three points at least. Received: "
            f"polygon={short(polygon)}"
        )
    points = np.array(polygon, np.float64)
    # NaN is not below anything.
    if not np.abs(points).max() <= FARTHEST or _outline(points) > _LONGEST:
        raise ValueError(
            "its segmentation has a polygon whose coordinates are not finite "
            f"or beyond {FARTHEST:g} pixels, or whose outline is longer than "
            f"{_LONGEST:g}. Received: polygon={short(polygon)}"
        )


def _outline(points: np.ndarray) -> float:
    """Length along the axes of x, y, x, y, ...; 0 where it is short."""
    if len(points) * (points.max() - points.min()) <= _LONGEST:
        return 0.0
    return np.abs(np.diff(points.reshape(-1, 2), axis=0)).sum()


def short(value: Any) -> str:
    """The beginning of a value's text."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def decode(code: dict) -> np.ndarray:
    """[H, W], uint8, 0 or 1, of a compressed RLE that was checked."""
    return mask_api.decode(code)


def area(code: dict) -> int:
    """Pixels of a compressed RLE that was checked."""
    return int(mask_api.area(code))


def encode(mask: np.ndarray) -> dict:
    """[H, W] of 0 and 1 as the compressed RLE that JSON can hold."""
    code = mask_api.encode(np.asfortranarray(mask, np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode()}
