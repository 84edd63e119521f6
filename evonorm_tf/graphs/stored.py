"""Reads graph files, which may be truncated or written by other programs."""

import json
import os
from typing import Any

from evonorm_tf import files

# Maximum size in bytes: a graph takes 1 kB, and its metadata a few.
_MOST = 10**7
_MOST_DIGITS = 20


def read(path: str | os.PathLike) -> Any:
    """Returns the content of a JSON file; `graph.from_json` validates it.

    Raises:
      ValueError: if the file cannot be read, is empty, is not JSON in UTF-8,
        is nested too deeply, has a duplicate key or an integer of more than 20
        digits. NaN and infinity are allowed: a search stores a rejected
        layer's results beside its graph.
    """
    try:
        with files.open_binary(path) as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise ValueError(
            "A layer named *.json must be a file with a graph, but this file "
            f"cannot be read: {error.strerror or error}. Received: {path!r}"
        ) from error
    if len(content) > _MOST:
        raise ValueError(
            f"The file is larger than {_MOST} bytes; a graph takes a few "
            f"thousand. Received: {path!r}"
        )
    try:
        text = content.decode("utf-8")
        if not text.strip():
            raise ValueError("it is empty")
        return json.loads(text, object_pairs_hook=_once, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The file is not JSON: it is not UTF-8 ({error}). "
            f"Received: {path!r}"
        ) from error
    except RecursionError:
        # The original traceback is a thousand lines without information.
        raise ValueError(
            "The file is not a graph: it is nested too deeply. "
            f"Received: {path!r}"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"The file is not JSON: {error}. Received: {path!r}"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands there twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(
            f"the number {digits[:8]}... has {len(digits)} digits, more than "
            f"{_MOST_DIGITS}"
        )
    return int(digits)
