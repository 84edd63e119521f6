"""Files on any file system of TensorFlow: local, file://, gs://, ram://.

Paths are taken literally: "runs/lr=[0.1]" is a folder of that name. Only
`match` expands wildcards, and there an existing name takes precedence over a
pattern. "file://" paths are local; a local path may start with "~".

Files are replaced atomically if the file system can rename: a reader, also
after a process was killed, finds either the old or the new content. Errors are
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
# TensorFlow finds checkpoints and SavedModels by matching patterns, in which
# these characters have a special meaning.
_SPECIAL = "*?[\\"
_WILDCARDS = "*?["
# How TensorFlow finds the file system: "a=gs://b" is a local path.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9.]*://")


def normalize(path: Path) -> str:
    """Returns the path as a string, "file://" and a leading "~" resolved."""
    path = os.fspath(path)
    if path.startswith("file://"):
        # As in TensorFlow, a host name is ignored.
        return "/" + path.removeprefix("file://").partition("/")[2]
    return path if _URL.match(path) else os.path.expanduser(path)


def is_local(path: Path) -> bool:
    """Returns whether Python's own functions can open the path."""
    return not _URL.match(normalize(path))


def absolute(path: Path) -> str:
    """Returns the path, independent of the working directory."""
    path = normalize(path)
    return os.path.abspath(path) if is_local(path) else _trimmed(path)


def real(path: Path) -> str:
    """Returns the absolute path without links, unique for each file."""
    path = absolute(path)
    return os.path.realpath(path) if is_local(path) else path


def join(folder: Path, *names: str) -> str:
    """Joins a folder and a name or relative path."""
    return os.path.join(normalize(folder), *names)


def parent(path: Path) -> str:
    """Returns the folder of a path; "." for a bare name."""
    return _split(_trimmed(normalize(path)))[0] or "."


def name(path: Path) -> str:
    """Returns the last part of a path."""
    return _split(_trimmed(normalize(path)))[1]


def _scheme(path: str) -> tuple[str, str]:
    """Splits a path into its scheme, such as "gs://" or "", and the rest."""
    found = _URL.match(path)
    end = found.end() if found else 0
    return path[:end], path[end:]


def _trimmed(path: str) -> str:
    """Removes slashes at the end, except those of a scheme."""
    scheme, rest = _scheme(path)
    return scheme + rest.rstrip("/")


def _split(path: str) -> tuple[str, str]:
    """As os.path.split, but the folder of "ram://x" is "ram://"."""
    scheme, rest = _scheme(path)
    folder, last = os.path.split(rest)
    return scheme + folder, last


def inside(folder: Path, path: Path) -> str:
    """Returns the path relative to a folder that contains it."""
    above = absolute(folder).rstrip("/") + "/"
    return absolute(path).removeprefix(above.rstrip("/")).lstrip("/") or "."


def stem(path: Path) -> str:
    """Returns the last part of a path without its suffix."""
    return os.path.splitext(name(path))[0]


def suffix(path: Path) -> str:
    """Returns the suffix with its dot, in lower case; "" if there is none."""
    return os.path.splitext(normalize(path))[1].lower()


def exists(path: Path) -> bool:
    """Returns whether a file or folder exists."""
    return _call("exists", normalize(path))


def is_folder(path: Path) -> bool:
    """Returns whether the path is an existing folder."""
    return _call("isdir", normalize(path))


def is_file(path: Path) -> bool:
    """Returns whether the path is an existing file."""
    return exists(path) and not is_folder(path)


def size(path: Path) -> int:
    """Returns the size of a file in bytes.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    path = normalize(path)
    if is_local(path):
        return os.path.getsize(path)
    return _call("stat", path).length


def names(folder: Path) -> list[str]:
    """Lists the names in a folder, sorted; [] if the folder does not exist."""
    folder = normalize(folder)
    if not is_folder(folder):
        return []
    # Object stores mark folders with a trailing slash.
    found = {name.rstrip("/") for name in _call("listdir", folder)}
    if folder.startswith("ram:"):
        # It compares prefixes, so that "a.b" puts ".b" in a folder "a".
        found = {name for name in found if exists(join(folder, name))}
    return sorted(found - {""})


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields (folder, folder names, file names), sorted, as os.walk does.

    Links to folders are followed, except to a parent folder.
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
    """Returns the files and folders whose paths match a pattern, sorted.

    `*`, `?` and `[...]` match within one part of the path. A part that exists
    exactly as written is taken literally, so "data/[v1]/train-*" finds the
    files of a folder "[v1]". Hidden names are matched only by patterns that
    start with a dot.
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
    """Splits a path into its root ("/", "gs://bucket/", "") and the rest."""
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
    """Creates a folder and its parents if needed; returns its path."""
    folder = normalize(folder)
    _call("makedirs", folder)
    return folder


