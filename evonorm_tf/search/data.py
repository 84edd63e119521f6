"""The images of the proxy task: training images, some held out for validation.

The test images are never read here: the search must not select by the images
on which its result is evaluated.
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
    """Loads the images of a search, the same in each call.

    Raises:
      ValueError: if there are none or too few, or a size does not fit them.
    """
    if settings.dataset == "digits":
        images, labels = _digits()
    else:
        images, labels = _cifar10(settings.data_dir)
    images = images.astype(np.float32)
    if settings.image_size:
        images = _averaged(images, settings.image_size)
    if settings.crop > min(images.shape[1:3]):
        raise ValueError(
            "crop must be at most a side of the images, after averaging: "
            f"{images.shape[1]}x{images.shape[2]}. "
            f"Received: crop={settings.crop}, dataset={settings.dataset!r}, "
            f"image_size={settings.image_size}"
        )
    order = np.random.default_rng(0).permutation(len(images))
    held, rest = np.split(order, [settings.validation])
    if settings.examples:
        rest = rest[: settings.examples]
    if len(rest) < max(settings.batch, settings.stability_batch):
        raise ValueError(
            f"`batch` and `stability_batch` must be at most {len(rest)}: "
            f"{settings.dataset} has {len(images)} training images, of which "
            "`validation` are held out and `examples`, if it is not 0, are "
            f"used. Received: batch={settings.batch}, "
            f"stability_batch={settings.stability_batch}, "
            f"validation={settings.validation}, examples={settings.examples}"
        )
    axes = (0, 1, 2)
    mean, std = images[rest].mean(axes), images[rest].std(axes)
    images = (images - mean) / std
    return Images(images[rest], labels[rest], images[held], labels[held])


def batches(settings: Settings, examples: int, steps: int) -> np.ndarray:
    """Returns indices and crop positions of every batch: [steps, batch, 3]."""
    rng = np.random.default_rng(settings.seed)
    count = steps * settings.batch
    epochs = -(-count // examples)
    rows = [rng.permutation(examples) for _ in range(epochs)]
    rows = np.concatenate(rows)[:count]
    corners = rng.random((count, 2))
    table = np.concatenate([rows[:, None], corners], 1)
    return table.reshape(steps, settings.batch, 3).astype(np.float32)


def _averaged(images: np.ndarray, size: int) -> np.ndarray:
    """Averages blocks of pixels of images [N, H, W, C]."""
    n, height, width, channels = images.shape
    if height % size or width % size:
        raise ValueError(
            f"image_size must divide the sides of the {height}x{width} images "
            f"that are averaged. Received: image_size={size}"
        )
    blocks = (n, size, height // size, size, width // size, channels)
    return images.reshape(blocks).mean((2, 4))


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's digits without the head's test quarter."""
    from sklearn import datasets  # Needed only for this dataset.

    digits = datasets.load_digits()
    test = np.zeros(len(digits.target), bool)
    for label in range(10):  # As training.images.sources.digits.
        test[np.flatnonzero(digits.target == label)[3::4]] = True
    images = digits.images[~test][..., np.newaxis]
    return images, digits.target[~test].astype(np.int32)


def _cifar10(root: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the 50,000 training images."""
    import tensorflow_datasets as tfds  # Needed only for this dataset.

    home = files.join(root, "cifar10")
    found = [
        files.join(home, name)
        for name in files.names(home)
        if files.exists(files.join(home, name, "dataset_info.json"))
    ]
    if not found:
        raise ValueError(
            "The folder does not contain cifar10. Prepare it with "
            f"`tfds build cifar10 --data_dir={root}`, or set data_dir to the "
            f"folder that contains cifar10/. Received: data_dir={root!r}"
        )
    builder = tfds.builder_from_directory(found[-1])
    dataset = builder.as_dataset("train", batch_size=-1)
    return dataset["image"].numpy(), dataset["label"].numpy().astype(np.int32)
