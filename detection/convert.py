"""Converts COCO's JSON and images to TFRecords for the Model Garden's decoder.

    python -m detection.data convert --annotations=instances_train2017.json \
        --images=train2017 --output=DIR/train

The JSON is streamed (see `detection.ground_truth`) and each image is read when
it is written, so memory does not grow with their number. All annotations are
checked before the first image is read. The output directory gets its name when
it is complete: a killed conversion leaves `DIR/train.unfinished`, which the
next one removes. Beside the shards, `conversion.json` records what was
converted, left out and clipped, and `record_counts.json` the number of records
per shard.
"""

import argparse
import dataclasses
import functools
import json
import os
import time
from typing import Any

import tensorflow as tf

from detection import coco_format, instances, records
from detection.ground_truth import Reader
from evonorm_tf import files
from training import progress
from training.images import inspection
from training.images.folders import Counts
from training.images.records import write_counts

ABOUT_FILE = "conversion.json"
# Names of counts, beside those of `instances`.
INVALID_IMAGES, EMPTY = "invalid_images", "without_objects"
TRANSPARENT = "transparent"
UNFINISHED = ".unfinished"
_SAID_EVERY = 10.0  # Seconds, without a progress bar.


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The settings of a conversion.

    Attributes:
      annotations: COCO's JSON.
      images: directory of its images.
      output: directory to create.
      shards: number of files; at most one per image.
      masks: whether to write the objects' masks.
      workers: threads that read and encode.
      skip_invalid: leave invalid images and annotations out, and count them,
        instead of stopping.
    """

    annotations: str
    images: str
    output: str
    shards: int = 32
    masks: bool = True
    workers: int = os.cpu_count() or 1
    skip_invalid: bool = False


def convert(
    job: Conversion, display: progress.Display, overwrite: bool = False
) -> dict[str, Any]:
    """Writes the records.

    Image k goes to shard k modulo their number, whatever `workers` is.

    Args:
      job: the settings.
      display: shows the progress.
      overwrite: replace an earlier conversion when the new one is complete.

    Returns:
      The contents of `conversion.json`.

    Raises:
      ValueError: the output exists or contains the input, or a file or
        annotation is invalid; the message names the file and the entry.
    """
    output = files.normalize(job.output).rstrip("/")
    job = dataclasses.replace(job, output=output)
    unfinished = output + UNFINISHED
    if job.shards < 1 or job.workers < 1:
        raise ValueError(
            "shards and workers must be positive. Received: "
            f"shards={job.shards}, workers={job.workers}"
        )
    _check_replaceable(job, unfinished, overwrite)
    files.remove(unfinished)
    with Reader(job.annotations, True, job.skip_invalid) as reader:
        if job.masks and not job.skip_invalid:
            reader.maskless.check()
        files.make_folder(unfinished)
        try:
            about = _write(job, reader, unfinished, display)
        except Exception:  # A refusal leaves nothing half-written.
            files.remove(unfinished)
            raise
    text = json.dumps(about, indent=2) + "\n"
    files.write(files.join(unfinished, ABOUT_FILE), text)
    # The counts refer to names and sizes, so the folder can be moved.
    write_counts(files.match(files.join(unfinished, "*.tfrecord")))
    files.move(unfinished, output)
    return about


def read_about(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the contents of each `conversion.json` beside some records.

    Args:
      paths: of records. Those that this module has not written are ignored.

    Raises:
      ValueError: if a file is not a JSON object.
    """
    found = {}
    for folder in dict.fromkeys(map(files.parent, paths)):
        path = files.join(folder, ABOUT_FILE)
        if not files.is_file(path):
            continue
        try:
            about = json.loads(files.read_text(path))
        except ValueError:
            about = None
        if not isinstance(about, dict):
            raise ValueError(
                "The record of a conversion must be a JSON object; convert "
                f"again, or remove it. Received: {path!r}"
            )
        found[path] = about
    return found


def _check_replaceable(
    job: Conversion, unfinished: str, overwrite: bool
) -> None:
    """Rejects an output whose replacement would remove other files."""
    for key in ("annotations", "images"):
        given = files.real(getattr(job, key)) + "/"
        if any(
            given.startswith(files.real(folder).rstrip("/") + "/")
            for folder in (job.output, unfinished)
        ):
            raise ValueError(
                "The output must be a new folder: it is, or contains, the "
                f"{key}. Received: output={job.output!r}, "
                f"{key}={getattr(job, key)!r}"
            )
    if not files.exists(job.output):
        return
    if not overwrite:
        raise ValueError(
            "The output exists. Choose another one, or use --overwrite. "
            f"Received: output={job.output!r}"
        )
    if not files.exists(files.join(job.output, ABOUT_FILE)):
        raise ValueError(
            "--overwrite replaces only a complete conversion, and the output "
            f"has no {ABOUT_FILE}. Choose another one, or remove it first. "
            f"Received: output={job.output!r}"
        )


