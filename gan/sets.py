"""Sets of images for evaluation: folders, arrays in files, TFDS datasets."""

import contextlib
import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from evonorm_tf import files
from gan import datasets, experiment
from training.images import decoding, errors, folders, inspection

Array = np.ndarray
_ARRAYS = ("images", "arr_0")
_BATCH = 100
# NumPy raises these for broken files.
_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class Set:
    """Images of one size.

    Attributes:
      name: description and origin, for reports.
      count: number of images.
      size: height and width of an image, in pixels.
      batches: yields them once, [n, S, S, 3], uint8.
      notes: remarks on what was skipped.
    """

    name: str
    count: int
    size: tuple[int, int]
    batches: Callable[[], Iterator[Array]]
    notes: tuple[str, ...] = ()


def open_set(place: str, tfds_data_dir: str = "", side: int = 299) -> Set:
    """Opens a set of images.

    Args:
      place: a folder of image files, at any depth; an .npz whose array
        "images" or "arr_0" is [n, S, S, 3], uint8; or "tfds:NAME/SPLIT" or
        "tfds:NAME/CONFIG/SPLIT".
      tfds_data_dir: the directory with TFDS datasets.
      side: side in pixels to which TFDS images without a fixed size are
        resized.

    Raises:
      ValueError: if the set does not exist, cannot be read or has mixed sizes.
    """
    if place.startswith("tfds:"):
        # A name may have a config: "tfds:NAME/CONFIG/SPLIT".
        dataset, _, split = place.removeprefix("tfds:").rpartition("/")
        if not dataset:
            raise ValueError(
                "A TFDS dataset needs its split: tfds:NAME/SPLIT, such as "
                f"tfds:cifar10/test. Received: {place!r}"
            )
        settings = experiment.Data(
            dataset=dataset, split=split, tfds_data_dir=tfds_data_dir
        )
        found = datasets.open_set(settings, side)
        name = f"{found.name}, {found.shape[0]} px"
        return Set(
            name,
            found.examples,
            found.shape[:2],
            lambda: _readable(found, place),
        )
    if files.is_folder(place):
        return _folder(place)
    if files.is_file(place) and files.suffix(place) == ".npz":
        return _array(place)
    raise ValueError(
        "A set of images must be a folder, an .npz file or tfds:NAME/SPLIT. "
        f"Received: {place!r}"
    )


def _readable(images: datasets.Source, place: str) -> Iterator[Array]:
    with errors.readable("gan", lambda: f"Received: {place!r}"):
        yield from datasets.in_order(images, _BATCH)


def _folder(place: str) -> Set:
    paths, left_out = folders.find(place)
    if not paths:
        raise ValueError(
            f"The folder has no images ({', '.join(folders.SUFFIXES)}). "
            f"Received: {place!r}"
            + "".join(f"; {line}" for line in folders.describe(left_out))
        )
    # All of them, before the first is processed, so that an error in the last
    # one is not reported hours later.
    found = list(inspection.look_at_all((decoding.load(p), p) for p in paths))
    refused = next((one.problem for one in found if one.problem), None)
    if refused:
        raise ValueError(refused)
    first = {one.size: one.name for one in reversed(found)}
    if len(first) > 1:
        examples = ", ".join(
            f"{width}x{height}, {path!r}"
            for (height, width), path in list(first.items())[::-1][:3]
        )
        raise ValueError(
            "The images of a folder must have one size, because resizing "
            "affects the metrics. Resize them all in the same way first. "
            f"Received: {len(first)} sizes: {examples}"
        )
    ((height, width),) = first
    formats = sorted({files.suffix(path) for path in paths})
    name = (
        f"{files.absolute(place)}, {', '.join(formats)}, {width}x{height} px, "
        f"sha256 {_digest(place, paths)}"
    )
    transparent = sum(bool(one.transparent) for one in found)
    if transparent:
        name += f", transparent pixels of {transparent} on white"

    def batches() -> Iterator[Array]:
        for start in range(0, len(paths), _BATCH):
            yield np.stack(
                [
                    decoding.read(decoding.load(path), path).pixels
                    for path in paths[start : start + _BATCH]
                ]
            )

    notes = tuple(folders.describe(left_out))
    return Set(name, len(paths), (height, width), batches, notes)


def _digest(place: str, paths: list[str]) -> str:
    """Begins the SHA-256 of files and their names in a folder.

    A reference is valid for these images, whatever else is added later.
    """
    result, place = hashlib.sha256(), files.normalize(place)
    for path in paths:
        result.update(files.inside(place, path).encode() + b"\0")
        result.update(hashlib.sha256(files.read(path)).digest())
    return result.hexdigest()[:12]


@contextlib.contextmanager
def arrays(path: str) -> Iterator[Mapping[str, Array]]:
    """Opens an .npz file; its arrays are read when they are used.

    Raises:
      ValueError: if it, or what is read of it in the context, is damaged.
    """
    try:
        with (
            files.local(path) as place,
            np.load(place, allow_pickle=False) as file,
        ):
            yield file
    except _BROKEN as error:
        raise ValueError(
            f"The file cannot be read ({error}). Fix or remove it. "
            f"Received: {path!r}"
        ) from error


def _array(place: str) -> Set:
    with arrays(place) as file:
        key = next((key for key in _ARRAYS if key in file), None)
        keys, pixels = list(file), file[key] if key else None
    if pixels is None:
        raise ValueError(
            "An .npz of images must have an array named images or arr_0. "
            f"Received: {place!r} with {keys}"
        )
    if pixels.dtype != np.uint8 or pixels.shape[3:] != (3,) or not len(pixels):
        raise ValueError(
            "Images must be [n, H, W, 3], uint8. Received: "
            f"{place!r} with {key} {list(pixels.shape)}, {pixels.dtype}"
        )

    def batches() -> Iterator[Array]:
        for start in range(0, len(pixels), _BATCH):
            yield pixels[start : start + _BATCH]

    height, width = pixels.shape[1:3]
    name = (
        f"{files.absolute(place)}, {width}x{height} px, "
        f"sha256 {_digest(place, [files.normalize(place)])}"
    )
    return Set(name, len(pixels), (height, width), batches)
