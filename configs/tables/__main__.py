"""Prints the rows of the paper's tables: see `configs.tables`."""

import argparse
import os
import signal
import sys

from configs import tables
from configs.tables import report, results, rows


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
    chosen = [
        row for row in tables.ROWS.values() if row.id.startswith(given.prefix)
    ]
    try:
        if not chosen:
            near = rows.nearest(given.prefix, list(tables.ROWS))
            raise ValueError(
                f"No row's id starts so. {near}. "
                f"Received: prefix={given.prefix!r}"
            )
        found = None
        if given.results is not None:
            runs = results.read(given.results)
            found = results.sort(runs, tables.ROWS)
    except ValueError as error:
        sys.exit(f"configs.tables: {error}")
    if given.write is None:
        print(report.listing(chosen, found))
        return
    folder = os.path.dirname(given.write)
    text = report.markdown(tables.TABLES, found or results.Results(), folder)
    with open(given.write, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"Written: {given.write}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error.
    main()
