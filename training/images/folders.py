"""Folders of image files: what counts as an image, and what is skipped.

Files are selected by suffix; `decoding` checks their content. Hidden names are
never read: a notebook's `.ipynb_checkpoints` is not a class, and the files that
macOS writes next to each file (`._x.png`) are not images. Everything that is
skipped is counted and reported with an example, so that no class is lost
unnoticed.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping

from evonorm_tf import files

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".png",
    ".gif",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
)
_HIDDEN = (".", "__MACOSX")
_SHOWN = 5  # suffixes in a report
_WITHIN = "folders within that of a class"


class Counts(collections.Counter):
    """Counts by name, with the first example of each.

    Attributes:
      first: name to the entry that was counted first.
    """

    def __init__(
        self,
        counts: Mapping[str, int] | None = None,
        first: Mapping[str, str] | None = None,
    ):
        super().__init__(counts)
        self.first: dict[str, str] = dict(first or {})

    def note(self, name: str, where: str) -> None:
        """Counts the entry `where`."""
        self[name] += 1
        self.first.setdefault(name, where)

    def add(self, other: "Counts") -> None:
        """Adds later counts."""
        self.update(other)
        self.first = other.first | self.first

    def lines(self, texts: Mapping[str, str]) -> list[str]:
        """One line per name that was counted, with its text."""
        return [
            f"{self[name]:,} {text} (the first: {self.first[name]})"
            for name, text in texts.items()
            if self[name]
        ]


@dataclasses.dataclass(frozen=True)
class Classes:
    """Images in one folder per class.

    Attributes:
      names: of the classes, in alphabetical order; the labels are indices.
      paths: of the images, sorted within each class.
      labels: one for each path, an index into `names`.
      left_out: what exists and is not read.
    """

    names: tuple[str, ...]
    paths: list[str]
    labels: list[int]
    left_out: Counts


def find(folder: str) -> tuple[list[str], Counts]:
    """Returns the images in a folder and its subfolders, sorted by path.

    Links to folders are followed, except to a parent folder.
    """
    left_out = Counts()
    paths = _below(files.normalize(folder), left_out, ())
    return sorted(paths), left_out


def classes(root: str) -> Classes:
    """Returns the images of a folder with one folder per class.

    Images are directly in their class's folder, which may be a link.

    Raises:
      ValueError: if the folder, a class or the images of a class are missing.
    """
    root = files.normalize(root)
    if not files.is_folder(root):
        raise ValueError(f"There is no such folder. Received: path={root!r}")
    left_out = Counts()
    names = []
    for name, path, is_folder in _entries(root, left_out):
        if is_folder:
            names.append(name)
        else:
            left_out.note("files beside the folders of the classes", path)
    if not names:
        raise ValueError(
            "A folder of images must have one folder per class, with its "
            f"images. Received: path={root!r}, which has no such folder"
            + _said(left_out)
        )
    paths, labels = [], []
    for label, name in enumerate(names):
        inside = Counts()
        found = []
        folder = files.join(root, name)
        for _, path, is_folder in _entries(folder, inside):
            if is_folder:
                inside.note(_WITHIN, path)
            else:
                found.append(path)
        if not found and inside[_WITHIN]:
            raise ValueError(
                "The folder of a class must have images, and this one has "
                "folders. If it is a split, with one folder per class, add it "
                "to the path: DIR/{split}, in quotes. "
                f"Received: path={folder!r}" + _said(inside)
            )
        if not found:
            raise ValueError(
                "A class without images cannot be learned. Fill or "
                f"remove its folder; images end in {', '.join(SUFFIXES)}. "
                f"Received: path={folder!r}" + _said(inside)
            )
        paths += found
        labels += [label] * len(found)
        left_out.add(inside)
    return Classes(tuple(names), paths, labels, left_out)


def _below(
    folder: str, left_out: Counts, above: tuple[str, ...]
) -> Iterator[str]:
    above = (*above, files.real(folder))
    for _, path, is_folder in _entries(folder, left_out):
        if not is_folder:
            yield path
        elif files.real(path) in above:
            left_out.note("links to a folder above", path)
        else:
            yield from _below(path, left_out, above)


def _entries(folder: str, left_out: Counts) -> Iterator[tuple[str, str, bool]]:
    """Yields (name, path, whether it is a folder) of folders and images."""
    for name in files.names(folder):
        path = files.join(folder, name)
        _check_name(path)
        if name.startswith(_HIDDEN):
            left_out.note("hidden files or folders", path)
        # Only names that are not images are checked for folders, because
        # there may be a million images.
        elif files.suffix(name) in SUFFIXES:
            yield name, path, False
        elif files.is_folder(path):
            yield name, path, True
        else:
            ending = files.suffix(name)
            kind = f"with suffix {ending}" if ending else "without a suffix"
            left_out.note(f"files {kind}", path)


def _check_name(path: str) -> None:
    """Checks that TensorFlow can open a path, and that it can be printed."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "The name of a file or folder must be UTF-8; rename it, for "
            f"example by `convmv -f latin1 -t utf8`. Received: path={path!r}"
        ) from error


def describe(left_out: Counts) -> list[str]:
    """Returns one line of text for each reason why paths were skipped."""
    texts = {reason: reason for reason in left_out}
    return [f"left out: {line}" for line in left_out.lines(texts)]


def _said(left_out: Counts) -> str:
    return "".join(f"; {line}" for line in describe(left_out)[:_SHOWN])
