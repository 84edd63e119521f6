"""Streams the entries of COCO's JSON files.

`json.load` of COCO's 448 MB takes gigabytes. ijson reads a file in blocks and
yields tokens, from which entries are built here one by one. An object with a
duplicate key, one of whose values would be lost, is an error that names the
entry. NaN and Infinity, which Python writes although JSON does not have them,
become lists such as ["NaN"]: neither a number nor a string, so that their
entries are reported or skipped like all other invalid ones.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson

from evonorm_tf import files

# The name of the list in a file that is one list.
RESULTS = "results"
# COCO's entries have three levels, other sections hardly more.
_DEEPEST = 32
_BLOCK = 1 << 20
# Matches strings as well, to skip such words inside them.
_WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN', re.DOTALL)


def sections(path: str) -> Iterator[tuple[str, int | None, Any]]:
    """Streams a JSON object of lists, such as COCO's ground truth.

    Args:
      path: the file, JSON in UTF-8.

    Yields:
      The key of a list, the index of an entry, and the entry. For a value
      that is not a list, the key, None and the value; for an empty list, the
      key, None and [].

    Raises:
      ValueError: the file cannot be read, is not a JSON object, or has a
        duplicate key.
    """
    with _reader(path) as reader:
        yield from reader.object()


def items(path: str) -> Iterator[tuple[int, Any]]:
    """Streams a JSON list, such as COCO's results.

    Args:
      path: the file, JSON in UTF-8.

    Yields:
      The index of an entry, and the entry.

    Raises:
      ValueError: the file cannot be read, is not a JSON list, or has a
        duplicate key.
    """
    with _reader(path) as reader:
        yield from reader.list(RESULTS)


def name(section: str, number: int | None, entry: Any) -> str:
    """Names an entry in messages, by its place in the file and its ids.

    Args:
      section: the key of its list.
      number: its index; None for the list itself.
      entry: the entry, or the part of it that was read.
    """
    if number is None:
        return section
    keys = ("id", "image_id") if isinstance(entry, dict) else ()
    ids = [f"{key}={entry[key]!r}"[:40] for key in keys if key in entry]
    return f"{section}[{number}]" + (f" ({', '.join(ids)})" if ids else "")


@contextlib.contextmanager
def _reader(path: str) -> Iterator["_Reader"]:
    """A reader of a file; ijson's errors get the file and the entry."""
    try:
        opened = files.open_binary(path)
    except OSError as error:
        raise ValueError(
            f"There is no such file, or it is not readable: {error}. "
            f"Received: file={path!r}"
        ) from error
    with opened as file:
        source = _quoted(file) if _has_infinities(file) else file
        # Some editors write a byte order mark, which JSON does not allow.
        if source.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            source.seek(0)
        reader = _Reader(path, ijson.basic_parse(source, use_float=True))
        try:
            yield reader
        except ijson.JSONError as error:
            reader.refuse(_reason(error))
        except UnicodeDecodeError:  # Of "\udc00", which yajl lets through.
            reader.refuse("a string has half of a surrogate pair")


def _has_infinities(file: BinaryIO) -> bool:
    """Whether a file contains NaN or Infinity, in strings or not."""
    found, tail = False, b""
    while not found and (block := file.read(_BLOCK)):
        text = tail + block
        found = b"NaN" in text or b"Infinity" in text
        tail = block[-len(b"Infinity") :]
    file.seek(0)
    return found


def _quoted(file: BinaryIO) -> BinaryIO:
    """A file with NaN as ["NaN"], and Infinity likewise, in memory."""

    def quote(word: re.Match) -> bytes:
        return word[0] if word[0].startswith(b'"') else b'["%s"]' % word[0]

    return io.BytesIO(_WORDS.sub(quote, file.read()))


def _reason(error: ijson.JSONError) -> str:
    """ijson's message on one line, with a hint if the cause is known."""
    text = error.args[0]
    if isinstance(text, bytes):  # It quotes text that is not UTF-8.
        text = text.decode("utf-8", "backslashreplace")
    reason, *cited = [line.strip() for line in text.splitlines()]
    near = cited[0] if cited else ""
    hint = ": write the file as UTF-8" if "UTF8" in reason else ""
    return f"{reason.rstrip('.')}{hint}" + (f", near {near!r}" if near else "")


class _Reader:
    """Builds entries from ijson's events, and keeps track of the place."""

    def __init__(self, path: str, events: Iterator[tuple[str, Any]]):
        self._path, self._events = path, events
        # Of the entry being read: list, index, and the part that was read.
        self._section, self._number, self._partial = "", None, None

    def object(self) -> Iterator[tuple[str, int | None, Any]]:
        """As `sections`."""
        if next(self._events)[0] != "start_map":
            self.refuse("it must be an object, {...}")
        found = set()
        for kind, key in self._events:
            if kind == "end_map":
                break
            self._section, self._number, self._partial = key, None, None
            if key in found:
                self.refuse("the file has this key twice")
            found.add(key)
            kind, value = next(self._events)
            if kind == "start_array":
                yield from self._entries(key)
            else:
                yield key, None, self._value(kind, value, 1)
        self._end()

    def list(self, section: str) -> Iterator[tuple[int, Any]]:
        """As `items`."""
        if next(self._events)[0] != "start_array":
            self.refuse("it must be a list, [...]")
        self._section = section
        for _, number, entry in self._entries(section):
            if number is not None:
                yield number, entry
        self._end()

    def _end(self) -> None:
        """Checks that nothing follows."""
        self._section, self._number, self._partial = "", None, None
        for _ in self._events:
            pass

    def _entries(self, section: str) -> Iterator[tuple[str, int | None, Any]]:
        self._number = 0
        for kind, value in self._events:
            if kind == "end_array":
                break
            yield section, self._number, self._value(kind, value, 1)
            self._number, self._partial = self._number + 1, None
        if not self._number:
            yield section, None, []

    def _value(self, kind: str, value: Any, depth: int) -> Any:
        """The value that begins with an event, at a depth of nesting."""
        if kind == "start_array":
            return self._array(depth)
        return self._map(depth) if kind == "start_map" else value

    def _array(self, depth: int) -> list:
        self._check_depth(depth)
        values: list = []
        for kind, value in self._events:
            if kind == "number":  # The most frequent case, without a call.
                values.append(value)
            elif kind == "end_array":
                return values
            else:
                values.append(self._value(kind, value, depth + 1))
        raise AssertionError("ijson ended within an array")

    def _map(self, depth: int) -> dict:
        self._check_depth(depth)
        found: dict = {}
        if depth == 1:
            self._partial = found
        for kind, key in self._events:
            if kind == "end_map":
                return found
            if key in found:
                self.refuse(f"an object has the key {key!r} twice")
            found[key] = self._value(*next(self._events), depth + 1)
        raise AssertionError("ijson ended within an object")

    def _check_depth(self, depth: int) -> None:
        if depth > _DEEPEST:
            self.refuse(f"values are nested more than {_DEEPEST} deep")

    def refuse(self, why: str) -> None:
        """Raises an error with the reason and the place."""
        where = name(self._section, self._number, self._partial)
        raise ValueError(
            f"The file is not valid JSON of COCO's format: {why}. "
            f"Received: file={self._path!r}" + (f", at {where}" * bool(where))
        )
