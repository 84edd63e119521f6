"""Tables of results, and pages and figures generated from runs.

    tables.py    recipes, rows and tables, from configs/HEAD/tables.yaml
    results.py   which run belongs to which row, and its result
    claims.py    the paper's claims next to our measurements
    measured.py  JSON results of benchmarks
    page.py      rows for the screen, the results page as Markdown

A head registers its tables (`register`). The command line finds its rows by id,
and results are compared with the config that the head resolves.
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
