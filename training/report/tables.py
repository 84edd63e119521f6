"""Tables of results: recipes, columns and rows, read from configs/.

A recipe defines a training except for its layer. A row is a recipe with a
layer, which one command runs. A table combines layers with columns and has the
paper's numbers. A head registers its tables, and its rows are found by id.
"""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from evonorm_tf.errors import did_you_mean
from training.same_experiment import flat, nested

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYER_KEY = "task.model.norm_act.name"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A result of a run.

    Attributes:
      name: as printed, with its unit.
      key: in the evaluation lines of `metrics.jsonl`; "" if runs do not
        measure it.
      scale: factor from there to what is printed.
      decimals: number of printed decimals.
    """

    name: str
    key: str = ""
    scale: float = 1.0
    decimals: int = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a row is trained, except for its layer.

    Attributes:
      id: "imagenet/r50-aug"; a row adds its layer.
      head: the package whose `train` runs it.
      experiment: registered name.
      files: YAML files in configs/HEAD, later ones overriding earlier ones.
      overrides: by dotted key, overriding the files.
      examples: size of the training set.
      workers: replicas of the paper's run; 0 if irrelevant or unknown. Batch
        statistics are those of one replica's share.
      data: an override for the path of the data, with DIR.
    """

    id: str
    head: str
    experiment: str
    files: tuple[str, ...] = ()
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    examples: int = 0
    workers: int = 0
    data: str = ""

    def paths(self) -> list[str]:
        """Returns the paths of the config files."""
        return [str(ROOT / "configs" / self.head / f) for f in self.files]

    def changes(self) -> dict[str, Any]:
        """Returns the overrides as nested keys."""
        return nested(self.overrides)

    def settings(self) -> dict[str, Any]:
        """Returns all settings of files and overrides, by dotted key."""
        merged: dict[str, Any] = {}
        for path in self.paths():
            merged |= _load(path)
        return merged | self.overrides

    def steps(self) -> int:
        """Returns the length of the run; 0 if the recipe has none."""
        settings = self.settings()
        if "trainer.train_steps" in settings:
            return settings["trainer.train_steps"]
        epochs = settings.get("task.schedule.epochs")
        if not epochs or not self.examples:
            return 0
        batch = settings["task.train_data.global_batch_size"]
        return round(epochs * (self.examples / batch))


@dataclasses.dataclass(frozen=True)
class Value:
    """A number as printed in the paper.

    Attributes:
      printed: "77.0", or with the paper's spread "77.0+-0.1".
      grade: "A" if it was read from the paper's own table, "B" if from a third
        party's account.
      source: the table.
    """

    printed: str
    grade: str
    source: str

    @property
    def number(self) -> float:
        """Returns the value in the metric's unit, without the spread."""
        return float(self.printed.partition("+-")[0])


