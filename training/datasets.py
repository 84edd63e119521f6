"""Sets of labelled images that more than one head reads."""

import functools
import io
import os
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image


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


@functools.cache
def jpeg_digits(split: str) -> tuple[list[bytes], np.ndarray]:
    """The digits as JPEG files of 64 to 128 pixels a side, each its own size.

    Args:
      split: as of `digits`.

    Returns:
      The files' bytes, RGB, and labels [n] int32.

    Raises:
      ValueError: another split.
    """
    images, labels = digits(split)
    files = []
    for index, image in enumerate(images[..., 0]):
        # 17 and 29 have no common factor with 65: all sizes occur.
        size = (64 + index * 17 % 65, 64 + index * 29 % 65)
        scaled = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        scaled.convert("RGB").save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files, labels


def tfds_builder(dataset: str, split: str, data_dir: str) -> tuple[Any, int]:
    """Opens a prepared TFDS set of labelled images.

    Args:
      dataset: its TFDS name, and maybe its version: "cifar10:3.0.2".
      split: in TFDS's notation.
      data_dir: holds <dataset>/<version>/; ~/tensorflow_datasets when empty.

    Returns:
      The builder, of the newest version when none is named, and the number
      of the split's examples.

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


def tfds_shards(builder: Any, split: str) -> list[tuple[str, int, int]]:
    """The TFRecord files of a split: path, records to skip, records to take.

    Raises:
      ValueError: the set is stored in another file format.
    """
    file_format = builder.info.file_format.name
    if file_format != "TFRECORD":
        raise ValueError(
            f"{builder.info.full_name} must be stored as TFRecords: `tfds "
            f"build {builder.info.name} --file_format=tfrecord`. "
            f"Received: file_format={file_format}"
        )
    parts = builder.info.splits[split].file_instructions
    return [(part.filename, part.skip, part.take) for part in parts]


def tfds_parse(
    builder: Any, serialized: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The image file's bytes and the label of a serialized example."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {name: builder.info.features[name] for name in ("image", "label")}
    )
    row = features.deserialize_example(
        serialized, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return row["image"], row["label"]


def _directory(dataset: str, data_dir: str) -> str:
    root = data_dir or os.path.join("~", "tensorflow_datasets")
    name, _, wanted = dataset.partition(":")
    home = os.path.join(os.path.expanduser(root), name)
    files = tf.io.gfile.glob(os.path.join(home, "*", "dataset_info.json"))
    versions = {os.path.basename(os.path.dirname(path)): path for path in files}
    if not versions:
        near = ", ".join(_prepared(os.path.expanduser(root))) or "none"
        raise ValueError(
            f"There is no data set {name!r} in {root}; there: {near}. "
            f"Download and prepare it with `tfds build {name} "
            f"--data_dir={root}`, or give the directory that holds {name}/ "
            "as task.train_data.tfds_data_dir. "
            f"Received: tfds_data_dir={data_dir!r}"
        )
    if wanted and wanted not in versions:
        raise ValueError(
            f"{name} is there in the versions {', '.join(sorted(versions))}. "
            f"Received: dataset={dataset!r}"
        )

    def number(version: str) -> list[int]:
        return [int(part) for part in version.split(".") if part.isdigit()]

    return os.path.dirname(versions[wanted or max(versions, key=number)])


def _prepared(root: str) -> list[str]:
    """Names of the sets in a TFDS directory."""
    files = tf.io.gfile.glob(os.path.join(root, "*", "*", "dataset_info.json"))
    return sorted({path.split(os.sep)[-3] for path in files})
