"""The records of TFRecord files: how many there are, and which are damaged.

The files do not store the number. Counting reads the length of every record, so
it takes as long as reading the dataset if seeking is slow. `write_counts`
stores the numbers next to the files; they are valid as long as the sizes of the
files do not change.
"""

import concurrent.futures
import json
import re
import struct
from collections.abc import Iterable, Iterator

import tensorflow as tf

from evonorm_tf import files

COUNTS_FILE = "record_counts.json"
# Framing of a TFRecord: length, its checksum; the record's checksum.
_HEAD, _TAIL = 12, 4
_GZIP = b"\x1f\x8b"
_WORKERS = 16


def count(path: str) -> int:
    """Returns the number of records in a TFRecord file, from their lengths.

    Raises:
      ValueError: if the file ends within a record or is compressed.
    """
    return sum(1 for _ in _places(path))


def _places(path: str) -> Iterator[int]:
    """Yields the first byte of every record; see `count`."""
    size = files.size(path)
    place = records = 0
    with files.open_binary(path) as file:
        while place < size:
            yield place
            file.seek(place)
            head = file.read(_HEAD)
            if len(head) == _HEAD:
                place += _HEAD + struct.unpack("<Q", head[:8])[0] + _TAIL
            if not records and head.startswith(_GZIP):
                raise ValueError(
                    "A TFRecord file is compressed by gzip. Unpack it first, "
                    f"with gunzip or zcat. Received: path={path!r}"
                )
            if len(head) < _HEAD or place > size:
                raise ValueError(
                    f"{path} is not a complete TFRecord file: it ends within a "
                    "record. Copy it again, or remove it. "
                    f"Received: record={records}, bytes={size}"
                )
            records += 1


def damaged(paths: Iterable[str], error: tf.errors.OpError) -> list[str]:
    """Returns the files in which TensorFlow has found a damaged record.

    Its message says at which byte, but not in which file.

    Args:
      paths: the files that were read, which may be several times the same.
      error: what reading them raised.
    """
    place = re.search(r"record at (\d+)", error.message)
    if place is None or not isinstance(error, tf.errors.DataLossError):
        return []
    with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
        ordered = list(dict.fromkeys(paths))
        there = pool.map(lambda path: _begins(path, int(place[1])), ordered)
        # Whole files have a record at that byte, too.
        return [p for p, begins in zip(ordered, there) if begins and _lost(p)]


def _begins(path: str, place: int) -> bool:
    """Returns whether a record, or what its length precedes, begins there."""
    for found in _places(path):
        if found + _HEAD >= place:
            return place in (found, found + _HEAD)
    return False


def _lost(path: str) -> bool:
    """Returns whether a record of the file does not fit its checksums."""
    try:
        for _ in tf.data.TFRecordDataset(path):
            pass
    except tf.errors.DataLossError:
        return True
    return False


def counts(paths: list[str]) -> list[int]:
    """Returns the number of records in each of some TFRecord files.

    Counts stored by `write_counts` are used if the size is unchanged.

    Raises:
      ValueError: if a file ends within a record or is compressed.
    """
    folders = dict.fromkeys(map(files.parent, paths))
    known = {folder: _known(folder) for folder in folders}

    def one(path: str) -> int:
        stored = known[files.parent(path)]
        size, found = stored.get(files.name(path), (None, None))
        return found if size == files.size(path) else count(path)

    with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(one, paths))


def write_counts(paths: list[str]) -> list[str]:
    """Counts the records and stores the numbers; returns the paths.

    Numbers that are stored for other files of the same folders are kept.
    """
    folders: dict[str, dict] = {}
    for path, found in zip(paths, counts(paths)):
        folder = files.parent(path)
        content = folders.setdefault(folder, _known(folder))
        content[files.name(path)] = [files.size(path), found]
    return [
        files.write(
            files.join(folder, COUNTS_FILE), json.dumps(content, indent=1)
        )
        for folder, content in folders.items()
    ]


def _known(folder: str) -> dict[str, list[int]]:
    """Returns size and number of records by name, as stored in a folder."""
    path = files.join(folder, COUNTS_FILE)
    if not files.exists(path):
        return {}
    try:
        content = json.loads(files.read_text(path))
        return {
            name: [int(size), int(found)]
            for name, (size, found) in content.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The counts of records cannot be read ({error}). Remove the "
            f"file to count them again. Received: path={path!r}"
        ) from error