def open_binary(path: Path) -> BinaryIO:
    """Opens a file for reading bytes from any position.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    path = normalize(path)
    if is_local(path):
        return open(path, "rb")
    size(path)  # GFile would only fail at the first read.
    return _call("GFile", path, "rb")


def read(path: Path) -> bytes:
    """Returns the bytes of a file.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    path = normalize(path)
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    with _errors_of(path), open_binary(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file.

    Raises:
      FileNotFoundError: if it does not exist.
      ValueError: if it is not valid UTF-8.
    """
    try:
        return read(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The file must be text in UTF-8 ({error}). "
            f"Received: path={normalize(path)!r}"
        ) from error


def write(path: Path, content: bytes | str) -> str:
    """Writes a file atomically, text as UTF-8; returns its path.

    A process that is killed leaves either the old or the new file.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path) as place, open(place, "wb") as file:
        file.write(data)
    return normalize(path)


def append(path: Path, text: str) -> None:
    """Appends text to a file."""
    path = normalize(path)
    if is_local(path):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
        return
    with _errors_of(path), _call("GFile", path, "a") as file:
        file.write(text)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[str]:
    """Provides a local path to write to, for libraries that write files.

    The file or folder that is written there replaces `path` when the block
    ends without an error. The local path has the same suffix as `path`, from
    which some libraries choose the format. A link is followed.

    Args:
      path: the destination; its folder is created.

    Raises:
      FileNotFoundError: if the block wrote nothing.
      IsADirectoryError: if it wrote a file, and `path` is a folder.
    """
    path = real(path)
    make_folder(parent(path))
    if is_local(path):
        place = _temporary(path)
        try:
            yield place
            _sync(place)
            _replace(place, path)
        finally:
            remove(place)
        return
    with tempfile.TemporaryDirectory() as aside:
        place = os.path.join(aside, "new" + os.path.splitext(path)[1])
        yield place
        install(place, path)


@contextlib.contextmanager
def staging(folder: Path, last: str = "") -> Iterator[str]:
    """Provides a local folder for several files that belong together.

    When the block ends without an error, its files are moved to `folder` and
    replace those of the same names. After an error nothing is moved.

    Args:
      folder: the destination; created if needed.
      last: name of a file whose presence shows that the others are complete.
        An old one is removed first, and the new one is moved last.
    """
    with tempfile.TemporaryDirectory() as aside:
        yield aside
        made = sorted(names(aside), key=lambda name: name == last)
        if last in made:
            remove(join(folder, last))
        for name in made:
            install(join(aside, name), join(folder, name))


def install(source: Path, path: Path) -> None:
    """Copies a file or folder and replaces the destination.

    Atomically, except for a folder that is not local: on object stores a
    folder is only a prefix of names and cannot be renamed. A local folder is
    renamed twice, and its previous content restored after an error. A link is
    followed.

    Args:
      source: what to copy.
      path: the destination.

    Raises:
      IsADirectoryError: if `source` is a file and `path` a folder.
      OSError: if the destination is inside the source, or the source inside a
        destination that is not local.
    """
    if _is_itself(source, path):
        return
    source, path = normalize(source), real(path)
    make_folder(parent(path))
    if is_folder(source) and not is_local(path):
        _check_outside(path, source)  # It would be removed with the folder.
        remove(path)
        copy(source, path)
        return
    temporary = _temporary(path)
    try:
        copy(source, temporary)
        _replace(temporary, path)
    finally:
        remove(temporary)


def move(source: Path, path: Path) -> None:
    """Moves a file or folder and replaces the destination; see `install`."""
    if _is_itself(source, path):
        return
    source, path = _trimmed(normalize(source)), real(path)
    if is_folder(source) and not (is_local(source) and is_local(path)):
        install(source, path)
        remove(source)
    else:
        _replace(source, path)


