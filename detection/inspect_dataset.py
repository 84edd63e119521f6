r"""Checks a detection dataset before training.

    python -m detection.data check --annotations=instances_val2017.json \
        --images=val2017 --records='DIR/val/*.tfrecord' --picture=val.png

Reads annotations, images and records, or those of them that are given, and
compares them. The picture shows boxes and masks as training reads them. The
exit status is 1 if training or its evaluation would fail.
"""

import argparse
import collections
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib import figure

from detection import coco_format, datasets, draw, instances, masks, records
from detection.convert import TRANSPARENT
from detection.ground_truth import Reader
from evonorm_tf import files
from training.images import errors, inspection
from training.images import records as counting
from training.images.folders import Counts
from training.images.inspection import SHOWN, Report

# A mask may be slightly outside its box, as in COCO, but not elsewhere.
_LEAST_OVERLAP = 0.5
_DRAWN = 4  # images
_BOX_TOLERANCE = 1e-6  # float32 in [0, 1]

Drawn = list[tuple[np.ndarray, list[dict]]]


def examine(
    reader: Reader, folder: str | None, num_classes: int, limit: int
) -> tuple[Report, Drawn]:
    """Checks annotations and images.

    Args:
      reader: of the annotations, for training, which skipped invalid ones.
      folder: of the images; None to check only annotations.
      num_classes: of the model, including background; 0 for any.
      limit: number of images to check; 0 for all.

    Returns:
      A report, and a few images with their annotations.
    """
    report, drawn = Report(), []
    _categories(report, reader, num_classes)
    _left_out(report, reader)
    counts, used = Counts(), collections.Counter()
    problems = []
    with_masks = reader.maskless.counts.total() < reader.annotations
    looked = min(limit or len(reader), len(reader))
    # A sample, because the first images may come from one source.
    apart = max(len(reader) // max(looked, 1), 1)
    chosen = itertools.islice(reader, 0, looked * apart, apart)
    for image, annotations in chosen:
        pixels = None
        if folder:
            try:
                read = records.read_image(image, folder)
            except ValueError as error:
                problems.append(str(error))
                continue
            pixels = read.pixels
            if read.transparent:
                counts.note(TRANSPARENT, f"image_id={image['id']}")
        found = instances.read(image, annotations, with_masks, counts)
        used.update(one.label for one in found)
        for one in found:
            if with_masks:
                _compare_mask(one, counts, f"image_id={image['id']}")
        if pixels is not None and found and len(drawn) < _DRAWN:
            drawn.append((pixels, annotations))
    report.problems += problems[:SHOWN]
    if len(problems) > SHOWN:
        report.problems.append(f"{len(problems):,} images in all")
    report.lines.append(
        f"{len(reader):,} images, {reader.annotations:,} annotations; looked "
        f"at {looked:,} images with {counts['objects']:,} objects of "
        f"{len(used)} categories, {counts['crowds']:,} of them crowds"
    )
    _say(report, counts)
    return report, drawn


def _left_out(report: Report, reader: Reader) -> None:
    """Reports what the reader rejected, filled in or found twice."""
    for section, found in reader.faults.counts.items():
        report.problems.append(
            f"{found:,} {section} are invalid: convert refuses them, and "
            "leaves them out with --skip_invalid. The first: "
            f"{reader.faults.first[section]}"
        )
    report.lines += reader.filled.lines(coco_format.FILLED)
    texts = {"file_name": "images have the file name of another"}
    report.advice += reader.repeated.lines(texts)
    maskless = reader.maskless.counts.total()
    if not maskless:
        return
    if maskless >= reader.annotations:  # Skipped ones are counted too.
        report.lines.append(
            "No annotation has a mask: convert with --no_masks, and train "
            "with task.model.include_mask=False"
        )
    else:
        report.problems.append(
            f"{maskless:,} annotations have no mask, others do. The first: "
            f"{reader.maskless.first['annotations']}"
        )


def _categories(report: Report, reader: Reader, num_classes: int) -> None:
    numbers = sorted(reader.categories)
    needed = numbers[-1] + 1
    unused = needed - 1 - len(numbers)
    report.lines.append(
        f"{len(numbers)} categories with ids {numbers[0]} to {numbers[-1]}, "
        f"{unused} ids between them unused: model.num_classes={needed}, the "
        "highest id and the background"
    )
    if num_classes and num_classes < needed:
        report.problems.append(
            f"model.num_classes must be {needed} or more, the highest category "
            "id and 1, however many categories there are. "
            f"Received: num_classes={num_classes}"
        )
    elif num_classes > needed:
        report.advice.append(
            f"num_classes={num_classes}, and {needed} would do."
        )


def _compare_mask(one: instances.Instance, counts: Counts, where: str) -> None:
    rows, columns = masks.decode(one.mask).nonzero()
    if not rows.size:
        counts.note("empty_masks", f"{where}, box={one.box}")
        return
    left, top, right, bottom = one.box
    mine = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    width = min(right, mine[2]) - max(left, mine[0])
    height = min(bottom, mine[3]) - max(top, mine[1])
    both = max(width, 0) * max(height, 0)
    area = (mine[2] - mine[0]) * (mine[3] - mine[1])
    union = area + (right - left) * (bottom - top) - both
    if both < _LEAST_OVERLAP * union:
        counts.note("mask_elsewhere", f"{where}, box={one.box}, mask {mine}")


def _say(report: Report, counts: Counts) -> None:
    texts = {
        instances.DROPPED: (report.advice, "boxes have no area in the image"),
        instances.CLIPPED: (
            report.lines,
            "boxes are less than a pixel outside: conversion clips them",
        ),
        instances.FAR: (
            report.advice,
            "boxes are further outside their images; conversion clips them",
        ),
        TRANSPARENT: (
            report.advice,
            "images have transparent pixels, which are composited on white",
        ),
        "empty_masks": (report.advice, "masks are too thin for a pixel"),
        "mask_elsewhere": (
            report.advice,
            "masks overlap their boxes by less than half",
        ),
    }
    for name, (lines, text) in texts.items():
        if counts[name]:
            first = counts.first[name]
            lines.append(f"{counts[name]:,} {text}. The first: {first}")


def compare(
    reader: Reader | None, pattern: str, limit: int
) -> tuple[Report, Drawn]:
    """Looks at records, and at whether they are those of the annotations.

    Args:
      reader: of the annotations; None looks at the records alone.
      pattern: of the records.
      limit: records to decode; 0 for all. Ids are read of all.

    Returns:
      What was found, and a few images with what their records say.
    """
    report, drawn = Report(), []
    found = files.match(pattern)
    if not found:
        report.problems.append(f"There are no such records: {pattern!r}")
        return report, drawn
    seen, broken = collections.Counter(), 0
    decoder = datasets.Decoder(include_mask=True)
    for number, (name, record) in enumerate(_records(found, report)):
        source, one = _decoded(
            decoder, name, record, not limit or number < limit
        )
        seen[source] += 1
        if isinstance(one, str):
            broken += 1
            report.problems += [one] if broken <= SHOWN else []
            continue
        if one is None:
            continue
        if len(drawn) < _DRAWN and len(one["groundtruth_classes"]):
            drawn.append((one["image"], _entries(one)))
        pair = reader and reader.find(source)
        problem = pair and _difference(one, _has_masks(record), *pair)
        if problem and len(report.problems) < SHOWN:
            report.problems.append(problem)
    if broken > SHOWN:
        report.problems.append(f"{broken:,} records are broken in all")
    report.lines.append(f"{seen.total():,} records in {len(found)} files")
    if not seen and not report.problems:
        report.problems.append(f"The files have no record: {pattern!r}")
    if reader:
        _compare_ids(report, seen, set(reader.ids))
    return report, drawn


def _records(
    paths: list[str], report: Report
) -> Iterator[tuple[str, tf.Tensor]]:
    """(name, serialized) of each record, or what stops reading a file."""
    for path in paths:
        try:
            (count,) = counting.counts([path])
            # Training, too, stops where a file has other than so many.
            content = tf.data.TFRecordDataset(path).apply(
                tf.data.experimental.assert_cardinality(count)
            )
            for place, record in enumerate(content):
                yield f"record {place} of {path}", record
        except ValueError as error:
            report.problems.append(str(error))
        except tf.errors.OpError as error:
            report.problems.append(
                f"Reading {path} stops at an error; copy it again, or convert "
                f"anew. TensorFlow says: {errors.cause(error)[:200]}"
            )


def _decoded(
    decoder: datasets.Decoder, name: str, record: tf.Tensor, whole: bool
) -> tuple[int | None, dict[str, Any] | str | None]:
    """A record's image id, and what is in it or why it cannot be decoded."""
    key = "image/source_id"
    features = {key: tf.io.FixedLenFeature((), tf.string)}
    source = None
    try:
        parsed = tf.io.parse_single_example(record, features)
        source = int(parsed[key].numpy())
        if not whole:
            return source, None
        decoded = decoder.decode(record, tf.constant(name))
        return source, {key: part.numpy() for key, part in decoded.items()}
    except (tf.errors.OpError, ValueError) as error:
        is_ours = isinstance(error, ValueError)
        text = str(error) if is_ours else errors.cause(error)
        named = text if name in text else f"{name} is broken: {text[:300]}"
        return source, named


def _compare_ids(report: Report, seen: collections.Counter, ids: set) -> None:
    for what, found in (
        (
            "records are there twice",
            {i for i, n in seen.items() if n > 1 and i is not None},
        ),
        ("records are of no annotated image", set(seen) - ids - {None}),
        ("annotated images have no record", ids - set(seen)),
    ):
        if found:
            report.problems.append(
                f"{len(found):,} {what}; convert anew. "
                f"Received: id={min(found)}"
            )


def _entries(one: dict[str, Any]) -> list[dict]:
    """What a decoded record holds, as COCO annotations."""
    height, width = one["image"].shape[:2]
    size = np.array([height, width, height, width])
    entries = []
    for index, box in enumerate(one["groundtruth_boxes"] * size):
        top, left, bottom, right = box
        entry = {
            "bbox": [left, top, right - left, bottom - top],
            "category_id": int(one["groundtruth_classes"][index]),
        }
        if len(one["groundtruth_instance_masks"]):
            mask = one["groundtruth_instance_masks"][index]
            entry["segmentation"] = masks.encode(mask)
        entries.append(entry)
    return entries


def _has_masks(record: tf.Tensor) -> bool:
    """Returns whether a record was written with masks, if only of no object."""
    example = tf.train.Example.FromString(record.numpy())
    return "image/object/mask" in example.features.feature


def _difference(
    one: dict[str, Any], masked: bool, image: dict, annotations: list
) -> str | None:
    """How a record differs from its image's annotations; None if not."""
    pictures = one["groundtruth_instance_masks"]
    found = instances.read(image, annotations, masked, Counts())
    labels = [instance.label for instance in found]
    difference = None
    size = np.array([image["width"], image["height"]] * 2)
    boxes = np.array([instance.box for instance in found]).reshape(-1, 4)
    wanted = (boxes / size)[:, [1, 0, 3, 2]]
    if one["groundtruth_classes"].tolist() != labels:
        difference = "other categories"
    elif not np.allclose(
        one["groundtruth_boxes"], wanted, rtol=0, atol=_BOX_TOLERANCE
    ):
        difference = "other boxes"
    elif len(pictures) and not all(
        np.array_equal(picture, masks.decode(instance.mask))
        for picture, instance in zip(pictures, found, strict=True)
    ):
        difference = "other masks"
    if difference is None:
        return None
    return (
        f"A record has {difference} than its annotations; convert anew. "
        f"Received: image id={image['id']}"
    )


def _sheet(drawn: Drawn, called: dict[int, str], path: str) -> None:
    """Draws the images on one picture."""
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    sheet = figure.Figure((6 * columns, 5 * rows), layout="constrained")
    axes = sheet.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(drawn) :]:
        axis.axis("off")
    for axis, (pixels, entries) in zip(axes, drawn):
        draw.panel(axis, pixels, entries, called)
    draw.save(sheet, path)