@dataclasses.dataclass(frozen=True)
class Row:
    """A recipe and a layer, which one command runs.

    Attributes:
      recipe: the recipe.
      layer: catalog name.
      paper: the paper's values, by metric; several if several versions of the
        paper have one.
    """

    recipe: Recipe
    layer: str
    paper: dict[Metric, tuple[Value, ...]]

    @property
    def id(self) -> str:
        """Returns the row's name."""
        return f"{self.recipe.id}/{self.layer}"

    def outside(self, layer: str) -> "Row":
        """Returns this recipe with another layer, without paper's numbers."""
        return Row(self.recipe, layer, dict.fromkeys(self.paper, ()))

    def settings(self) -> dict[str, Any]:
        """Returns all settings that distinguish rows, by dotted key."""
        return self.recipe.settings() | {LAYER_KEY: self.layer}

    def command(self) -> str:
        """Returns the command, run from the root of the checkout.

        It writes to runs/ROW, and to runs/debug/ROW with --debug.
        """
        command = ["python", "-m", f"{self.recipe.head}.train"]
        command.append(f"--row={self.id}")
        if self.recipe.data:
            command.append(f"--params_override={self.recipe.data}")
        return shlex.join(command)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: a metric of a recipe."""

    heading: str
    recipe: Recipe
    metric: Metric


@dataclasses.dataclass(frozen=True)
class Table:
    """Layers by columns, with the paper's numbers.

    Attributes:
      title: includes the source.
      columns: from left to right.
      values: by layer, one per column; None if the paper has no number.
      note: remarks for readers.
      figure: a picture next to the report, shown if it exists.
    """

    title: str
    columns: tuple[Column, ...]
    values: dict[str, tuple[Value | None, ...]]
    note: str = ""
    figure: str = ""

    def cells(self) -> Iterator[tuple[str, Column, Value | None]]:
        """Yields (layer, column, the paper's value), line by line."""
        for layer, values in self.values.items():
            for column, value in zip(self.columns, values, strict=True):
                yield layer, column, value


def read(head: str) -> dict[str, Table]:
    """Reads the tables of configs/HEAD/tables.yaml, by name.

    The file has `metrics` by name, `recipes` by id and `tables` by name. A
    column is [heading, recipe, metric], and `values` is a text with one line
    per layer and one number per column, "-" if the paper has none.

    Args:
      head: the package of the tables.

    Raises:
      ValueError: if lines have different lengths, a layer is duplicated, or a
        recipe or metric does not exist; the message names the file.
    """
    path = ROOT / "configs" / head / "tables.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    metrics = {k: Metric(k, **v) for k, v in content["metrics"].items()}
    recipes = {
        name: Recipe(name, head, **fields | {"files": tuple(fields["files"])})
        for name, fields in content["recipes"].items()
    }
    try:
        return {
            name: _table(fields, recipes, metrics)
            for name, fields in content["tables"].items()
        }
    except (KeyError, ValueError) as error:
        raise ValueError(f"{error} In {path}.") from error


def _table(
    fields: dict[str, Any],
    recipes: dict[str, Recipe],
    metrics: dict[str, Metric],
) -> Table:
    columns = tuple(
        Column(heading, recipes[recipe], metrics[metric])
        for heading, recipe, metric in fields["columns"]
    )
    source = fields.get("grade", ""), fields.get("source", "")
    values = block(fields["values"], *source)
    lengths = {len(row) for row in values.values()}
    if lengths != {len(columns)}:
        raise ValueError(
            "Each layer must have a number or - in each column. Received: "
            f"title={fields['title']!r}, {len(columns)} columns, "
            f"{sorted(lengths)} values."
        )
    others = {k: fields[k] for k in ("note", "figure") if k in fields}
    return Table(fields["title"], columns, values, **others)


def block(text: str, grade: str, source: str) -> dict[str, tuple]:
    """Parses the values of a table: a layer, then its numbers, per line.

    Args:
      text: such as "bn_relu 76.1 76.3+-0.1 -"; "-" is no number.
      grade: see `Value`.
      source: see `Value`.

    Raises:
      ValueError: if lines have different lengths or a layer is duplicated.
    """
    rows: dict[str, tuple] = {}
    for line in text.strip().splitlines():
        layer, *words = line.split()
        row = tuple(
            None if word == "-" else Value(word, grade, source)
            for word in words
        )
        if layer in rows or len(row) != len(next(iter(rows.values()), row)):
            raise ValueError(
                "Each layer must have one line, and all the same length. "
                f"Received: line={line!r}"
            )
        rows[layer] = row
    return rows


def collect(tables: Iterable[Table]) -> dict[str, Row]:
    """Returns every row of the tables once, by id, with all its numbers.

    Raises:
      ValueError: if two recipes have the same id.
    """
    rows: dict[str, Row] = {}
    for table in tables:
        for layer, column, value in table.cells():
            row = Row(column.recipe, layer, {})
            row = rows.setdefault(row.id, row)
            if row.recipe != column.recipe:
                raise ValueError(
                    "Two recipes have the same id; rename one of them in its "
                    f"head's tables.yaml. Received: id={row.recipe.id!r} of "
                    f"{row.recipe.head} and {column.recipe.head}"
                )
            known = row.paper.setdefault(column.metric, ())
            if value is not None:
                row.paper[column.metric] = (*known, value)
    return rows


@dataclasses.dataclass(frozen=True)
class HeadTables:
    """A head's tables, and how its runs are configured.

    Attributes:
      name: the package.
      tables: by name, in the order of the results page.
      resolve: maps a row to the config that its run records, without data. It
        imports what it needs when called, so that listing rows is fast.
    """

    name: str
    tables: dict[str, Table]
    resolve: Callable[[Row], Any]

    def rows(self) -> dict[str, Row]:
        """Returns every row, by id."""
        return collect(self.tables.values())

    def find(self, row_id: str) -> Row:
        """Returns the row with an id; see `find`."""
        return find(row_id, self.rows())


_HEADS: dict[str, HeadTables] = {}


def register(name: str, resolve: Callable[[Row], Any]) -> HeadTables:
    """Registers a head's tables of configs/HEAD/tables.yaml.

    Args:
      name: the package.
      resolve: see `HeadTables`.

    Raises:
      ValueError: if another head has a recipe with the same id.
    """
    head = HeadTables(name, read(name), resolve)
    others = [x for x in _HEADS.values() if x.name != name]
    collect(t for one in [*others, head] for t in one.tables.values())
    _HEADS[name] = head
    return head


def heads() -> dict[str, HeadTables]:
    """Returns the registered heads, by name."""
    return dict(_HEADS)


def find(row_id: str, known: dict[str, Row]) -> Row:
    """Returns a row by id: of a table, or its recipe with another layer.

    The paper has no number for the latter, but it can be run.

    Args:
      row_id: the id.
      known: the rows of tables, by id.

    Raises:
      ValueError: if there is no such row; names similar ones.
    """
    if row_id in known:
        return known[row_id]
    from evonorm_tf import catalog  # Imports TensorFlow, which is slow.

    recipe, _, layer = row_id.rpartition("/")
    for row in known.values():
        if row.recipe.id == recipe and layer in catalog.names():
            return row.outside(layer)
    raise ValueError(
        f"There is no such row. {did_you_mean(row_id, known)}"
        "`python -m configs.tables` lists them; recipes accept any layer of "
        f"evonorm_tf.names(). Received: row={row_id!r}"
    )


@functools.cache
def _load(path: str) -> dict[str, Any]:
    """Reads a config file by dotted key."""
    with open(path, encoding="utf-8") as file:
        return flat(yaml.safe_load(file))
