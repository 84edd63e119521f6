"""Looks at data sets before training, and says what to do about them.

    python -m classification.data check --dataset=cifar10 \
        --tfds_data_dir=DIR --split=train --split=test
    python -m classification.data check --dataset=tfrecords \
        --path='DIR/{split}-*' --split=train --split=validation
    python -m classification.data check --experiment=NAME [as for training]
    python -m classification.data check --row=ROW [as for training]

The exit status is 1 where training would go wrong.
"""

import argparse
import itertools

from classification import datasets, task
from classification import experiment as _registers  # noqa: F401
from classification.examine import SHOWN, Report, examine
from classification.settings import Data
from configs import tables
from training import config
from training.images import records


def _other_classes(splits: list[Data], reports: list[Report]) -> list[str]:
    """Labels that mean two things, in any splits of one set."""
    problems = []
    opened = [pair for pair in zip(splits, reports) if pair[1].source]
    for (first, one), (second, two) in itertools.combinations(opened, 2):
        if one.class_names != two.class_names:
            other = sorted({*one.class_names} ^ {*two.class_names})
            problems.append(
                f"{_title(first)} and {_title(second)} have other classes, so "
                "a label means two things. Give both the same folders. "
                f"Received: only in one of them {', '.join(other[:SHOWN])}"
            )
    return problems


def _unlike(splits: list[Data], reports: list[Report]) -> list[str]:
    """What a training on the first and evaluation on the second refuses."""
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
                f"{len(same):,} images are in {_title(first)} and in "
                f"{_title(second)}, which would be tested on what they were "
                "trained on. Remove them from one. Received: "
                f"{one.digests[digest]} and {two.digests[digest]}"
            )
    return problems


def _title(data: Data) -> str:
    return f"{data.dataset} {data.split}"


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
    parser.add_argument("--row", help="likewise, of the paper's tables")
    parser.add_argument("--config_file", action="append", default=[])
    parser.add_argument("--params_override")
    parser.add_argument(
        "--limit",
        type=int,
        default=1000,
        help="images to decode in each split",
    )
    parser.add_argument(
        "--all",
        action="store_const",
        dest="limit",
        const=0,
        help="decode every image",
    )
    parser.add_argument(
        "--write_counts",
        action="store_true",
        help="leave the numbers of records beside the files of tfrecords",
    )
    return parser


def _experiment(given: argparse.Namespace) -> tuple[list[Data], int]:
    """The splits of an experiment or a row, and its model's classes."""
    params = config.parse(
        given.experiment,
        given.config_file,
        params_override=given.params_override,
        row=tables.find(given.row) if given.row else None,
    )
    task.fill_in(params.task)
    train = params.task.train_data
    test = datasets.beside(params.task.validation_data, train)
    return [train, test], params.task.model.num_classes


def _splits(given: argparse.Namespace) -> tuple[list[Data], int]:
    """The splits that the flags name, and the classes."""
    data = Data(
        dataset=given.dataset,
        path=given.path,
        tfds_data_dir=given.tfds_data_dir,
        label_offset=given.label_offset,
        image_size=given.image_size,
    )
    splits = given.split or ["train"]
    return [data.replace(split=split) for split in splits], given.num_classes


def _print(title: str, report: Report) -> None:
    print(f"\n{title}\n{report.text('  ')}")


def _write_counts(splits: list[Data], reports: list[Report]) -> None:
    for data, report in zip(splits, reports):
        if data.dataset == "tfrecords" and report.source:
            paths = [shard.path for shard in report.source.reader.shards]
            for path in records.write_counts(paths):
                print(f"\nwrote {path}")


def main(arguments: list[str]) -> int:
    """Prints what it finds; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    named = bool(given.experiment or given.row)
    if bool(given.dataset) == named:
        parser.error("give --dataset, or --experiment or --row")
    splits, num_classes = (_experiment if named else _splits)(given)
    reports = []
    for data in splits:
        reports.append(examine(data, num_classes, given.limit))
        _print(_title(data), reports[-1])
    if given.write_counts:
        _write_counts(splits, reports)
    between = (_unlike if named else _other_classes)(splits, reports)
    between += _same_images(splits, reports)
    for line in between:
        print(f"\nPROBLEM: {line}")
    problems = len(between) + sum(len(x.problems) for x in reports)
    print(f"\n{problems} problem(s)" if problems else "\nno problem found")
    return 1 if problems else 0
