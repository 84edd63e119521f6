"""Tables of results: recipes, columns and rows, read from configs/.

A recipe says how something is trained but for its layer; a row is a recipe
with a layer, the thing that one command runs; a table crosses layers with
columns and holds what the paper prints. A head registers its tables, and its
rows are found by their ids.
"""

import copy
import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from evonorm_tf.errors import did_you_mean
from training.same_experiment import flat

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYER_KEY = "task.model.norm_act.name"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that a run ends with.

    Attributes:
      name: as printed, with its unit.
      key: in the evaluation lines of `metrics.jsonl`; "" for what runs do
        not measure.
      scale: from there to what is printed.
      decimals: of what is printed.
    """

    name: str
    key: str = ""
    scale: float = 1.0
    decimals: int = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a row is trained, but for its layer.

    Attributes:
      id: "imagenet/r50-aug"; a row adds its layer.
      head: the package whose `train` runs it.
      experiment: registered name.
      files: YAML files in configs/HEAD, the later over the earlier.
      overrides: by dotted key, over the files.
      examples: size of the training set.
      workers: replicas of the paper's run; 0 where it does not matter or is
        not known. Batch statistics are those of one replica's share.
      data: an override, with DIR, that says where the data are.
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
        """The config files, wherever the command is run."""
        return [str(ROOT / "configs" / self.head / f) for f in self.files]

    def changes(self) -> dict[str, Any]:
        """The overrides as nested keys."""
        return nested(self.overrides)

    def settings(self) -> dict[str, Any]:
        """Everything that files and overrides say, by dotted key."""
        merged: dict[str, Any] = {}
        for path in self.paths():
            merged |= _load(path)
        return merged | self.overrides

    def steps(self) -> int:
        """Length of the run; 0 where the recipe gives no length."""
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
    """A number as the paper prints it.

    Attributes:
      printed: "77.0", or with the paper's spread "77.0+-0.1".
      grade: "A", read off the paper's own table, or "B", a third party's
        account of it.
      source: which table.
    """

    printed: str
    grade: str
    source: str

    @property
    def number(self) -> float:
        """In the metric's unit, without the spread."""
        return float(self.printed.partition("+-")[0])


@dataclasses.dataclass(frozen=True)
class Row:
    """A recipe and a layer: what one command runs.

    Attributes:
      recipe: how.
      layer: catalog name.
      paper: what the paper prints for it, by metric; more than one value
        where more than one version of the paper has it.
    """

    recipe: Recipe
    layer: str
    paper: dict[Metric, tuple[Value, ...]]

    @property
    def id(self) -> str:
        """The row's name."""
        return f"{self.recipe.id}/{self.layer}"

    @property
    def experiment(self) -> str:
        """Registered name."""
        return self.recipe.experiment

    def paths(self) -> list[str]:
        """See `Recipe.paths`."""
        return self.recipe.paths()

    def changes(self) -> dict[str, Any]:
        """See `Recipe.changes`."""
        return self.recipe.changes()

    def outside(self, layer: str) -> "Row":
        """This recipe with another layer, of which the paper says nothing."""
        return Row(self.recipe, layer, dict.fromkeys(self.paper, ()))

    def settings(self) -> dict[str, Any]:
        """Everything that tells this row from others, by dotted key."""
        return self.recipe.settings() | {LAYER_KEY: self.layer}

    def command(self) -> str:
        """What runs it, from the root of the checkout."""
        command = ["python", "-m", f"{self.recipe.head}.train"]
        command += [f"--row={self.id}", f"--model_dir=runs/{self.id}"]
        if self.recipe.data:
            command.append(f"--params_override={self.recipe.data}")
        return shlex.join(command)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: what was measured of which recipe."""

    heading: str
    recipe: Recipe
    metric: Metric


@dataclasses.dataclass(frozen=True)
class Table:
    """Layers by columns, and what the paper prints there.

    Attributes:
      title: with where it comes from.
      columns: from left to right.
      values: by layer, one a column; None where the paper has no number.
      note: what a reader must know.
      figure: a picture beside the report, shown where it exists.
    """

    title: str
    columns: tuple[Column, ...]
    values: dict[str, tuple[Value | None, ...]]
    note: str = ""
    figure: str = ""

    def cells(self) -> Iterator[tuple[str, Column, Value | None]]:
        """(layer, column, the paper's value), line by line."""
        for layer, values in self.values.items():
            for column, value in zip(self.columns, values, strict=True):
                yield layer, column, value


def read(head: str) -> dict[str, Table]:
    """The tables of configs/HEAD/tables.yaml, by name.

    The file has `metrics` by name, `recipes` by id and `tables` by name; a
    column is [heading, recipe, metric], and `values` a text of one line per
    layer, a number per column, "-" where the paper has none.

    Args:
      head: the package whose tables they are.

    Raises:
      ValueError: lines of different lengths, a layer twice, or a recipe or
        metric that is not there; names the file.
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
            "Each layer has a number or - in each column. Received: "
            f"title={fields['title']!r}, {len(columns)} columns, "
            f"{sorted(lengths)} values."
        )
    others = {k: fields[k] for k in ("note", "figure") if k in fields}
    return Table(fields["title"], columns, values, **others)


def block(text: str, grade: str, source: str) -> dict[str, tuple]:
    """The values of a table written as text: a layer, then its numbers.

    Args:
      text: a line a layer, "bn_relu 76.1 76.3+-0.1 -"; "-" is no number.
      grade: see `Value`.
      source: see `Value`.

    Raises:
      ValueError: lines of different lengths, a layer twice.
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
                "Each layer has one line and as many numbers as the first. "
                f"Received: line={line!r}"
            )
        rows[layer] = row
    return rows


