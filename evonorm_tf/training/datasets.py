"""Sets of labelled images that more than one head reads."""

import os
from typing import Any

import numpy as np
import tensorflow as tf


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 scans of 8x8 digits inside scikit-learn.

    Args:
      split: "train" or "test": a fixed quarter of each class.

    Returns:
      images [n, 8, 8, 1] uint8, and labels [n] int32.

    Raises:
      ValueError: another split.
    """
    from sklearn import datasets  # Only this data set needs scikit-learn.

    if split not in ("train", "test"):
        raise ValueError(
            "The digits have the splits train and test. "
            f"Received: split={split!r}"
        )
    scans = datasets.load_digits()
    images = np.round(scans.images * (255 / 16)).astype(np.uint8)
    test = np.zeros(len(images), bool)
    for label in range(10):
        test[np.flatnonzero(scans.target == label)[3::4]] = True
    chosen = test if split == "test" else ~test
    labels = scans.target[chosen].astype(np.int32)
    return images[chosen][..., np.newaxis], labels


def tfds_builder(dataset: str, split: str, data_dir: str) -> tuple[Any, int]:
    """Opens a prepared TFDS set of labelled images.

    Args:
      dataset: its TFDS name.
      split: in TFDS's notation.
      data_dir: holds <dataset>/<version>/; ~/tensorflow_datasets when empty.

    Returns:
      The newest version's builder, and the number of the split's examples.

    Raises:
      ValueError: no such set or split, or one without images and labels.
    """
    import tensorflow_datasets as tfds  # Only these data sets need it.

    builder = tfds.builder_from_directory(_directory(dataset, data_dir))
    info = builder.info
    try:
        examples = info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{dataset} has the splits {sorted(info.splits)}. "
            f"Received: split={split!r}"
        ) from error
    missing = {"image", "label"} - set(info.features)
    if missing:
        raise ValueError(
            f"{dataset} is no set of labelled images: it has no feature "
            f"{' or '.join(sorted(missing))}. "
            f"Received: features={sorted(info.features)}"
        )
    return builder, examples


def in_memory(
    builder: Any, split: str, examples: int
) -> tuple[np.ndarray, np.ndarray]:
    """All images, decoded, [n, H, W, C] uint8, and labels [n] int32."""
    dataset = builder.as_dataset(split, shuffle_files=False)
    pairs = dataset.map(lambda row: (row["image"], row["label"]))
    images, labels = next(iter(pairs.batch(examples)))
    return images.numpy(), labels.numpy().astype(np.int32)


def skip_decoding() -> Any:
    """A TFDS decoder that leaves an image as its file's bytes."""
    import tensorflow_datasets as tfds

    return tfds.decode.SkipDecoding()


def _directory(dataset: str, data_dir: str) -> str:
    root = data_dir or os.path.join("~", "tensorflow_datasets")
    home = os.path.join(os.path.expanduser(root), dataset)
    versions = tf.io.gfile.glob(os.path.join(home, "*", "dataset_info.json"))
    if not versions:
        raise ValueError(
            f"There is no data set {dataset!r} in {root}. Download and "
            f"prepare it with `tfds build {dataset} --data_dir={root}`, or "
            f"give the directory that holds {dataset}/ as "
            "task.train_data.tfds_data_dir. "
            f"Received: tfds_data_dir={data_dir!r}"
        )

    def version(path: str) -> list[int]:
        name = os.path.basename(os.path.dirname(path))
        return [int(part) for part in name.split(".") if part.isdigit()]

    return os.path.dirname(max(versions, key=version))
