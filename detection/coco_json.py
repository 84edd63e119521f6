"""COCO's JSON an entry at a time, without holding it.

`json.load` of COCO's 448 MB takes gigabytes. ijson gives the tokens of a file
that is read in blocks; here they become entries. A key that an object has
twice, which hides a value, is refused with the entry that it stands in. NaN
and Infinity, which Python writes and JSON does not have, become a list of that
word: it is no number and no text, so that the entries that hold one are named
or left out like any others.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson

from evonorm_tf import files

# What an entry of a file that is one list is called.
RESULTS = "results"
# A COCO entry has three levels; whatever else a file holds, hardly more.
_DEEPEST = 32
_BLOCK = 1 << 20
# Strings as well: what looks like such a word inside is none.
_WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN', re.DOTALL)


def sections(path: str) -> Iterator[tuple[str, int | None, Any]]:
    """The entries of the lists of a JSON object, as COCO's ground truth.

    Args:
      path: of the JSON, UTF-8.

    Yields:
      A list's key, the entry's number from 0, and the entry; of a key whose
      value is no list, None and the value; of an empty list, None and [].

    Raises:
      ValueError: no such file, no JSON, no object, a key twice.
    """
    with _reader(path) as reader:
        yield from reader.object()


def items(path: str) -> Iterator[tuple[int, Any]]:
    """The entries of a JSON list, as COCO's results.

    Args:
      path: of the JSON, UTF-8.

    Yields:
      The entry's number from 0, and the entry.

    Raises:
      ValueError: no such file, no JSON, no list, a key twice in an object.
    """
    with _reader(path) as reader:
        yield from reader.list(RESULTS)


def name(section: str, number: int | None, entry: Any) -> str:
    """What an entry is called in messages: its place in the file and its ids.

    Args:
      section: the list's key.
      number: the entry's, from 0; None for the list itself.
      entry: what is known of it.
    """
    if number is None:
        return section
    keys = ("id", "image_id") if isinstance(entry, dict) else ()
    ids = [f"{key}={entry[key]!r}"[:40] for key in keys if key in entry]
    return f"{section}[{number}]" + (f" ({', '.join(ids)})" if ids else "")


@contextlib.contextmanager
def _reader(path: str) -> Iterator["_Reader"]:
    """Of a file; ijson's errors inside name the file and the entry."""
    try:
        opened = files.open_binary(path)
    except OSError as error:
        raise ValueError(
            f"There is no such file, or it cannot be read: {error}. "
            f"Received: file={path!r}"
        ) from error
    with opened as file:
        source = _quoted(file) if _has_infinities(file) else file
        # Some editors write a mark before the text, which JSON lacks.
        if source.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            source.seek(0)
        reader = _Reader(path, ijson.basic_parse(source, use_float=True))
        try:
            yield reader
        except ijson.JSONError as error:
            reader.refuse(_reason(error))


def _has_infinities(file: BinaryIO) -> bool:
    """Whether a file has a word for a number that is not finite."""
    found, tail = False, b""
    while not found and (block := file.read(_BLOCK)):
        text = tail + block
        found = b"NaN" in text or b"Infinity" in text
        tail = block[-len(b"Infinity") :]
    file.seek(0)
    return found


def _quoted(file: BinaryIO) -> BinaryIO:
    """A file, held in memory, with those words as JSON, ["NaN"]."""

    def quote(word: re.Match) -> bytes:
        return word[0] if word[0].startswith(b'"') else b'["%s"]' % word[0]

    return io.BytesIO(_WORDS.sub(quote, file.read()))


def _reason(error: ijson.JSONError) -> str:
    """What ijson says, on one line and with what it may come from."""
    text = error.args[0]
    if isinstance(text, bytes):  # What it cites is no UTF-8.
        text = text.decode("utf-8", "backslashreplace")
    reason, *cited = [line.strip() for line in text.splitlines()]
    near = cited[0] if cited else ""
    hint = ": write the file as UTF-8" if "UTF8" in reason else ""
    return f"{reason.rstrip('.')}{hint}" + (f", near {near!r}" if near else "")


class _Reader:
    """Builds entries of ijson's events, and knows where it is."""

    def __init__(self, path: str, events: Iterator[tuple[str, Any]]):
        self._path, self._events = path, events
        # The entry that is being read: its list, number and what there is.
        self._section, self._number, self._partial = "", None, None

    def object(self) -> Iterator[tuple[str, int | None, Any]]:
        """The entries of the lists of the file's object."""
        if next(self._events)[0] != "start_map":
            self.refuse("it must be an object, {...}")
        found = set()
        for kind, key in self._events:
            if kind == "end_map":
                break
            self._section, self._number, self._partial = key, None, None
            if key in found:
                self.refuse("its key is there twice")
            found.add(key)
            kind, value = next(self._events)
            if kind == "start_array":
                yield from self._entries(key)
            else:
                yield key, None, self._value(kind, value, 1)
        self._end()

    def list(self, section: str) -> Iterator[tuple[int, Any]]:
        """The entries of the file's list."""
        if next(self._events)[0] != "start_array":
            self.refuse("it must be a list, [...]")
        self._section = section
        for _, number, entry in self._entries(section):
            if number is not None:
                yield number, entry
        self._end()

    def _end(self) -> None:
        """Refuses what follows."""
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
        """The value that begins with an event, deep in so many others."""
        if kind == "start_array":
            return self._array(depth)
        return self._map(depth) if kind == "start_map" else value

    def _array(self, depth: int) -> list:
        self._check_depth(depth)
        values: list = []
        for kind, value in self._events:
            if kind == "number":  # Nearly all: no call for each.
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
                self.refuse(f"the key {key!r} is there twice")
            found[key] = self._value(*next(self._events), depth + 1)
        raise AssertionError("ijson ended within an object")

    def _check_depth(self, depth: int) -> None:
        if depth > _DEEPEST:
            self.refuse(f"values are nested more than {_DEEPEST} deep")

    def refuse(self, why: str) -> None:
        """Raises an error that says why, and where."""
        where = name(self._section, self._number, self._partial)
        raise ValueError(
            f"This is no JSON that can be read: {why}. "
            f"Received: file={self._path!r}" + (f", at {where}" * bool(where))
        )