def collect(tables: Iterable[Table]) -> dict[str, Row]:
    """Every row of the tables once, by id, with all the paper says of it.

    Raises:
      ValueError: two recipes of one id.
    """
    rows: dict[str, Row] = {}
    for table in tables:
        for layer, column, value in table.cells():
            row = Row(column.recipe, layer, {})
            row = rows.setdefault(row.id, row)
            if row.recipe != column.recipe:
                raise ValueError(
                    "Two recipes have one id; rename one of them in its "
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
      resolve: from a row to the config that its run records, without data.
        It imports what it needs when it is called: a listing needs nothing.
    """

    name: str
    tables: dict[str, Table]
    resolve: Callable[[Row], Any]

    def rows(self) -> dict[str, Row]:
        """Every row, by id."""
        return collect(self.tables.values())

    def find(self, row_id: str) -> Row:
        """The row of an id; see `find`."""
        return _find(row_id, self.rows())


_HEADS: dict[str, HeadTables] = {}


def register(name: str, resolve: Callable[[Row], Any]) -> HeadTables:
    """Registers a head's tables of configs/HEAD/tables.yaml.

    Args:
      name: the package.
      resolve: see `HeadTables`.

    Raises:
      ValueError: another head has a recipe of the same id.
    """
    head = HeadTables(name, read(name), resolve)
    others = [x for x in _HEADS.values() if x.name != name]
    collect(t for one in [*others, head] for t in one.tables.values())
    _HEADS[name] = head
    return head


def heads() -> dict[str, HeadTables]:
    """The registered heads, by name."""
    return dict(_HEADS)


def find(row_id: str) -> Row:
    """The row of an id: of a table, or a table's recipe with another layer.

    The paper has no number for the latter, and it runs all the same.

    Raises:
      ValueError: no registered head has it; names the nearest.
    """
    tables = (t for head in _HEADS.values() for t in head.tables.values())
    return _find(row_id, collect(tables))


def _find(row_id: str, known: dict[str, Row]) -> Row:
    if row_id in known:
        return known[row_id]
    from evonorm_tf import catalog  # It brings TensorFlow, which is slow.

    recipe, _, layer = row_id.rpartition("/")
    for row in known.values():
        if row.recipe.id == recipe and layer in catalog.names():
            return row.outside(layer)
    raise ValueError(
        f"There is no such row. {did_you_mean(row_id, known)}"
        "`python -m configs.tables` lists them; their recipes take any layer "
        f"of evonorm_tf.names(). Received: row={row_id!r}"
    )


@functools.cache
def _load(path: str) -> dict[str, Any]:
    """A config file by dotted key."""
    with open(path, encoding="utf-8") as file:
        return flat(yaml.safe_load(file))


def nested(dotted: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = copy.deepcopy(value)
    return result
