"""Files wherever TensorFlow reaches them: local, file://, gs://, ram://.

A path is taken literally: "runs/lr=[0.1]" is a folder of that name. Only
`match` reads wildcards, and there a name that exists wins over a pattern.
"file://" paths are local ones; a local path may begin with "~".

Writing replaces a file at once where the file system can rename: a reader, or
a process that is killed, finds the old content or the new one. Errors are
Python's own (FileNotFoundError, OSError) on every file system.
"""

import atexit
import contextlib
import fnmatch
import functools
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

Path = str | os.PathLike
# TensorFlow reads checkpoints and SavedModels through a search for files that
# match, in which these characters of a path are not themselves.
_SPECIAL = "*?[\\"
_WILDCARDS = "*?["
# As TensorFlow tells a file system's name: "a=gs://b" is a local path.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9.]*://")


def normalize(path: Path) -> str:
    """A path as a string: "file://" and a leading "~" are resolved."""
    path = os.fspath(path)
    if path.startswith("file://"):
        # As TensorFlow reads it: a host's name is ignored.
        return "/" + path.removeprefix("file://").partition("/")[2]
    return path if _URL.match(path) else os.path.expanduser(path)


def is_local(path: Path) -> bool:
    """Whether Python's own functions can open the path."""
    return not _URL.match(normalize(path))


def absolute(path: Path) -> str:
    """The path, independent of the working directory."""
    path = normalize(path)
    return os.path.abspath(path) if is_local(path) else path.rstrip("/")


def real(path: Path) -> str:
    """The absolute path without links: one for each file."""
    path = absolute(path)
    return os.path.realpath(path) if is_local(path) else path


def join(folder: Path, *names: str) -> str:
    """The path of a name, or a path from there on, in a folder."""
    return os.path.join(normalize(folder), *names)


def parent(path: Path) -> str:
    """The folder that holds a path; "." for a bare name."""
    return os.path.dirname(normalize(path).rstrip("/")) or "."


def name(path: Path) -> str:
    """The last part of a path."""
    return os.path.basename(normalize(path).rstrip("/"))


def inside(folder: Path, path: Path) -> str:
    """The path from a folder on that it lies in; "." for the folder."""
    above = absolute(folder).rstrip("/") + "/"
    return absolute(path).removeprefix(above.rstrip("/")).lstrip("/") or "."


def stem(path: Path) -> str:
    """The last part of a path without its suffix."""
    return os.path.splitext(name(path))[0]


def suffix(path: Path) -> str:
    """A file's suffix with its dot, in lower case; "" for none."""
    return os.path.splitext(normalize(path))[1].lower()


def exists(path: Path) -> bool:
    """Whether a file or folder is there."""
    return _call("exists", normalize(path))


def is_folder(path: Path) -> bool:
    """Whether a folder is there."""
    return _call("isdir", normalize(path))


def is_file(path: Path) -> bool:
    """Whether a file is there."""
    return exists(path) and not is_folder(path)


def size(path: Path) -> int:
    """Bytes of a file.

    Raises:
      FileNotFoundError: it is not there.
    """
    path = normalize(path)
    if is_local(path):
        return os.path.getsize(path)
    return _call("stat", path).length


def names(folder: Path) -> list[str]:
    """Names of what is in a folder, sorted; [] where there is no folder."""
    folder = normalize(folder)
    if not is_folder(folder):
        return []
    # Object stores mark folders by a slash.
    found = {name.rstrip("/") for name in _call("listdir", folder)}
    return sorted(found - {""})


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk: (folder, names of folders, names of files), sorted.

    Linked folders are entered; a link back to a folder above is not.
    """
    folder = normalize(folder)
    yield from _walk(folder, (real(folder),))


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[tuple]:
    inside = names(folder)
    folders = [n for n in inside if is_folder(os.path.join(folder, n))]
    yield folder, folders, [n for n in inside if n not in folders]
    for name in folders:
        path = os.path.join(folder, name)
        if real(path) not in above:
            yield from _walk(path, (*above, real(path)))


def match(pattern: Path) -> list[str]:
    """Files and folders whose paths match a pattern, sorted.

    `*`, `?` and `[...]` match within one part of the path. A part that exists
    as it is written stands for itself, so that "data/[v1]/train-*" finds the
    files of a folder "[v1]". Hidden names are matched by hidden patterns
    alone.
    """
    pattern = normalize(pattern)
    root, rest = _root(pattern)
    found = [root]
    for part in rest.split("/"):
        found = [
            os.path.join(folder, name)
            for folder in found
            for name in _matching(folder, part)
        ]
    return sorted(path for path in found if path and exists(path))


def _root(path: str) -> tuple[str, str]:
    """A file system's root ("/", "gs://bucket/", "") and the rest."""
    if not is_local(path):
        scheme, _, rest = path.partition("://")
        host, _, rest = rest.partition("/")
        return f"{scheme}://{host}/", rest
    return ("/", path.lstrip("/")) if path.startswith("/") else ("", path)


