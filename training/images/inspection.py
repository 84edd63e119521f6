"""Inspects image files before training.

Every inspected file is decoded completely, with the decoder and the rules of
training, so that all files at which training would stop are found here.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from training import config
from training.images import decoding, errors, readers, records
from training.report import HeadTables

SHOWN = 5  # of each kind of problem
_SMALL = 32
_WORKERS = os.cpu_count() or 1


@dataclasses.dataclass
class Report:
    """The result of an inspection.

    Attributes:
      lines: facts.
      advice: possible problems.
      problems: definite problems.
    """

    lines: list[str] = dataclasses.field(default_factory=list)
    advice: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def text(self, indent: str = "") -> str:
        """Returns everything as text, one line each."""
        found = [
            *self.lines,
            *(f"ADVICE: {line}" for line in self.advice),
            *(f"PROBLEM: {line}" for line in self.problems),
        ]
        return "\n".join(indent + line for line in found)


@dataclasses.dataclass(frozen=True)
class File:
    """An inspected image file.

    Attributes:
      name: its name in errors.
      digest: of its content.
      bytes: size of its content.
      size: height and width; None if it is rejected.
      format: one of `decoding.FORMATS`.
      transparent: number of pixels that are not opaque.
      turned: whether it is a JPEG whose EXIF orientation is not upright.
      problem: why it is rejected.
      seconds: CPU time for decoding it on one core.
    """

    name: str
    digest: bytes
    bytes: int
    size: tuple[int, int] | None = None
    format: str = ""
    transparent: int = 0
    turned: bool = False
    problem: str = ""
    seconds: float = 0.0


def look(encoded: bytes, name: str) -> File:
    """Decodes a file."""
    digest = hashlib.blake2b(encoded, digest_size=16).digest()
    begun = time.thread_time()
    try:
        found = decoding.read(encoded, name)
    except ValueError as error:
        return File(name, digest, len(encoded), problem=str(error))
    return File(
        name,
        digest,
        len(encoded),
        found.pixels.shape[:2],
        found.format,
        found.transparent,
        seconds=time.thread_time() - begun,
        turned=found.format == "JPEG" and decoding.orientation(encoded) > 1,
    )


def look_at_all(content: Iterable[tuple[bytes, str]]) -> Iterator[File]:
    """Decodes files given as (content, name), several at once, in order."""
    return ahead(look, content, _WORKERS)


def look_at_records(
    records: Iterable[tuple[bytes, int, str]],
) -> tuple[list[File], list[int]]:
    """Decodes records given as (content, label, name); returns labels too."""
    labels = []

    def content() -> Iterator[tuple[bytes, str]]:
        for encoded, label, name in records:
            labels.append(label)
            yield encoded, name

    return list(look_at_all(content())), labels


def stream(
    reader: readers.Listed | readers.Shards,
    limit: int,
    report: Report,
    advice: str,
) -> Iterator[tuple[bytes, int, str]]:
    """Yields (content, label, name) of the first records.

    Args:
      reader: of the records.
      limit: number of records; 0 for all.
      report: gets the error at which reading stops.
      advice: how to fix it.
    """
    found = reader.in_order().map(reader.read)
    try:
        for encoded, label, name in found.take(limit or -1):
            yield encoded.numpy(), int(label), name.numpy().decode()
    except tf.errors.OpError as error:
        if isinstance(reader, readers.Shards):
            paths = [shard.path for shard in reader.shards]
            for path in records.damaged(paths, error):
                report.problems.append(f"{path} is damaged. Copy it again")
        report.problems.append(
            f"Reading stops at an error. {advice}. TensorFlow's message: "
            f"{errors.cause(error)[:300]}"
        )


def ahead(
    function: Callable[..., Any], arguments: Iterable[tuple], workers: int
) -> Iterator[Any]:
    """Yields results in order, computed by threads a few calls ahead.

    Args:
      function: to call.
      arguments: of each call.
      workers: number of threads.
    """
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        calls: collections.deque = collections.deque()
        try:
            for one in arguments:
                calls.append(pool.submit(function, *one))
                if len(calls) > 2 * workers:
                    yield calls.popleft().result()
            while calls:
                yield calls.popleft().result()
        finally:
            for call in calls:
                call.cancel()


def describe(
    found: list[File], report: Report, wanted: int | None = None
) -> None:
    """Adds a description of files to a report.

    Args:
      found: the inspected files.
      report: is extended.
      wanted: side in pixels to which images are resized; None for their own.
    """
    report.lines.append(f"inspected {len(found):,} image files")
    refused = [one.problem for one in found if one.problem]
    report.problems += refused[:SHOWN]
    if len(refused) > SHOWN:
        report.problems.append(
            f"{len(refused):,} image files are refused in all"
        )
    read = [one for one in found if one.size]
    if not read:
        return
    formats = collections.Counter(one.format for one in read)
    said = ", ".join(f"{n:,} {kind}" for kind, n in formats.most_common())
    report.lines.append(f"formats: {said}")
    transparent = [one for one in read if one.transparent]
    if transparent:
        first = transparent[0]
        report.advice.append(
            f"In {len(transparent):,} of {len(read):,} image files transparent "
            f"pixels are composited on white (the first: {first.name}, "
            f"{first.transparent:,} pixels)"
        )
    turned = [one for one in read if one.turned]
    if turned:
        report.advice.append(
            f"In {len(turned):,} of {len(read):,} image files the EXIF "
            "orientation is not applied; turn the pixels if they must be "
            f"upright (the first: {turned[0].name})"
        )
    _describe_sizes(np.array([one.size for one in read]), wanted, report)
    speed = sum(one.seconds for one in read) / len(read) * 1e3
    report.lines.append(f"decoding: {speed:.1f} ms per image on one core")


def _describe_sizes(
    sizes: np.ndarray, wanted: int | None, report: Report
) -> None:
    shorter = sizes.min(1)
    text = (
        f"shorter side: {shorter.min()} to {shorter.max()} pixels, median "
        f"{np.median(shorter):.0f}"
    )
    report.lines.append(f"{text}; trained at {wanted}" if wanted else text)
    if wanted and np.median(shorter) < wanted / 2 and wanted > _SMALL:
        report.advice.append(
            "Most images are enlarged more than twice. A smaller image size "
            f"costs less: {int(np.median(shorter))} or so"
        )


def count(text: str) -> int:
    """Parses a number of images: 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"must be a number of images, or 0 for all. Received: {text!r}"
        )
    return int(text)


