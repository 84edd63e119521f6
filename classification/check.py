"""Looks at data sets before training, and says what to do about them.

    python -m classification.data check --dataset=cifar10 \
        --tfds_data_dir=DIR --split=train --split=test
    python -m classification.data check --dataset=tfrecords \
        --path='DIR/{split}-*' --split=train --split=validation
    python -m classification.data check --experiment=NAME [as for training]

The exit status is 1 where training would go wrong.
"""

import argparse
import collections
import dataclasses
import hashlib
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from classification import decode, opening
from classification import experiment as _registers  # noqa: F401
from classification.records import Shards
from classification.settings import Data
from classification.sources import Memory, Records, Source
from evonorm_tf.training import config

_SHOWN = 5  # Of each kind of problem.
_SMALL = 32


@dataclasses.dataclass
class Report:
    """What was found in one split.

    Attributes:
      lines: facts.
      advice: what might be wrong.
      problems: what is.
      digests: name of each image looked at, by a digest of its bytes.
      class_names: of the labels, where they are known.
    """

    lines: list[str] = dataclasses.field(default_factory=list)
    advice: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    digests: dict[bytes, str] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()


def examine(settings: Data, num_classes: int, limit: int) -> Report:
    """Looks at one split.

    Args:
      settings: names it.
      num_classes: classes that the model tells apart.
      limit: look at so many images of a set that is not in memory; 0: all.
    """
    settings = settings.replace(is_training=False)
    report = Report()
    try:
        source = opening.open_source(settings, num_classes)
    except ValueError as error:
        report.problems.append(str(error))
        return report
    report.class_names = source.class_names
    kind = "in memory" if isinstance(source, Memory) else "read in training"
    report.lines.append(f"{source.examples:,} examples, {kind}")
    if source.class_names:
        names = source.class_names
        shown = ", ".join(names[:3] + ("...",) * (len(names) > 3))
        report.lines.append(f"{len(names):,} classes: {shown}")
    if isinstance(source, Memory):
        labels = _look_at_memory(source, report)
    else:
        labels = _look_at_records(source, settings, limit, report)
    if labels:
        _look_at_labels(labels, source, settings, report)
    return report


def _look_at_memory(source: Memory, report: Report) -> list[int]:
    for index, image in enumerate(source.images):
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        report.digests.setdefault(digest, f"image {index}")
    height, width, channels = source.shape
    report.lines.append(
        f"images of {height} x {width} x {channels}, mean "
        f"{source.images.mean() / 255:.3f}, std {source.images.std() / 255:.3f}"
    )
    return source.labels.tolist()


def _records(
    source: Records, settings: Data, limit: int, report: Report
) -> Iterator[tuple[bytes, int, str]]:
    """(encoded, label, name) of the first records, or what stops them."""
    stream = source.epoch(settings, tf.constant(0, tf.int64))
    read = stream.map(source.reader.read)
    try:
        for encoded, label, name in read.take(limit or -1):
            yield encoded.numpy(), int(label), name.numpy().decode()
    except tf.errors.OpError as error:
        report.problems.append(
            "Reading stops at an error. A file that is cut off must be copied "
            "again; records without image/encoded or image/class/label are "
            f"of another layout. TensorFlow says: {error.message[:300]}"
        )


def _look_at_records(
    source: Records, settings: Data, limit: int, report: Report
) -> list[int]:
    labels, sizes, seconds, broken = [], [], 0.0, 0
    for encoded, label, name in _records(source, settings, limit, report):
        labels.append(label)
        digest = hashlib.blake2b(encoded, digest_size=16).digest()
        report.digests.setdefault(digest, name)
        begun = time.perf_counter()
        try:
            image = decode.whole(tf.constant(encoded), tf.constant(name))
        except (tf.errors.OpError, ValueError):
            broken += 1
            if broken <= _SHOWN:
                report.problems.append(
                    f"{name} cannot be decoded: mend or remove it. "
                    f"Received: {len(encoded)} bytes, the first "
                    f"{encoded[:8]!r}"
                )
            continue
        seconds += time.perf_counter() - begun
        sizes.append(image.shape[:2])
        if len(sizes) == 1:
            height, width = image.shape[:2]
            report.lines.append(
                f"first image: {name}, label {label}, {height} x {width} "
                f"pixels, {len(encoded):,} bytes"
            )
    if broken > _SHOWN:
        report.problems.append(f"{broken:,} images cannot be decoded")
    report.lines.append(f"looked at {len(labels):,}")
    if sizes:
        _look_at_sizes(np.array(sizes), source.size, report)
        speed = seconds / len(sizes) * 1e3
        report.lines.append(f"decoding: {speed:.1f} ms an image on one core")
    return labels