def _matching(folder: str, part: str) -> list[str]:
    literal = not any(character in part for character in _WILDCARDS)
    if literal or exists(os.path.join(folder, part)):
        return [part]
    return [
        name
        for name in names(folder or ".")
        if fnmatch.fnmatchcase(name, part)
        and name.startswith(".") <= part.startswith(".")
    ]


def make_folder(folder: Path) -> str:
    """Makes a folder and those above it, if need be; returns its path."""
    folder = normalize(folder)
    _call("makedirs", folder)
    return folder


def open_binary(path: Path) -> BinaryIO:
    """A file's bytes, to be read from any place on.

    Raises:
      FileNotFoundError: it is not there.
    """
    path = normalize(path)
    if is_local(path):
        return open(path, "rb")
    size(path)  # GFile would notice at the first read alone.
    return _call("GFile", path, "rb")


def read(path: Path) -> bytes:
    """A file's bytes.

    Raises:
      FileNotFoundError: it is not there.
    """
    path = normalize(path)
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    with _errors_of(path), open_binary(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """A file's text, UTF-8.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it is no UTF-8.
    """
    try:
        return read(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The file must be text in UTF-8 ({error}). "
            f"Received: path={normalize(path)!r}"
        ) from error


def write(path: Path, content: bytes | str) -> str:
    """Writes a file at once, text as UTF-8; returns its path.

    A process that is killed leaves the old file or the new one.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path) as place, open(place, "wb") as file:
        file.write(data)
    return normalize(path)


def append(path: Path, text: str) -> None:
    """Adds text to the end of a file."""
    path = normalize(path)
    if is_local(path):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
        return
    with _errors_of(path), _call("GFile", path, "a") as file:
        file.write(text)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[str]:
    """A local path to write, for whatever writes files by itself.

    What is written there, a file or a folder, takes the place of `path` when
    the block ends without an error. The local path ends as `path` does, so
    that a format is told by its suffix.

    Args:
      path: where to; the folder above is made.
    """
    path = normalize(path).rstrip("/")
    make_folder(parent(path))
    if is_local(path):
        place = _temporary(path)
        try:
            yield place
            _sync(place)
            _replace(place, path)
        finally:
            if exists(place):
                remove(place)
        return
    with tempfile.TemporaryDirectory() as aside:
        place = os.path.join(aside, "new" + os.path.splitext(path)[1])
        yield place
        install(place, path)


@contextlib.contextmanager
def staging(folder: Path, last: str = "") -> Iterator[str]:
    """A local folder to fill, for files that belong together.

    What is in it goes to `folder`, in the place of what has the same names,
    when the block ends without an error; what is refused never stands there.

    Args:
      folder: where to; made if need be.
      last: name of a file that speaks for the others: an old one goes first,
        and the new one comes last.
    """
    with tempfile.TemporaryDirectory() as aside:
        yield aside
        made = sorted(names(aside), key=lambda name: name == last)
        if last in made:
            remove(join(folder, last))
        for name in made:
            install(join(aside, name), join(folder, name))


def install(source: Path, path: Path) -> None:
    """Copies a file or folder to where it replaces what is there.

    At once, but for a folder that is not local: elsewhere a folder is no more
    than its files' names, and cannot be renamed.

    Args:
      source: what to copy.
      path: the place that it takes.
    """
    source, path = normalize(source), normalize(path).rstrip("/")
    make_folder(parent(path))
    if is_folder(source) and not is_local(path):
        remove(path)
        copy(source, path)
        return
    temporary = _temporary(path)
    copy(source, temporary)
    _replace(temporary, path)


def move(source: Path, path: Path) -> None:
    """Moves a file or folder to where it replaces what is there."""
    source, path = normalize(source).rstrip("/"), normalize(path).rstrip("/")
    if is_folder(source) and not (is_local(source) and is_local(path)):
        install(source, path)
        remove(source)
    else:
        _replace(source, path)


def move_if_absent(source: Path, path: Path) -> None:
    """Moves a folder to where no other process put the same one meanwhile.

    What is there stays as it is, for that process may be reading it, and the
    source is removed.
    """
    source, path = normalize(source).rstrip("/"), normalize(path).rstrip("/")
    if not exists(path):
        try:
            if is_local(source) and is_local(path):
                os.rename(source, path)
            else:
                install(source, path)
                remove(source)
            return
        except OSError:  # A folder that is not empty is not replaced.
            if not exists(path):
                raise
    remove(source)


def copy(source: Path, target: Path) -> None:
    """Copies a file, or a folder with all that is in it."""
    source, target = normalize(source), normalize(target)
    if not is_folder(source):
        _call("copy", source, target, overwrite=True)
        return
    make_folder(target)
    for name in names(source):
        copy(os.path.join(source, name), os.path.join(target, name))


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    path = normalize(path)
    if is_folder(path):
        _call("rmtree", path)
    elif exists(path):
        _call("remove", path)


@contextlib.contextmanager
def local(path: Path) -> Iterator[str]:
    """A local path to read a file or folder by, for whatever opens files.

    The path itself where it is local, else a copy that goes with the block.

    Raises:
      FileNotFoundError: it is not there.
    """
    path = normalize(path)
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as aside:
        place = os.path.join(aside, os.path.basename(path.rstrip("/")))
        copy(path, place)
        yield place


def without_wildcards(path: Path) -> str:
    """The same file, folder or checkpoint by a path without * ? [ and \\.

    TensorFlow looks checkpoints and SavedModels up by patterns, even where it
    is given their very names. The path itself where it has none of these
    characters; else a link, or a copy of what is not local, that lasts as
    long as the process.

    Args:
      path: of a file or folder; of a checkpoint, without its suffixes.
    """
    path = normalize(path).rstrip("/")
    if not any(character in path for character in _SPECIAL):
        return path
    folder, name = os.path.split(path)
    plain = name.translate({ord(c): "_" for c in _SPECIAL})
    aside = tempfile.mkdtemp(dir=_aside())
    for other in names(folder or "."):
        if other == name or other.startswith(name + "."):
            source = os.path.join(folder, other)
            place = os.path.join(aside, plain + other[len(name) :])
            if is_local(source):
                os.symlink(os.path.abspath(source), place)
            else:
                copy(source, place)
    return os.path.join(aside, plain)


@functools.cache
def _aside() -> str:
    """A folder that goes with the process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _temporary(path: str) -> str:
    """A name beside `path`, hidden, that no other process takes."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    return os.path.join(folder, f".{stem}.{uuid.uuid4().hex[:12]}.tmp{suffix}")


def _sync(path: str) -> None:
    """Has the disk hold a local file before it takes its name."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _replace(temporary: str, path: str) -> None:
    """Renames; a folder that is there is first removed."""
    if is_folder(path):
        remove(path)
    _call("rename", temporary, path, overwrite=True)


def _call(operation: str, *arguments: Any, **settings: Any) -> Any:
    """One of tf.io.gfile's functions, or Python's own for local paths."""
    paths = arguments[:2] if operation in ("copy", "rename") else arguments[:1]
    if all(map(is_local, paths)):
        return _LOCAL[operation](*arguments, **settings)
    import tensorflow as tf  # Slow: not for who has local paths alone.

    with _errors_of(arguments[0]):
        return getattr(tf.io.gfile, operation)(*arguments, **settings)


_LOCAL: dict[str, Callable[..., Any]] = {
    "exists": os.path.exists,
    "isdir": os.path.isdir,
    "listdir": os.listdir,
    "makedirs": lambda path: os.makedirs(path, exist_ok=True),
    "copy": lambda source, target, overwrite: shutil.copyfile(source, target),
    "rename": lambda source, target, overwrite: os.replace(source, target),
    "remove": os.remove,
    "rmtree": shutil.rmtree,
}


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """TensorFlow's errors inside as Python's own, with the path."""
    import tensorflow as tf

    kinds = {
        tf.errors.NotFoundError: FileNotFoundError,
        tf.errors.PermissionDeniedError: PermissionError,
        tf.errors.AlreadyExistsError: FileExistsError,
    }
    try:
        yield
    except tf.errors.OpError as error:
        kind = kinds.get(type(error), OSError)
        text = str(error.message).strip() or "The path cannot be used"
        raise kind(f"{text}. Received: path={path!r}") from error
