"""The proxy task's images: training ones, part of them for validation.

The test images are never opened here: what the search selects by must not be
what its result is judged by.
"""

from typing import NamedTuple

import numpy as np

from evonorm_tf import files
from evonorm_tf.search.settings import Settings


class Images(NamedTuple):
    """A proxy task; images [N, H, W, C] float32, labels [N] int32."""

    train: np.ndarray
    train_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray


def load(settings: Settings) -> Images:
    """The images of a search, the same at each call.

    Raises:
      ValueError: there are none, or too few.
    """
    if settings.dataset == "digits":
        images, labels = _digits()
    else:
        images, labels = _cifar10(settings.data_dir)
    images = images.astype(np.float32)
    if settings.image_size:
        images = _averaged(images, settings.image_size)
    order = np.random.default_rng(0).permutation(len(images))
    held, rest = np.split(order, [settings.validation])
    if settings.examples:
        rest = rest[: settings.examples]
    if len(rest) < settings.batch:
        raise ValueError(
            f"{settings.dataset} has {len(images)} training images: too few "
            "for a batch and the validation set. Received: "
            f"batch={settings.batch}, validation={settings.validation}"
        )
    axes = (0, 1, 2)
    mean, std = images[rest].mean(axes), images[rest].std(axes)
    images = (images - mean) / std
    return Images(images[rest], labels[rest], images[held], labels[held])


def batches(settings: Settings, examples: int, steps: int) -> np.ndarray:
    """Rows of every batch, and where it is cropped: [steps, batch, 3]."""
    rng = np.random.default_rng(settings.seed)
    count = steps * settings.batch
    epochs = -(-count // examples)
    rows = [rng.permutation(examples) for _ in range(epochs)]
    rows = np.concatenate(rows)[:count]
    corners = rng.random((count, 2))
    table = np.concatenate([rows[:, None], corners], 1)
    return table.reshape(steps, settings.batch, 3).astype(np.float32)


def _averaged(images: np.ndarray, size: int) -> np.ndarray:
    """Images [N, H, W, C], each block of pixels averaged into one."""
    n, height, width, channels = images.shape
    if height % size or width % size:
        raise ValueError(
            f"Images of {height}x{width} can be averaged down to a divisor "
            f"of that. Received: image_size={size}"
        )
    blocks = (n, size, height // size, size, width // size, channels)
    return images.reshape(blocks).mean((2, 4))


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """The scans inside scikit-learn, less the head's test quarter."""
    from sklearn import datasets  # Only this data set needs scikit-learn.

    digits = datasets.load_digits()
    test = np.zeros(len(digits.target), bool)
    for label in range(10):  # As classification/data.py splits them.
        test[np.flatnonzero(digits.target == label)[3::4]] = True
    images = digits.images[~test][..., np.newaxis]
    return images, digits.target[~test].astype(np.int32)


def _cifar10(root: str) -> tuple[np.ndarray, np.ndarray]:
    """The 50,000 training images."""
    import tensorflow_datasets as tfds  # Only this data set needs it.

    home = files.join(root, "cifar10")
    found = [
        files.join(home, name)
        for name in files.names(home)
        if files.exists(files.join(home, name, "dataset_info.json"))
    ]
    if not found:
        raise ValueError(
            "There is no cifar10 in that folder. Prepare it with "
            f"`tfds build cifar10 --data_dir={root}`, or name the folder "
            f"that holds cifar10/ as data_dir. Received: data_dir={root!r}"
        )
    builder = tfds.builder_from_directory(found[-1])
    dataset = builder.as_dataset("train", batch_size=-1)
    return dataset["image"].numpy(), dataset["label"].numpy().astype(np.int32)
