"""Checks data sets before training, and says how to fix what is wrong.

    python -m classification.data check --dataset=cifar10 \
        --tfds_data_dir=DIR --split=train --split=test
    python -m classification.data check --dataset=tfrecords \
        --path='DIR/{split}-*' --split=train --split=validation
    python -m classification.data check --experiment=NAME [as for training]
    python -m classification.data check --row=ROW [as for training]

The exit status is 1 if training would fail or learn from invalid data.
"""

import argparse
import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from classification import datasets, experiment
from classification.settings import Data
from classification.tables import TABLES
from training.images import errors, inspection, readers, records
from training.images.sources import Files, Memory, Source

SHOWN = inspection.SHOWN
_ADVICE = (
    "Copy truncated files again; each record must have the features "
    "image/encoded and image/class/label"
)
_OF_EXPERIMENT = ("config_file", "params_override")
_OF_DATASET = (
    "split",
    "path",
    "tfds_data_dir",
    "label_offset",
    "num_classes",
    "image_size",
)


@dataclasses.dataclass
class Report(inspection.Report):
    """The findings about one split.

    Attributes:
      digests: name of each examined image, by a digest of its bytes.
      source: the opened data set; None if it could not be opened.
    """

    digests: dict[bytes, str] = dataclasses.field(default_factory=dict)
    source: Source | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels; empty if unknown."""
        return self.source.class_names if self.source else ()


def examine(settings: Data, num_classes: int, limit: int) -> Report:
    """Examines one split.

    Args:
      settings: those of the split.
      num_classes: number of classes of the model.
      limit: number of images to decode of a data set that is not in memory;
        0 for all.
    """
    settings = settings.replace(is_training=False)
    report = Report()
    try:
        source = datasets.open_source(settings, num_classes)
    except ValueError as error:
        report.problems.append(str(error))
        return report
    report.source = source
    kind = (
        "in memory"
        if isinstance(source, Memory)
        else "read from files in training"
    )
    report.lines.append(f"{source.examples:,} examples, {kind}")
    report.advice += source.notes
    if source.class_names:
        names = source.class_names
        shown = ", ".join(names[:3] + ("...",) * (len(names) > 3))
        report.lines.append(f"{len(names):,} classes: {shown}")
    if isinstance(source, Memory):
        labels = _look_at_memory(source, report)
    else:
        labels = _look_at_records(source, settings, limit, report)
    if labels:
        _look_at_labels(labels, source, settings.label_offset, report)
    return report


def _look_at_memory(source: Memory, report: Report) -> list[int]:
    for index, image in enumerate(source.images):
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        report.digests.setdefault(digest, f"image {index}")
    height, width, channels = source.shape
    first = source.images[0]
    report.lines.append(
        f"first image: label {source.labels[0]}, {height} x {width} pixels, "
        f"levels {first.min()} to {first.max()}"
    )
    report.lines.append(
        f"images of {height} x {width} x {channels}, mean "
        f"{source.images.mean() / 255:.3f}, std {source.images.std() / 255:.3f}"
    )
    return source.labels.tolist()


def _records(
    source: Files, limit: int, report: Report
) -> Iterator[tuple[bytes, int, str]]:
    """Yields (encoded, label, name) of some records; reports read errors."""
    if isinstance(source.reader, readers.Shards):
        yield from inspection.stream(source.reader, limit, report, _ADVICE)
        return
    # The list is sorted by class, so the first images would be of one.
    limit = min(limit or source.examples, source.examples)
    for place in np.linspace(0, source.examples - 1, limit).astype(np.int64):
        try:
            encoded, label, name = source.reader.read(tf.constant(place))
        except tf.errors.OpError as error:
            report.problems.append(
                f"An image cannot be read: {errors.cause(error)}. Fix "
                "or remove it."
            )
            continue
        yield encoded.numpy(), int(label), name.numpy().decode()


def _look_at_records(
    source: Files, settings: Data, limit: int, report: Report
) -> list[int]:
    found, labels = inspection.look_at_records(_records(source, limit, report))
    for one in found:
        report.digests.setdefault(one.digest, one.name)
    first = next((pair for pair in zip(found, labels) if pair[0].size), None)
    if first:
        one, label = first
        report.lines.append(
            f"first image: {one.name}, label {label}, {one.size[0]} x "
            f"{one.size[1]} pixels, {one.bytes:,} bytes"
        )
    inspection.describe(found, report, source.size)
    names = [one.name for one in found]
    if isinstance(source.reader, readers.Shards) and _sorted(labels, names):
        report.advice.append(
            "The records are sorted by label, and a shuffle buffer of "
            f"{settings.shuffle_buffer_size} mixes only neighbours. Write "
            "them in random order, or raise shuffle_buffer_size"
        )
    return labels


def _sorted(labels: list[int], names: list[str]) -> bool:
    """Returns whether the labels are in order within each file."""
    files: dict[str, list[int]] = {}
    for label, name in zip(labels, names):
        # The reader's name of a record: "record 3 of FILE".
        files.setdefault(name.partition(" of ")[2], []).append(label)
    steps = [step for found in files.values() for step in np.diff(found)]
    return bool(steps) and min(steps) >= 0


def _look_at_labels(
    labels: list[int], source: Source, label_offset: int, report: Report
) -> None:
    counts = collections.Counter(labels)
    low, high = min(counts), max(counts)
    report.lines.append(f"labels {low} to {high}, {len(counts):,} different")
    ranked = counts.most_common()
    (most, top), (least, bottom) = ranked[0], ranked[-1]
    report.lines.append(
        f"most frequent label {most} ({top:,}), least {least} ({bottom:,})"
    )
    outside = sum(n for k, n in counts.items() if not 0 <= k < source.classes)
    if outside:
        fix = f"Fix them, or set num_classes={high + 1}"
        if low == 1 and high == source.classes:
            fix = "They begin at 1: set label_offset=1"
        elif low < 0:
            fix = "Negative labels usually mean that the split has none"
            if label_offset:
                fix = "Set label_offset=0"
        report.problems.append(
            f"{outside:,} labels are outside the classes, 0 to "
            f"{source.classes - 1}. {fix}. Received: labels {low} to {high}"
        )


def _other_classes(splits: list[Data], reports: list[Report]) -> list[str]:
    """Returns problems of splits whose class names differ."""
    problems = []
    opened = [pair for pair in zip(splits, reports) if pair[1].source]
    for (first, one), (second, two) in itertools.combinations(opened, 2):
        if one.class_names != two.class_names:
            other = sorted({*one.class_names} ^ {*two.class_names})
            problems.append(
                f"{_title(first)} and {_title(second)} have different "
                "classes, so the same label has two meanings. Both need the "
                "same folders. "
                f"Received: only in one of them {', '.join(other[:SHOWN])}"
            )
    return problems


def _unlike(splits: list[Data], reports: list[Report]) -> list[str]:
    """Returns why one split cannot evaluate a model trained on the other."""
    sources = [report.source for report in reports]
    if None in sources:
        return []
    try:
        datasets.require_alike(*zip(splits, sources))
    except ValueError as error:
        return [str(error)]
    return []


def _same_images(splits: list[Data], reports: list[Report]) -> list[str]:
    problems = []
    pairs = itertools.combinations(zip(splits, reports), 2)
    for (first, one), (second, two) in pairs:
        same = one.digests.keys() & two.digests.keys()
        if same:
            digest = next(d for d in one.digests if d in same)
            problems.append(
                f"{len(same):,} images are in both {_title(first)} and "
                f"{_title(second)}, so the evaluation would contain training "
                "images. Remove them from one. Received: "
                f"{one.digests[digest]} and {two.digests[digest]}"
            )
    return problems


def _title(data: Data) -> str:
    return f"{data.dataset} {data.split}"


def _splits(given: argparse.Namespace) -> tuple[list[Data], int]:
    """Returns the splits of the flags and the model's number of classes."""
    params = inspection.experiment(given, TABLES)
    if params is not None:
        experiment.fill_in(params.task)
        train = params.task.train_data
        test = datasets.located_as(params.task.validation_data, train)
        return [train, test], params.task.model.num_classes
    data = Data(
        dataset=given.dataset,
        path=given.path,
        tfds_data_dir=given.tfds_data_dir,
        label_offset=given.label_offset,
        image_size=given.image_size,
    )
    splits = given.split or ["train"]
    return [data.replace(split=split) for split in splits], given.num_classes


