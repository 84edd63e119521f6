"""Folders of image files: what counts as an image, and what is left out.

A file counts by its suffix; what it holds is for `decoding` to judge. Hidden
names are never read: a notebook's `.ipynb_checkpoints` is no class, and what
macOS writes beside each file (`._x.png`) no image. All that is left out is
counted and an example of it kept, for silence about it has cost people whole
classes.
"""

import collections
import dataclasses
from collections.abc import Iterator

from evonorm_tf import files

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png"),
    *(".gif", ".bmp", ".webp", ".tif", ".tiff"),
)
_HIDDEN = (".", "__MACOSX")
_SHOWN = 5  # Suffixes in a report.


class LeftOut(collections.Counter):
    """What was left out: the number of paths for each reason.

    Attributes:
      first: the first path for each reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}

    def add(self, reason: str, path: str) -> None:
        """Counts one more path."""
        self[reason] += 1
        self.first.setdefault(reason, path)

    def lines(self) -> list[str]:
        """What a person should know of it, one line for each reason."""
        return [
            f"left out: {count:,} {reason} (the first: {self.first[reason]})"
            for reason, count in self.items()
        ]


@dataclasses.dataclass(frozen=True)
class Classes:
    """Images in one folder for each class.

    Attributes:
      names: of the classes, in alphabetical order: the labels' meaning.
      paths: of the images, sorted within each class.
      labels: one for each path, an index into `names`.
      left_out: what is there and is not read.
    """

    names: tuple[str, ...]
    paths: list[str]
    labels: list[int]
    left_out: LeftOut


def find(folder: str) -> tuple[list[str], LeftOut]:
    """The images in a folder and in those below it, sorted by path.

    Linked folders are entered; a link to a folder above is left out.
    """
    left_out = LeftOut()
    paths = _below(files.normalize(folder), left_out, ())
    return sorted(paths), left_out


def classes(root: str) -> Classes:
    """The images of a folder that holds one folder for each class.

    Images lie directly in their class's folder, which may be a link.

    Raises:
      ValueError: no such folder, no class in it, or a class without images.
    """
    root = files.normalize(root)
    if not files.is_folder(root):
        raise ValueError(f"There is no such folder. Received: path={root!r}")
    left_out = LeftOut()
    names = []
    for name, path, is_folder in _entries(root, left_out):
        if is_folder:
            names.append(name)
        else:
            left_out.add("files beside the folders of the classes", path)
    if not names:
        raise ValueError(
            "A folder of images holds one folder for each class, with its "
            f"images. Received: path={root!r}, which holds no such folder"
            + _said(left_out)
        )
    paths, labels = [], []
    for label, name in enumerate(names):
        inside = LeftOut()
        found = []
        folder = files.join(root, name)
        for _, path, is_folder in _entries(folder, inside):
            if is_folder:
                inside.add("folders within that of a class", path)
            else:
                found.append(path)
        if not found:
            raise ValueError(
                "A class without images would only be guessed at. Fill or "
                f"remove its folder; images end in {', '.join(SUFFIXES)}. "
                f"Received: path={folder!r}" + _said(inside)
            )
        paths += found
        labels += [label] * len(found)
        for reason, count in inside.items():
            left_out[reason] += count
            left_out.first.setdefault(reason, inside.first[reason])
    return Classes(tuple(names), paths, labels, left_out)


def _below(
    folder: str, left_out: LeftOut, above: tuple[str, ...]
) -> Iterator[str]:
    above = (*above, files.real(folder))
    for _, path, is_folder in _entries(folder, left_out):
        if not is_folder:
            yield path
        elif files.real(path) in above:
            left_out.add("links to a folder above", path)
        else:
            yield from _below(path, left_out, above)


def _entries(folder: str, left_out: LeftOut) -> Iterator[tuple[str, str, bool]]:
    """(name, path, whether it is a folder) of folders and images."""
    for name in files.names(folder):
        path = files.join(folder, name)
        _check_name(path)
        if name.startswith(_HIDDEN):
            left_out.add("hidden files or folders", path)
        # A folder is asked for only where the name is not an image's: there
        # may be a million of these.
        elif files.suffix(name) in SUFFIXES:
            yield name, path, False
        elif files.is_folder(path):
            yield name, path, True
        else:
            ending = files.suffix(name)
            kind = f"with suffix {ending}" if ending else "without a suffix"
            left_out.add(f"files {kind}", path)


def _check_name(path: str) -> None:
    """Checks that TensorFlow can open a path, and that it can be printed."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "The name of a file or folder must be UTF-8; rename it, for "
            f"example by `convmv -f latin1 -t utf8`. Received: path={path!r}"
        ) from error


def _said(left_out: LeftOut) -> str:
    return "".join(f"; {line}" for line in left_out.lines()[:_SHOWN])
