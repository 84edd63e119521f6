"""Whether TFRecords are those of the annotations, and what was found."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from detection import example_decoder, instances, masks
from detection.ground_truth import Reader
from evonorm_tf import files
from training.images import decoding
from training.images import records as counting
from training.images.folders import Counts
from training.images.inspection import SHOWN, Report

DRAWN = 4
# float32 in [0, 1].
_BOX_TOLERANCE = 1e-6

Drawn = list[tuple[np.ndarray, list[dict]]]


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
    decoder = example_decoder.Decoder(include_mask=True)
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
        if len(drawn) < DRAWN and len(one["groundtruth_classes"]):
            drawn.append((one["image"], _entries(one)))
        pair = reader and reader.find(source)
        problem = pair and _difference(one, *pair)
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
                f"anew. TensorFlow says: {decoding.cause(error)[:200]}"
            )


def _decoded(
    decoder: example_decoder.Decoder, name: str, record: tf.Tensor, whole: bool
) -> tuple[int | None, dict[str, Any] | str | None]:
    """A record's image id, and what is in it or why it cannot be decoded.

    Args:
      decoder: of the example.
      name: what an error calls the record.
      record: serialized.
      whole: whether to decode more than the id.
    """
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
        text = str(error) if is_ours else decoding.cause(error)
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


def _difference(
    one: dict[str, Any], image: dict, annotations: list
) -> str | None:
    """How a record differs from its image's annotations; None if not."""
    pictures = one["groundtruth_instance_masks"]
    found = instances.read(image, annotations, bool(len(pictures)), Counts())
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