def _write(
    job: Conversion, reader: Reader, folder: str, display: progress.Display
) -> dict[str, Any]:
    """Writes all shards; returns the contents of `conversion.json`."""
    shards = min(job.shards, len(reader))
    name = files.name(job.output)
    writers = [
        tf.io.TFRecordWriter(
            f"{folder}/{name}-{shard:05d}-of-{shards:05d}.tfrecord"
        )
        for shard in range(shards)
    ]
    counts = _left_out(reader)
    clock = _Clock(len(reader), display)
    written = 0
    made = inspection.ahead(
        functools.partial(_example, job, reader), reader, job.workers
    )
    for done, (record, met) in enumerate(made):
        counts.add(met)
        if record is not None:
            writers[written % shards].write(record)
            written += 1
        clock.tick(done + 1)
    for writer in writers:
        writer.close()
    if not written:
        raise ValueError(
            "No image of the annotations is valid. The first that is not: "
            f"{counts.first.get(INVALID_IMAGES)}. "
            f"Received: annotations={job.annotations!r}"
        )
    return {
        "annotations": files.absolute(job.annotations),
        "images": written,
        "annotated": reader.annotations + reader.faults.counts["annotations"],
        "categories": reader.categories,
        "masks": job.masks,
        "shards": shards,
        "counts": dict(counts),
        "first": counts.first,
        "seconds": round(clock.seconds(), 1),
    }


def _left_out(reader: Reader) -> Counts:
    """Returns counts of what the reader filled in and left out."""
    counts = Counts()
    counts.add(reader.filled)
    for section, name in (
        ("images", INVALID_IMAGES),
        ("annotations", instances.INVALID),
    ):
        found = reader.faults.counts[section]
        if found:
            counts[name] = found
            counts.first[name] = reader.faults.first[section]
    return counts


def _example(
    job: Conversion, reader: Reader, image: dict, annotations: list[dict]
) -> tuple[bytes | None, Counts]:
    """Serializes an image; None if it is left out. Errors name the file."""
    counts = Counts()
    try:
        read = records.read_image(image, job.images)
    except ValueError as error:
        if not job.skip_invalid:
            raise ValueError(f"{job.annotations}: {error}") from error
        counts.note(INVALID_IMAGES, str(error))
        return None, counts
    counts[EMPTY] += not annotations
    found = instances.read(image, annotations, job.masks, counts)
    if read.transparent:
        counts.note(TRANSPARENT, f"image id={image['id']}")
    builder = records.example(image, read.encoded, read.kind, found, job.masks)
    names = [reader.categories[one.label].encode() for one in found]
    builder.add_bytes_feature("image/object/class/text", names)
    return builder.example.SerializeToString(), counts


class _Clock:
    """Shows progress, less often if there is no progress bar."""

    def __init__(self, images: int, display: progress.Display):
        self._images, self._display = images, display
        self._start = self._said = time.monotonic()

    def seconds(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self._start

    def tick(self, done: int) -> None:
        """Shows that `done` images are written."""
        now = time.monotonic()
        if not self._display.live and now - self._said < _SAID_EVERY:
            return
        self._said, taken = now, max(self.seconds(), 1e-9)
        rate = done / taken
        self._display.update(
            done / self._images,
            f"{done:,} of {self._images:,} images, {rate:.0f} images/s",
            (self._images - done) / rate,
        )


def summary(about: dict[str, Any]) -> list[str]:
    """Summarizes a conversion, one line per finding."""
    counts = Counts(about["counts"], about["first"])
    said = {
        instances.CLIPPED: "boxes less than a pixel outside: clipped",
        instances.FAR: "boxes further outside: clipped",
        instances.DROPPED: "boxes without an area: left out",
        instances.INVALID: "invalid annotations: left out",
        INVALID_IMAGES: "invalid images: left out, with their annotations",
        TRANSPARENT: "images with transparent pixels: composited on white",
    }
    lines = [
        f"{about['images']:,} images in {about['shards']} files, "
        f"{counts[EMPTY]:,} without annotations",
        f"{counts['objects']:,} of {about['annotated']:,} annotations, "
        f"{counts['crowds']:,} of them crowds",
    ]
    lines += counts.lines(said | coco_format.FILLED)
    highest = max(about["categories"])
    return [
        *lines,
        f"{len(about['categories'])} categories, ids up to {highest}: "
        f"model.num_classes={highest + 1}",
    ]


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m detection.data convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--annotations", required=True, help="COCO's JSON file")
    parser.add_argument(
        "--images", required=True, help="directory of the images"
    )
    parser.add_argument("--output", required=True, help="directory to create")
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--no_masks", dest="masks", action="store_false")
    parser.add_argument("--skip_invalid", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    given = vars(parser.parse_args(arguments))
    overwrite = given.pop("overwrite")
    with progress.Display("convert") as display:
        about = convert(Conversion(**given), display, overwrite)
    print("\n".join(summary(about)))
    rate = about["images"] / max(about["seconds"], 0.1)
    print(f"{progress.duration(about['seconds'])}, {rate:.0f} images/s")
    print(f"input_path: {given['output'].rstrip('/')}/*.tfrecord")
    return 0
