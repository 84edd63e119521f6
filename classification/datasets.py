"""Datasets: TFDS datasets by name, TFRecords, folders of images, and digits.

A small dataset whose images have one size is decoded once and kept in memory
(`Memory`). Others are read during training, and each JPEG is decoded once and
only where it is cropped (`Files`). Both give the same result: batch k of a run
is a function of (seed, k), wherever the run was started and on any number of
hosts.
"""

import dataclasses
import functools

import tensorflow as tf

from classification import augment, decode, garden, mixing
from classification.settings import Data
from evonorm_tf import files
from evonorm_tf.errors import did_you_mean
from training.config import require_at_least
from training.images import batches, folders, readers, records, sources
from training.images.order import Order
from training.images.sources import Files, Memory, Source

AUGMENTATIONS = ("none", "crop", "crop_flip")
AUGMENTERS = ("stateless", "official")
# All other names are those of TFDS.
_OURS = ("digits", "jpeg_digits", "tfrecords", "folder")
# Settings that other datasets ignore.
_READ_BY = {
    "path": ("tfrecords", "folder"),
    "label_offset": ("tfrecords",),
    "examples": ("tfrecords",),
}
_MEMORY_LIMIT = 2**30  # bytes of decoded images
_SIZE = 224


def open_source(config: Data, num_classes: int) -> Source:
    """Opens a dataset.

    Args:
      config: defines it.
      num_classes: number of classes of the model.

    Raises:
      ValueError: if the data do not exist, a setting is invalid, or a label is
        outside the classes.
    """
    validate(config)
    openers = {
        "digits": functools.partial(_digits, num_classes),
        "jpeg_digits": functools.partial(_jpeg_digits, num_classes),
        "tfrecords": _tfrecords,
        "folder": _folder,
    }
    source = openers.get(config.dataset, _tfds)(config)
    if not source.examples:
        raise ValueError(
            "The split has no examples. Received: "
            f"dataset={config.dataset!r}, split={config.split!r}"
        )
    largest = source.classes - 1
    if isinstance(source, Memory):
        largest = int(source.labels.max())
        if source.labels.min() < 0:
            raise ValueError(
                f"{config.dataset} has labels below 0. Received: "
                f"label={source.labels.min()}"
            )
    if largest >= num_classes:
        count = max(source.classes, largest + 1)
        names = source.class_names
        shown = ", ".join(names[:5] + ("...",) * (len(names) > 5))
        raise ValueError(
            f"{config.dataset} {config.split} has more classes than the model, "
            "so labels are outside the model's classes, 0 to "
            f"{num_classes - 1}. Set task.model.num_classes={count}, or for "
            f"`check` --num_classes={count}. Received: label={largest}, "
            f"classes: {shown or count}"
        )
    if config.randaugment_layers and source.shape[-1] != 3:
        raise ValueError(
            "RandAugment needs colour images. Set randaugment_layers=0. "
            f"Received: dataset={config.dataset!r}, "
            f"channels={source.shape[-1]}"
        )
    # Targets of mixed labels are as wide as the model's output.
    return dataclasses.replace(source, classes=num_classes)