def _write_counts(splits: list[Data], reports: list[Report]) -> None:
    for data, report in zip(splits, reports):
        if data.dataset == "tfrecords" and report.source:
            paths = [shard.path for shard in report.source.reader.shards]
            for path in records.write_counts(paths):
                print(f"\nwrote {path}")


def main(arguments: list[str]) -> int:
    """Prints the findings; returns the exit status."""
    parser = inspection.parser("classification.data check", __doc__, 1000)
    inspection.add_experiment(parser)
    add = parser.add_argument
    add("--dataset", help="digits, tfrecords, folder or a TFDS name")
    add("--split", action="append", help="split of --dataset; can be repeated")
    add("--path", default="", help="of the files, for tfrecords and folder")
    add("--tfds_data_dir", default="", help="directory of TFDS data sets")
    add("--label_offset", type=int, default=0, help="label of the first class")
    add(
        "--num_classes",
        type=int,
        default=1000,
        help="number of classes of the model",
    )
    add("--image_size", type=int, default=0, help="side of resized images")
    add(
        "--write_counts",
        action="store_true",
        help="write the numbers of records beside the tfrecords",
    )
    given = parser.parse_args(arguments)
    named = bool(given.experiment or given.row)
    if bool(given.dataset) == named:
        parser.error("give --dataset, or --experiment or --row")
    unused = [
        f"--{name}"
        for name in (_OF_DATASET if named else _OF_EXPERIMENT)
        if getattr(given, name) != parser.get_default(name)
    ]
    if unused:
        parser.error(
            f"{', '.join(unused)} need --dataset; set --params_override"
            if named
            else f"{', '.join(unused)} need --experiment or --row"
        )
    splits, num_classes = _splits(given)
    if given.write_counts and all(x.dataset != "tfrecords" for x in splits):
        parser.error("--write_counts needs data of tfrecords")
    reports: list[Report] = []

    def each() -> Iterator[tuple[str, Report]]:
        for data in splits:
            reports.append(examine(data, num_classes, given.limit))
            yield _title(data), reports[-1]

    problems = inspection.show(each())
    if given.write_counts:
        _write_counts(splits, reports)
    between = (_unlike if named else _other_classes)(splits, reports)
    between += _same_images(splits, reports)
    for line in between:
        print(f"\nPROBLEM: {line}")
    return inspection.conclude(problems + len(between))