def parser(program: str, about: str, limit: int) -> argparse.ArgumentParser:
    """Returns the command line of `python -m HEAD.data check`.

    Args:
      program: HEAD.data check.
      about: the module's docstring.
      limit: default number of images to decode.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--limit",
        type=count,
        default=limit,
        help="images to decode in each split (default: %(default)s)",
    )
    result.add_argument(
        "--all",
        action="store_const",
        dest="limit",
        const=0,
        help="decode every image",
    )
    return result


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Adds flags that name the data of an experiment, as for training."""
    parser.add_argument("--experiment", help="a registered experiment")
    parser.add_argument("--row", help="a row of the tables, instead of these")
    parser.add_argument(
        "--config_file",
        action="append",
        default=[],
        help="YAML file of overrides; may be repeated",
    )
    parser.add_argument(
        "--params_override",
        action="append",
        default=[],
        help="further ones: a.b=c,...; may be repeated",
    )


def experiment(
    given: argparse.Namespace, tables: HeadTables
) -> config.Experiment | None:
    """Returns the experiment that the flags name, or None.

    Args:
      given: parsed flags.
      tables: the head's, for --row.
    """
    if not (given.experiment or given.row):
        return None
    return config.parse(
        given.experiment,
        given.config_file,
        params_override=given.params_override,
        row=tables.find(given.row) if given.row else None,
    )


def show(reports: Iterable[tuple[str, Report]]) -> int:
    """Prints reports with their titles; returns the number of problems."""
    problems = 0
    for title, found in reports:
        print(f"\n{title}\n{found.text('  ')}")
        problems += len(found.problems)
    return problems


def conclude(problems: int) -> int:
    """Prints the number of problems; returns the exit status."""
    ending = "s" * (problems > 1)
    print(f"\n{problems or 'no'} problem{ending}{' found' * (not problems)}")
    return 1 if problems else 0
