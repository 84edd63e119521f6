"""Datasets of labelled images for more than one head."""

import dataclasses
import functools
import io
import math
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from evonorm_tf import files
from training.images import decoding, errors, readers, records

_FRAMING = 16  # Bytes that a TFRecord file has around a record.
# File systems of TFDS, which does not use TensorFlow's.
_TFDS_READS = ("gs://", "s3://")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Decoded images, all of one size.

    Attributes:
      images: [examples, H, W, C], uint8.
      labels: [examples], int32.
      classes: number of classes; labels are below it.
      class_names: of the labels, if they are known.
      notes: remarks on what was skipped.
      name: dataset, split and processing of the pixels, for reports.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""

    @property
    def examples(self) -> int:
        """Returns the size of the dataset."""
        return len(self.labels)

    @property
    def reader(self) -> readers.Indexed:
        """Returns a reader of the examples' indices."""
        return readers.Indexed(len(self.labels))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Returns height, width and channels of an image."""
        return self.images.shape[1:]

    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images and labels as tensors, to gather from.

        Arrays would become part of a function's graph.
        """
        return tf.constant(self.images), tf.constant(self.labels)


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files of any size, decoded when they are needed.

    Attributes:
      reader: returns their content, labels and names.
      classes: number of classes; labels are below it.
      size: side in pixels to which images are decoded.
      class_names: of the labels, if they are known.
      notes: remarks on what was skipped.
      name: dataset, split and processing of the pixels, for reports.
      buffer: number of records that are shuffled together, if the reader
        cannot shuffle the dataset as a whole.
    """

    reader: readers.Listed | readers.Shards
    classes: int
    size: int
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""
    buffer: int = 1

    @property
    def examples(self) -> int:
        """Returns the size of the dataset."""
        return self.reader.examples

    @property
    def shape(self) -> tuple[int, int, int]:
        """Returns height, width and channels of an image."""
        return self.size, self.size, 3


Source = Memory | Files


def open_tfds(
    dataset: str, split: str, data_dir: str, size: int, limit: int
) -> Source:
    """Opens a prepared TFDS dataset: in memory if small and of one size.

    Args:
      dataset: see `tfds_builder`.
      split: likewise.
      data_dir: likewise.
      size: side in pixels to which the images of other datasets are resized.
      limit: maximum bytes of decoded images in memory.

    Raises:
      ValueError: if the dataset or split does not exist, or has no images and
        labels.
    """
    builder, examples = tfds_builder(dataset, split, data_dir)
    label = builder.info.features["label"]
    classes = getattr(label, "num_classes", None) or 0
    names = tuple(label.names) if classes else ()
    shape = builder.info.features["image"].shape
    if None not in shape and 0 < examples * math.prod(shape) < limit:
        images, labels = in_memory(builder, split, examples)
        return Memory(images, labels, classes, names)
    reader = readers.Shards(
        tuple(tfds_shards(builder, split)),
        functools.partial(tfds_parse, builder),
    )
    return Files(reader, classes, size, names)


def open_jpeg_digits(split: str, size: int, classes: int = 10) -> Files:
    """Opens the digits as JPEG files: see `jpeg_digits`.

    Args:
      split: "train" or "test".
      size: side in pixels to which they are resized.
      classes: only digits below it are used.
    """
    content, labels = jpeg_digits(split)
    few = np.flatnonzero(labels < classes)
    reader = readers.Listed(
        tf.constant([content[k] for k in few], tf.string),
        tf.constant(labels[few]),
    )
    return Files(reader, min(classes, 10), size)


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the 1,797 scans of 8x8 digits included in scikit-learn.

    Args:
      split: "train", or "test" for a fixed quarter of each class.

    Returns:
      images [n, 8, 8, 1] uint8, and labels [n] int32.

    Raises:
      ValueError: if the split is unknown.
    """
    from sklearn import datasets  # Needed only for this dataset.

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
    """Returns the digits as JPEG files of 64 to 128 pixels, of varying sizes.

    Args:
      split: as for `digits`.

    Returns:
      The files' bytes, RGB, and labels [n] int32.

    Raises:
      ValueError: if the split is unknown.
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
    """Opens a prepared TFDS dataset of labelled images.

    Args:
      dataset: its TFDS name, optionally with a version: "cifar10:3.0.2".
      split: in TFDS's notation.
      data_dir: contains <dataset>/<version>/; if empty,
        ~/tensorflow_datasets.

    Returns:
      The builder, of the newest version by default, and the number of examples
      in the split.

    Raises:
      ValueError: if the dataset or split does not exist, has no images and
        labels, or has a truncated file.
    """
    import tensorflow_datasets as tfds  # Needed only for these datasets.

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
            f"{dataset} is not a dataset of labelled images: it has no feature "
            f"{' or '.join(sorted(missing))}. "
            f"Received: features={sorted(info.features)}"
        )
    image = info.features["image"]
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3, None):
        raise ValueError(
            f"The images of {dataset} must be grey or RGB with 8 bits per "
            f"channel. Received: shape={list(image.shape)}, "
            f"dtype={np.dtype(image.np_dtype).name}"
        )
    _require_complete(info, split)
    return builder, examples


def _require_complete(info: Any, split: str) -> None:
    """Rejects truncated TFRecord files, which TFDS does not notice or name.

    Only on local disks, because elsewhere a look at each file takes long; and
    records are counted only if sizes differ from the dataset's own account.
    """
    if info.file_format.name != "TFRECORD" or not files.is_local(info.data_dir):
        return
    read = {str(one.filename) for one in info.splits[split].file_instructions}
    for whole in info.splits.values():
        paths = [str(path) for path in whole.filepaths]
        there = [path for path in paths if files.is_file(path)]
        size = sum(map(files.size, there))
        if size == whole.num_bytes + _FRAMING * whole.num_examples:
            continue
        for path, length in zip(paths, whole.shard_lengths):
            if path not in read:
                continue
            found = records.count(path) if path in there else 0
            if found != length:
                raise ValueError(
                    f"A file of {info.full_name} is missing or has too few "
                    "records. Copy it again, or prepare the dataset again. "
                    f"Received: path={path!r}, {found:,} records, not "
                    f"{length:,}"
                )


def encoded(builder: Any, split: str) -> tf.data.Dataset:
    """Yields the examples of a split, whose images are files' bytes."""
    import tensorflow_datasets as tfds

    return builder.as_dataset(
        split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )


