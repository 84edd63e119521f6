"""Tables of results, and the pages and pictures that are made from runs.

    tables.py    recipes, rows and tables, as configs/HEAD/tables.yaml has them
    results.py   which run is which row, and what it reached
    claims.py    the paper's claims, each beside what was measured here
    measured.py  what benchmarks left as JSON
    page.py      rows for a screen, the results page as Markdown

A head registers its tables (`register`): the command line finds its rows by
id, and results are compared with the config that the head resolves.
"""

from training.report.tables import (
    HeadTables,
    Row,
    collect,
    find,
    heads,
    register,
)

__all__ = [
    "HeadTables",
    "Row",
    "collect",
    "find",
    "heads",
    "register",
]
