"""Lists all rows of the tables of results, with commands and numbers.

    python -m configs.tables imagenet/r50            # rows, with commands
    python -m configs.tables --results docs/runs --write docs/results.md

The rows are in configs/HEAD/tables.yaml; `training.report` reads them. Only
this command imports all heads, which register their tables.
"""

import argparse
import functools
import signal
import sys

from classification.tables import TABLES as CLASSIFICATION
from detection.tables import TABLES as DETECTION
from evonorm_tf import files
from evonorm_tf.errors import did_you_mean
from gan.tables import TABLES as GAN
from training import report
from training.report import page, results

HEADS = (CLASSIFICATION, DETECTION, GAN)
TABLES = [table for head in HEADS for table in head.tables.values()]
ROWS = report.collect(TABLES)
find = functools.partial(report.find, known=ROWS)


def main(arguments: list[str] | None = None) -> None:
    """Prints rows, or writes the report."""
    parser = argparse.ArgumentParser(
        prog="python -m configs.tables",
        description="Every row of the paper's tables: id, command, numbers.",
    )
    parser.add_argument(
        "prefix", nargs="?", default="", help="list only rows with this prefix"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        metavar="RUNS",
        help="folders of runs, at any depth, whose results are filled in",
    )
    parser.add_argument(
        "--write", metavar="FILE", help="write all tables to FILE as Markdown"
    )
    given = parser.parse_args(arguments)
    if given.write and given.prefix:
        parser.error("--write writes all tables; omit the prefix")
    if given.write and given.results is None:
        parser.error(
            "--write without --results would mark every row as not run; pass "
            f"the folders of the runs. Received: write={given.write!r}"
        )
    known, found = dict(ROWS), None
    try:
        if given.results is not None:
            runs = results.read(given.results)
            found = results.sort(runs, ROWS)
            # Rows of a table's recipe with a layer outside the table.
            for row_id in found.by_row:
                known.setdefault(row_id, find(row_id))
        chosen = [x for x in known.values() if x.id.startswith(given.prefix)]
        if not chosen:
            hint = did_you_mean(given.prefix, ROWS)
            raise ValueError(
                f"No row's id has this prefix. {hint}"
                f"Received: prefix={given.prefix!r}"
            )
    except ValueError as error:
        sys.exit(f"configs.tables: {error}")
    if given.write is None:
        print(page.listing(chosen, found))
        return
    text = page.markdown(TABLES, found, files.parent(given.write))
    print(f"Written: {files.write(given.write, text)}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error.
    main()