def in_memory(
    builder: Any, split: str, examples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all decoded images, [n, H, W, C] uint8, and labels [n] int32.

    Raises:
      ValueError: if an image or a file cannot be read.
    """
    stored = encoded(builder, split)
    stored = stored.map(lambda row: (row["image"], row["label"]))
    shape = builder.info.features["image"].shape
    try:
        decoded = stored.map(
            lambda image, label: (decoding.exportable(image), label),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        images, labels = next(iter(decoded.batch(examples)))
        images = images.numpy()
    except tf.errors.DataLossError as error:
        paths = [str(path) for path in builder.info.splits[split].filepaths]
        found = ", ".join(records.damaged(paths, error) or paths)
        raise ValueError(
            f"A file of {builder.info.full_name} is damaged: "
            f"{errors.cause(error)}. Copy it again, or prepare the dataset "
            f"again. Received: split={split!r} of {found}"
        ) from error
    except tf.errors.OpError:
        # One by one, to name the image or use Pillow.
        images, labels = _one_by_one(stored, f"{builder.info.name}/{split}")
    if images.shape[1:3] != tuple(shape[:2]):
        raise ValueError(
            f"The images of {builder.info.name} have another size than the "
            f"dataset says; prepare it again. Received: shape={list(shape)}, "
            f"images of {list(images.shape[1:])}"
        )
    grey = shape[-1] == 1
    if grey and (images != images[..., :1]).any():
        raise ValueError(
            f"{builder.info.name} declares grey images, but some are not; "
            f"prepare it again. Received: shape={list(shape)}"
        )
    return images[..., :1] if grey else images, np.asarray(labels, np.int32)


def _one_by_one(
    stored: tf.data.Dataset, name: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for index, (image, label) in enumerate(stored.as_numpy_iterator()):
        found = decoding.read(image, f"image {index} of {name}")
        images.append(found.pixels)
        labels.append(label)
        if found.pixels.shape != images[0].shape:
            raise ValueError(
                f"The images of {name} must share one size. Received: image "
                f"{index} of {list(found.pixels.shape)}, the first of "
                f"{list(images[0].shape)}"
            )
    return np.stack(images), np.array(labels)


def tfds_shards(builder: Any, split: str) -> list[readers.Shard]:
    """Returns the TFRecord files of a split, and the records to read.

    Raises:
      ValueError: if the dataset is stored in another file format.
    """
    file_format = builder.info.file_format.name
    if file_format != "TFRECORD":
        raise ValueError(
            f"{builder.info.full_name} must be stored as TFRecords: `tfds "
            f"build {builder.info.name} --file_format=tfrecord`. "
            f"Received: file_format={file_format}"
        )
    return [
        readers.Shard(str(part.filename), part.take, part.skip)
        for part in builder.info.splits[split].file_instructions
    ]


def tfds_parse(
    builder: Any, serialized: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the image file's bytes and the label of an example."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {name: builder.info.features[name] for name in ("image", "label")}
    )
    row = features.deserialize_example(
        serialized, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return row["image"], row["label"]


def _directory(dataset: str, data_dir: str) -> str:
    root = files.normalize(data_dir or files.join("~", "tensorflow_datasets"))
    name, _, wanted = dataset.partition(":")
    if not files.is_local(root) and not root.startswith(_TFDS_READS):
        raise ValueError(
            "TFDS reads its datasets itself, from local paths and from "
            f"{', '.join(_TFDS_READS)}. Copy the dataset there. "
            f"Received: tfds_data_dir={data_dir!r}"
        )
    versions = _versions(files.join(root, name))
    if not versions:
        near = [n for n in files.names(root) if _versions(files.join(root, n))]
        raise ValueError(
            f"There is no dataset {name!r} in {root}; existing: "
            f"{', '.join(near) or 'none'}. "
            f"Download and prepare it with `tfds build {name} "
            f"--data_dir={root}`, or set the directory that contains {name}/ "
            "as task.train_data.tfds_data_dir. "
            f"Received: tfds_data_dir={data_dir!r}"
        )
    if wanted and wanted not in versions:
        raise ValueError(
            f"{name} exists in the versions {', '.join(sorted(versions))}. "
            f"Received: dataset={dataset!r}"
        )

    def number(version: str) -> list[int]:
        return [int(part) for part in version.split(".") if part.isdigit()]

    return files.join(root, name, wanted or max(versions, key=number))


def _versions(home: str) -> list[str]:
    """Returns the versions of a prepared TFDS dataset, by their folders."""
    return [
        version
        for version in files.names(home)
        if files.exists(files.join(home, version, "dataset_info.json"))
    ]