def main(arguments: list[str]) -> int:
    """Prints the report; returns the exit status."""
    parser = inspection.parser("detection.data check", __doc__, 500)
    parser.add_argument("--annotations", help="COCO's JSON")
    parser.add_argument("--images", help="directory of its images")
    parser.add_argument("--records", help="pattern of TFRecords")
    parser.add_argument(
        "--num_classes",
        type=int,
        default=0,
        help="classes of the model, including background; 0 for any",
    )
    parser.add_argument("--picture", help="PNG file to draw")
    given = parser.parse_args(arguments)
    if not (given.annotations or given.records):
        parser.error("give --annotations, --records or both")
    if not given.annotations:
        if given.images or given.num_classes:
            parser.error("--images and --num_classes need --annotations")
        return _look(given, None)
    with Reader(given.annotations, True, skip_invalid=True) as reader:
        return _look(given, reader)


def _look(given: argparse.Namespace, reader: Reader | None) -> int:
    drawn: Drawn = []

    def reports() -> Iterator[tuple[str, Report]]:
        if reader:
            report, found = examine(
                reader, given.images, given.num_classes, given.limit
            )
            drawn[:] = found
            yield given.annotations, report
        if given.records:
            # What training reads is drawn.
            report, found = compare(reader, given.records, given.limit)
            drawn[:] = found
            yield given.records, report

    problems = inspection.show(reports())
    if given.picture and drawn:
        _sheet(drawn, reader.categories if reader else {}, given.picture)
        print(f"Picture: {files.absolute(given.picture)}")
    return inspection.conclude(problems)