def inputs(
    source: Source,
    config: Data,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns batches of (images, {"label": [N], "weight": [N]}).

    With MixUp or CutMix they also have "target" [N, classes], the mixed labels.
    Both mix images within one replica's batch.

    Training batches start at `start_step` and never end. Evaluation is one
    pass, whose last batch is padded with examples of weight 0, so that every
    replica always has a full batch.

    Args:
      source: the opened dataset.
      config: how to read it.
      start_step: the global step from which training resumes.
      context: identifies one of several input pipelines. Each reads its own
        share, and the batch does not depend on their number.
    """
    loading = {
        "context": context,
        "at_once": isinstance(source, Memory),
        "finish": functools.partial(_finish, source, config),
    }
    load, batch = decode.decoder(source, config), config.global_batch_size
    if not config.is_training:
        return batches.evaluation(source.reader, load, batch, **loading)
    order = Order(config.seed, batch, config.shuffle_buffer_size)
    return batches.training(source.reader, load, order, start_step, **loading)


def _finish(source, config, numbers, images, labels):
    """Normalizes a batch, sets weights, and mixes images."""
    counts = numbers < source.examples
    if config.is_training:
        counts = tf.ones_like(counts)
    targets = {"label": labels, "weight": tf.cast(counts, tf.float32)}
    images = augment.normalize(images, config.mean, config.std)
    if config.is_training and (config.mixup_alpha or config.cutmix_alpha):
        mix = (images, labels, source.classes)
        mix += (config.mixup_alpha, config.cutmix_alpha)
        if config.augmenter == "official":
            images, target = garden.mix(*mix)
        else:
            seed = tf.stack([config.seed, numbers[0]])
            seed = tf.random.experimental.stateless_fold_in(seed, 2)
            images, target = mixing.mix(*mix, seed)
        targets["target"] = target
    return images, targets


def validate(config: Data) -> None:
    """Raises ValueError for invalid settings."""
    choices = (("augmentation", AUGMENTATIONS), ("augmenter", AUGMENTERS))
    for name, known in choices:
        value = getattr(config, name)
        if value not in known:
            raise ValueError(
                f"Unknown {name}. {did_you_mean(value, known)}"
                f"Received: {name}={value!r}"
            )
    least = {
        "global_batch_size": 1,
        "shuffle_buffer_size": 1,
        "examples": 0,
        "image_size": 0,
        "randaugment_layers": 0,
        "randaugment_magnitude": 0,
        "mixup_alpha": 0,
        "cutmix_alpha": 0,
    }
    require_at_least(config, least, "")
    if not config.mean or not config.std or min(config.std) <= 0:
        raise ValueError(
            "mean and std need one value or one per channel, and std values "
            f"above 0. Received: mean={config.mean}, std={config.std}"
        )
    for name, datasets_ in _READ_BY.items():
        value = getattr(config, name)
        if value and config.dataset not in datasets_:
            raise ValueError(
                f"{name} is only for the datasets {' and '.join(datasets_)}. "
                f"Set dataset to one of them, or omit {name}. Received: "
                f"dataset={config.dataset!r}, {name}={value!r}"
            )
    if config.tfds_data_dir and not _is_tfds(config):
        raise ValueError(
            "tfds_data_dir is only for datasets of TFDS. Set dataset to one of "
            "them, or omit tfds_data_dir. Received: "
            f"dataset={config.dataset!r}, "
            f"tfds_data_dir={config.tfds_data_dir!r}"
        )
    if config.path and "[" in config.split:
        raise ValueError(
            f"The split of {config.dataset} replaces {{split}} in its path; "
            "only TFDS can read a part of a split. Give its name, such as "
            "train; classification.rerank needs --held_out=0. "
            f"Received: dataset={config.dataset!r}, split={config.split!r}"
        )


def _is_tfds(config: Data) -> bool:
    return config.dataset not in _OURS


def located_as(validation: Data, training: Data) -> Data:
    """Returns validation settings, with the location of the training data.

    Raises:
      ValueError: if both would read the same files.
    """
    changes = {}
    if not validation.tfds_data_dir and _is_tfds(validation):
        changes["tfds_data_dir"] = training.tfds_data_dir
    if validation.dataset == training.dataset and not validation.path:
        if training.path and "{split}" not in training.path:
            raise ValueError(
                "Validation data need their own path, or {split} in that of "
                "the training data: DIR/{split}-*. Received: "
                f"task.train_data.path={training.path!r}"
            )
        changes["path"] = training.path
    return validation.replace(**changes)


def require_alike(
    training: tuple[Data, Source], validation: tuple[Data, Source]
) -> None:
    """Rejects a validation set that differs in kind from the training set.

    Args:
      training: settings, and the opened dataset.
      validation: likewise.

    Raises:
      ValueError: if the classes differ, images are read differently, or mean
        and std do not fit them.
    """
    (train, trained), (test, tested) = training, validation
    for key in ("image_size", "mean", "std", "label_offset"):
        one, other = getattr(train, key), getattr(test, key)
        if one != other:
            raise _unlike(key, one, other)
    sets = [part.dataset.split(":")[0] for part in (train, test)]
    names = trained.class_names, tested.class_names
    # Datasets with other names may have the same classes, if they list them.
    if names[0] != names[1] or (sets[0] != sets[1] and not names[0]):
        differ = sorted({*names[0]} ^ {*names[1]})[:5]
        what = f", class names in only one: {', '.join(differ)}"
        keys = ("dataset", "path", "split")
        raise _unlike(
            "dataset (and, for a folder, the same classes)",
            *({k: getattr(part, k) for k in keys} for part in (train, test)),
            what if differ else "",
        )
    if trained.shape != tested.shape:
        raise _unlike("image_size", trained.shape, tested.shape, " as read")
    channels = trained.shape[-1]
    for key in ("mean", "std"):
        if len(getattr(train, key)) not in (1, channels):
            raise ValueError(
                f"{key} needs one value or one per channel, of which "
                f"{train.dataset} has {channels}. Received: "
                f"task.train_data.{key}={getattr(train, key)}"
            )


def _unlike(key: str, one: object, other: object, more: str = "") -> ValueError:
    return ValueError(
        f"Training and validation must have the same {key}: set both "
        "task.train_data and task.validation_data. Received: "
        f"train_data: {one}, validation_data: {other}{more}"
    )


def _digits(num_classes: int, config: Data) -> Source:
    if config.image_size:
        raise ValueError(
            "The digits are held in memory, 8x8, and are not resized. Set "
            "image_size=0 in task.train_data and task.validation_data, or "
            "dataset=jpeg_digits. Received: dataset='digits', "
            f"image_size={config.image_size}"
        )
    images, labels = sources.digits(config.split)
    few = labels < num_classes
    return Memory(images[few], labels[few], min(num_classes, 10))


def _jpeg_digits(num_classes: int, config: Data) -> Source:
    return sources.open_jpeg_digits(
        config.split, config.image_size or 64, num_classes
    )


def _location(config: Data, example: str) -> str:
    if not config.path:
        raise ValueError(
            f"{config.dataset} needs a path, such as {example}. Set "
            f"task.train_data.path. Received: path={config.path!r}"
        )
    return files.normalize(config.path).replace("{split}", config.split)


def _tfrecords(config: Data) -> Source:
    """Opens TFRecords in the standard ImageNet layout."""
    pattern = _location(config, "DIR/{split}-*")
    found = files.match(pattern)
    if not found:
        raise ValueError(
            "No files match the pattern. Received: "
            f"path={config.path!r}, split={config.split!r}: {pattern}"
        )
    counts = records.counts(found)
    if config.examples and config.examples != sum(counts):
        raise ValueError(
            f"The {len(found)} files contain {sum(counts):,} records. Set "
            "examples to this number or to 0, or add the missing files. "
            f"Received: examples={config.examples}, {pattern}"
        )
    shards = map(readers.Shard, found, counts)
    reader = readers.Shards(tuple(shards), _parser(config.label_offset))
    # Such files do not store the number of classes.
    return Files(reader, 0, config.image_size or _SIZE)


def _folder(config: Data) -> Source:
    """Opens a folder with one folder per class, in alphabetical order."""
    root = _location(config, "DIR/{split}")
    found = folders.classes(root)
    reader = readers.Listed(
        tf.constant(found.paths), tf.constant(found.labels, tf.int32), True
    )
    return Files(
        reader,
        len(found.names),
        config.image_size or _SIZE,
        found.names,
        tuple(folders.describe(found.left_out)),
    )


def _tfds(config: Data) -> Source:
    """Opens a TFDS dataset, in memory if it is small and of one size."""
    return sources.open_tfds(
        config.dataset,
        config.split,
        config.tfds_data_dir,
        config.image_size or _SIZE,
        0 if config.image_size else _MEMORY_LIMIT,
    )


def _parser(label_offset: int) -> readers.Parse:
    """Returns a parser of image/encoded and image/class/label."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.io.parse_single_example(serialized, features)
        return row["image/encoded"], row["image/class/label"] - label_offset

    return parse
