"""Every row of every table of results: its command, the paper's number, ours.

    python -m configs.tables imagenet/r50            # rows, with commands
    python -m configs.tables --results runs --write docs/results.md

    rows.py            what a table is made of
    classification.py  the tables of the classification head
    detection.py       and of the detection head
    gan.py             and of the image-synthesis head
    results.py         which run is which row, and what it reached
    report.py          rows and tables as text

A head's tables are one more module with a list `TABLES`, added here; results
are read with the help of `HEAD.task.fill_in`.
"""

from configs.tables import classification, detection, gan
from configs.tables.rows import Row, collect
from evonorm_tf.errors import did_you_mean

TABLES = [*classification.TABLES, *detection.TABLES, *gan.TABLES]
ROWS: dict[str, Row] = collect(TABLES)


def find(row_id: str) -> Row:
    """The row of an id: of a table, or a table's recipe with another layer.

    The paper has no number for the latter, and they run all the same.

    Raises:
      ValueError: there is none; names the nearest.
    """
    if row_id in ROWS:
        return ROWS[row_id]
    from evonorm_tf import catalog  # It brings TensorFlow, which is slow.

    recipe, _, layer = row_id.rpartition("/")
    for row in ROWS.values():
        if row.recipe.id == recipe and layer in catalog.names():
            return row.outside(layer)
    raise ValueError(
        f"There is no such row. {did_you_mean(row_id, ROWS)}"
        "`python -m configs.tables` lists them; their recipes take any layer "
        f"of evonorm_tf.names(). Received: row={row_id!r}"
    )