def _look_at_sizes(sizes: np.ndarray, wanted: int, report: Report) -> None:
    shorter = sizes.min(1)
    report.lines.append(
        f"shorter side: {shorter.min()} to {shorter.max()} pixels, median "
        f"{np.median(shorter):.0f}; trained at {wanted}"
    )
    if np.median(shorter) < wanted / 2 and wanted > _SMALL:
        report.advice.append(
            "Most images are enlarged more than twice. A smaller image_size "
            f"costs less: {int(np.median(shorter))} or so"
        )


def _look_at_labels(
    labels: list[int], source: Source, settings: Data, report: Report
) -> None:
    counts = collections.Counter(labels)
    low, high = min(counts), max(counts)
    report.lines.append(f"labels {low} to {high}, {len(counts):,} of them")
    ranked = counts.most_common()
    (most, top), (least, bottom) = ranked[0], ranked[-1]
    report.lines.append(
        f"most often label {most} ({top:,}), least often {least} ({bottom:,})"
    )
    outside = sum(n for k, n in counts.items() if not 0 <= k < source.classes)
    if outside:
        way_out = f"Mend them, or set num_classes={high + 1}"
        if low == 1 and high == source.classes:
            way_out = "They begin at 1: set label_offset=1"
        elif low < 0:
            way_out = "A label below 0 says that the split has none"
            if settings.label_offset:
                way_out = "Set label_offset=0"
        report.problems.append(
            f"{outside:,} labels are outside the classes, 0 to "
            f"{source.classes - 1}. {way_out}. Received: labels {low} to {high}"
        )
    # One class after the other, in the order of the files.
    in_order = len(labels) > 1 and min(np.diff(labels)) >= 0
    if in_order and isinstance(getattr(source, "reader", None), Shards):
        report.advice.append(
            "The records are sorted by label, and a buffer of "
            f"{settings.shuffle_buffer_size} shuffles neighbours alone: write "
            "them in random order, or raise shuffle_buffer_size"
        )


def compare(reports: dict[str, Report]) -> list[str]:
    """Problems between splits: other classes, the same images."""
    problems = []
    names = list(reports)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            one, two = reports[first], reports[second]
            if one.class_names != two.class_names:
                other = sorted({*one.class_names} ^ {*two.class_names})
                problems.append(
                    f"{first} and {second} have other classes, so a label "
                    "means two things. Give both the same folders. Received: "
                    f"only in one of them {', '.join(other[:_SHOWN])}"
                )
            same = one.digests.keys() & two.digests.keys()
            if same:
                digest = next(d for d in one.digests if d in same)
                problems.append(
                    f"{len(same):,} images are in {first} and in {second}, "
                    "which would be tested on what they were trained on. "
                    "Remove them from one. Received: "
                    f"{one.digests[digest]} and {two.digests[digest]}"
                )
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m classification.data check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", help="digits, tfrecords, folder or TFDS")
    parser.add_argument("--split", action="append", help="repeat it for more")
    parser.add_argument("--path", default="", help="of tfrecords or folder")
    parser.add_argument("--tfds_data_dir", default="")
    parser.add_argument("--label_offset", type=int, default=0)
    parser.add_argument("--num_classes", type=int, default=1000)
    parser.add_argument("--image_size", type=int, default=0)
    parser.add_argument("--experiment", help="instead of --dataset")
    parser.add_argument("--config_file", action="append", default=[])
    parser.add_argument("--params_override")
    parser.add_argument(
        "--limit",
        type=int,
        default=1000,
        help="images to look at in each split; 0 for all",
    )
    return parser


def _splits(given: argparse.Namespace) -> tuple[list[Data], int]:
    """The splits that the command line names, and the model's classes."""
    if given.experiment:
        params = config.parse(
            given.experiment,
            given.config_file,
            params_override=given.params_override,
        )
        train = params.task.train_data
        test = opening.beside(params.task.validation_data, train)
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


def main(arguments: list[str]) -> int:
    """Prints what it finds; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if bool(given.dataset) == bool(given.experiment):
        parser.error("give one of --dataset and --experiment")
    splits, num_classes = _splits(given)
    reports = {}
    for data in splits:
        title = f"{data.dataset} {data.split}"
        report = reports[title] = examine(data, num_classes, given.limit)
        print(f"\n{title}")
        for line in report.lines:
            print(f"  {line}")
        for line in report.advice:
            print(f"  ADVICE: {line}")
        for line in report.problems:
            print(f"  PROBLEM: {line}")
    between = compare(reports)
    for line in between:
        print(f"\nPROBLEM: {line}")
    problems = len(between) + sum(len(r.problems) for r in reports.values())
    print(f"\n{problems} problem(s)" if problems else "\nno problem found")
    return 1 if problems else 0
