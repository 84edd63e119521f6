r"""Checks the images of a GAN before training or evaluation.

    python -m gan.data check --row=imagenet128/biggan_deep/evonorm_b0 \
        --params_override=task.train_data.tfds_data_dir=DIR
    python -m gan.data check --experiment=NAME [as for training]
    python -m gan.data check --images=FOLDER --images=FILE.npz

The first two check the images for training and evaluating a run, the last one
sets for `gan.fid`. The exit status is 1 if training or evaluation would fail.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from gan import datasets, experiment, sets
from gan.tables import TABLES
from training.images import inspection
from training.images.sources import Files

_ADVICE = "Copy the files again, or prepare the dataset again"


def examine(task: experiment.Task, split: str, limit: int) -> inspection.Report:
    """Checks a split of a run's dataset.

    Args:
      task: defines the dataset, and the size and classes of the networks.
      split: of the dataset.
      limit: number of images to check, if not in memory; 0 for all.
    """
    report = inspection.Report()
    try:
        source = datasets.open_images(task.train_data, task.model, split)
    except ValueError as error:
        report.problems.append(str(error))
        return report
    report.lines.append(f"{source.examples:,} images, {source.name}")
    if isinstance(source, Files):
        found, labels = inspection.look_at_records(
            inspection.stream(source.reader, limit, report, _ADVICE)
        )
        inspection.describe(found, report, source.size)
    else:
        labels = source.labels
        report.lines.append(
            f"in memory, {source.shape[0]} pixels, levels "
            f"{source.images.min()} to {source.images.max()}"
        )
    counts = np.unique(labels, return_counts=True)
    for label, count in zip(*counts):
        if not 0 <= label < source.classes:
            report.problems.append(
                f"{count:,} labels are outside the classes, 0 to "
                f"{source.classes - 1}. Received: label={label}"
            )
    report.lines.append(
        f"{len(counts[0]):,} of {source.classes:,} classes, of "
        f"{min(counts[1], default=0):,} to {max(counts[1], default=0):,} "
        "images each"
    )
    return report


def examine_set(place: str, tfds_data_dir: str) -> inspection.Report:
    """Checks a set for evaluation, as `gan.fid` opens it."""
    report = inspection.Report()
    try:
        found = sets.open_set(place, tfds_data_dir)
        report.advice += found.notes
        report.lines.append(f"{found.count:,} images, {found.name}")
    except ValueError as error:
        report.problems.append(str(error))
    return report


def _reports(
    given: argparse.Namespace,
) -> Iterator[tuple[str, inspection.Report]]:
    for place in given.images:
        yield place, examine_set(place, given.tfds_data_dir)
    params = inspection.experiment(given, TABLES)
    if params is None:
        return
    task = params.task
    train = task.train_data.split
    for split in dict.fromkeys([train, task.evaluation.split or train]):
        title = f"{task.train_data.dataset} {split}"
        yield title, examine(task, split, given.limit)


def main(arguments: list[str]) -> int:
    """Prints the report; returns the exit status."""
    parser = inspection.parser("gan.data check", __doc__, 1000)
    inspection.add_experiment(parser)
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        help="a set to evaluate, as for gan.fid; may be repeated",
    )
    parser.add_argument(
        "--tfds_data_dir",
        default="",
        help="folder of the TFDS datasets of --images",
    )
    given = parser.parse_args(arguments)
    if not (given.experiment or given.row or given.images):
        parser.error("give --row, --experiment or --images")
    if given.tfds_data_dir and not given.images:
        parser.error("--tfds_data_dir is for --images; use --params_override")
    overrides = given.config_file or given.params_override
    if overrides and not (given.experiment or given.row):
        parser.error(
            "--config_file and --params_override are for --row or --experiment"
        )
    return inspection.conclude(inspection.show(_reports(given)))