def move_if_absent(source: Path, path: Path) -> None:
    """Moves a folder unless another process has already put one there.

    An existing destination is not changed, because that process may be reading
    it, and the source is removed.
    """
    if _is_itself(source, path):
        return
    source, path = _trimmed(normalize(source)), _trimmed(normalize(path))
    if exists(path):
        remove(source)
    elif not (is_local(source) and is_local(path)):
        install(source, path)
        remove(source)
    else:
        try:
            os.rename(source, path)
        except OSError:  # A folder that is not empty cannot be replaced.
            if not exists(path):
                raise
            remove(source)


def _is_itself(source: Path, target: Path) -> bool:
    """Returns whether a copy or move would put a file or folder onto itself.

    Raises:
      FileNotFoundError: if it does not exist.
      OSError: if the target is inside the source.
    """
    if real(source) == real(target):
        size(source)  # The error if it does not exist.
        return True
    _check_outside(source, target)
    return False


def _check_outside(folder: Path, path: Path) -> None:
    """Raises OSError if a path is inside a folder."""
    if real(path).startswith(real(folder).rstrip("/") + "/"):
        raise OSError(
            "A folder cannot be copied or moved into itself, nor replace a "
            "folder that it is in; choose a path outside of it. Received: "
            f"{normalize(path)!r} inside {normalize(folder)!r}"
        )


def copy(source: Path, target: Path) -> None:
    """Copies a file, or a folder with its content; onto itself does nothing.

    Raises:
      FileNotFoundError: if the source does not exist.
      OSError: if the target is inside the source.
    """
    if _is_itself(source, target):
        return
    source, target = normalize(source), normalize(target)
    if not is_folder(source):
        _call("copy", source, target, overwrite=True)
        return
    make_folder(target)
    for name in names(source):
        copy(os.path.join(source, name), os.path.join(target, name))


def remove(path: Path) -> None:
    """Removes a file or folder if it exists; of a link, only the link."""
    path = normalize(path)
    if is_folder(path):
        _call("rmtree", path)
    elif exists(path) or os.path.islink(path):  # A link may lead nowhere.
        _call("remove", path)


@contextlib.contextmanager
def local(path: Path) -> Iterator[str]:
    """Provides a local path for reading a file or folder.

    This is the path itself if it is local, and otherwise a temporary copy that
    is removed when the block ends.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    path = normalize(path)
    if is_local(path):
        size(path)  # The error for what does not exist, as for a copy.
        yield path
        return
    with tempfile.TemporaryDirectory() as aside:
        place = os.path.join(aside, os.path.basename(path.rstrip("/")))
        copy(path, place)
        yield place


def without_wildcards(path: Path) -> str:
    r"""Returns a path without * ? [ and \ for the same file or checkpoint.

    TensorFlow finds checkpoints and SavedModels by matching patterns, even if
    it is given their exact names. A path without these characters is returned
    unchanged. Otherwise a link is created, or a copy if the path is not local,
    which lasts as long as the process.

    Args:
      path: of a file or folder, or of a checkpoint without its suffixes.
    """
    path = _trimmed(normalize(path))
    if not any(character in path for character in _SPECIAL):
        return path
    folder, name = _split(path)
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
    """Creates a folder that is removed when the process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _temporary(path: str) -> str:
    """Returns a hidden, unique name in the folder of `path`."""
    folder, name = _split(path)
    stem, suffix = os.path.splitext(name)
    return os.path.join(folder, f".{stem}.{uuid.uuid4().hex[:12]}.tmp{suffix}")


def _sync(path: str) -> None:
    """Flushes a local file to disk before it is renamed."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _replace(temporary: str, path: str) -> None:
    """Renames a file, or a local folder, whose predecessor is removed last."""
    if not is_folder(path):
        _call("rename", temporary, path, overwrite=True)
        return
    size(temporary)  # The error if it does not exist.
    if not is_folder(temporary):
        raise IsADirectoryError(
            "A file cannot replace a folder; remove the folder first, or "
            f"choose another path. Received: path={path!r}"
        )
    old = _temporary(path)
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(old, path)
        raise
    remove(old)


def _call(operation: str, *arguments: Any, **settings: Any) -> Any:
    """Calls a function of tf.io.gfile, or Python's own for local paths."""
    paths = arguments[:2] if operation in ("copy", "rename") else arguments[:1]
    if all(map(is_local, paths)):
        return _LOCAL[operation](*arguments, **settings)
    import tensorflow as tf  # Slow, and not needed for local paths.

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
    "rmtree": lambda path: (
        os.remove(path) if os.path.islink(path) else shutil.rmtree(path)
    ),
}


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Converts TensorFlow's errors in the block to Python's, with the path."""
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
