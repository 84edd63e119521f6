"""Prints the rows of the paper's tables: see `configs.tables`."""

import argparse
import signal
import sys

from configs import tables
from configs.tables import report, results
from evonorm_tf import files
from evonorm_tf.errors import did_you_mean


def main(arguments: list[str] | None = None) -> None:
    """Prints rows, or writes the report."""
    parser = argparse.ArgumentParser(
        prog="python -m configs.tables",
        description="Every row of the paper's tables: id, command, numbers.",
    )
    parser.add_argument(
        "prefix", nargs="?", default="", help="only rows whose id starts so"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        metavar="RUNS",
        help="folders of runs, however deep: fill in ours",
    )
    parser.add_argument(
        "--write", metavar="FILE", help="write all tables as Markdown to FILE"
    )
    given = parser.parse_args(arguments)
    if given.write and given.prefix:
        parser.error("--write writes all tables; leave the prefix out")
    if given.write and given.results is None:
        parser.error(
            "--write without --results would write every row as not run; give "
            f"the folders of the runs. Received: write={given.write!r}"
        )
    known, found = dict(tables.ROWS), None
    try:
        if given.results is not None:
            runs = results.read(given.results)
            found = results.sort(runs, tables.ROWS)
            # Of a table's recipe, with a layer that the table has not.
            for row_id in found.by_row:
                known.setdefault(row_id, tables.find(row_id))
        chosen = [x for x in known.values() if x.id.startswith(given.prefix)]
        if not chosen:
            hint = did_you_mean(given.prefix, tables.ROWS)
            raise ValueError(
                f"No row's id starts so. {hint}"
                f"Received: prefix={given.prefix!r}"
            )
    except ValueError as error:
        sys.exit(f"configs.tables: {error}")
    if given.write is None:
        print(report.listing(chosen, found))
        return
    text = report.markdown(tables.TABLES, found, files.parent(given.write))
    print(f"Written: {files.write(given.write, text)}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error.
    main()
