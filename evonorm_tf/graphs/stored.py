"""A graph's file, as somebody else may have written, cut or replaced it."""

import json
import os
from typing import Any

from evonorm_tf import files

# Of a file, in bytes: a graph takes 1 kB, and what a search says of it a few.
_MOST = 10**7
_MOST_DIGITS = 20


def read(path: str | os.PathLike) -> Any:
    """What a JSON file holds; `graph.from_json` says whether it is a graph.

    Raises:
      ValueError: for a file that cannot be read, is empty or no JSON in
        UTF-8, is nested too deeply, has a key twice or a number without end.
    """
    try:
        with files.open_binary(path) as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise ValueError(
            "A layer named *.json is a file that holds a graph, and this one "
            f"cannot be read: {error.strerror or error}. Received: {path!r}"
        ) from error
    if len(content) > _MOST:
        raise ValueError(
            f"The file is larger than {_MOST} bytes; a graph takes some "
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
        # Its own traceback is a thousand lines and says nothing.
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
