"""The paper's claims, each next to our measurements.

Accuracies are those of finished runs of CIFAR-10 rows, and of the JSON files
that `benchmarks.gpu` writes. Two layers are compared by their means. With two
or more seeds of each, a difference below two standard errors is within the
spread; with fewer, the spread is unknown.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from training.report.results import Results
from training.report.tables import ROOT

# In %, by (recipe, layer); one for each seed.
Accuracies = Mapping[tuple[str, str], list[float]]
_ERRORS = 2.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two layers in one recipe.

    Attributes:
      size: network, length and batch, as text.
      recipe: id of the recipe.
      layer: the layer of the claim.
      other: the layer for comparison.
    """

    size: str
    recipe: str
    layer: str
    other: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper, and where it was tested here.

    Attributes:
      said: the claim, with the paper's numbers.
      source: table and grade.
      looked_for: our comparisons, the largest last.
    """

    said: str
    source: str
    looked_for: tuple[Comparison, ...]


@functools.cache
def read() -> tuple[Claim, ...]:
    """Reads the claims of configs/claims.yaml."""
    content = yaml.safe_load((ROOT / "configs/claims.yaml").read_text("utf-8"))
    return tuple(
        Claim(
            one["said"],
            one["source"],
            tuple(Comparison(*place) for place in one["looked_for"]),
        )
        for one in content
    )


def accuracies(
    results: Results, documents: list[dict[str, Any]]
) -> dict[tuple[str, str], list[float]]:
    """Returns all accuracies for comparison with the claims.

    Args:
      results: the runs, sorted.
      documents: written by `benchmarks.gpu` for its part `cifar`.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for row_id, runs in results.by_row.items():
        recipe, _, layer = row_id.rpartition("/")
        values = [
            r.reached["accuracy"] for r in runs if "accuracy" in r.reached
        ]
        if values:  # Not all heads measure accuracy.
            found[recipe, layer] = [100 * value for value in values]
    trained: dict[tuple[str, str], list[dict]] = {}
    for document in documents:
        for row in document["rows"]:
            name = "gpu/{network}-e{epochs}-b{batch}".format(**row)
            trained.setdefault((name, row["layer"]), []).append(row)
    for key, rows in trained.items():
        found[key] = seed_means(rows, "accuracy")
    return found


def seed_means(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """Returns one value for each seed, the mean over its repetitions.

    Args:
      rows: trainings of one layer, which differ in their `seed` or in nothing.
      key: of the value.
    """
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row[key])
    return [statistics.fmean(values) for values in by_seed.values()]


def spread(values: list[float], decimals: int = 1) -> str:
    """Formats mean, standard deviation and number of seeds."""
    text = f"{statistics.fmean(values):.{decimals}f}"
    if len(values) > 1:
        text += f"+-{statistics.stdev(values):.{decimals}f}"
    return f"{text} ({len(values)})"


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    """Returns a table as Markdown."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def verdict(ours: list[float], other: list[float]) -> str:
    """Describes how two layers compare.

    Args:
      ours: accuracies in % of the layer, one for each seed; at least one.
      other: of the other layer.
    """
    apart = statistics.fmean(ours) - statistics.fmean(other)
    how = f"{abs(apart):.1f} {'ahead' if apart >= 0 else 'behind'}"
    if min(len(ours), len(other)) < 2:
        return f"{how}; spread unknown"
    squares = (statistics.variance(v) / len(v) for v in (ours, other))
    if abs(apart) <= _ERRORS * math.sqrt(sum(squares)):
        return f"{how}, within the spread"
    return how


def table(known: Accuracies, running: set[str]) -> str:
    """Returns every claim as Markdown, one line for each comparison.

    Args:
      known: accuracies.
      running: ids of rows with an unfinished run.
    """
    lines = []
    for claim in read():
        said = f"{claim.said} ({claim.source})"
        for comparison in claim.looked_for:
            lines.append([said, *_seen(comparison, known, running)])
            said = ""
    return markdown(["the paper", "here", "ours, %", ""], lines)


def _seen(
    where: Comparison, known: Accuracies, running: set[str]
) -> tuple[str, str, str]:
    cells, values = [], []
    for layer in (where.layer, where.other):
        found = known.get((where.recipe, layer), [])
        values.append(found)
        state = "running" if f"{where.recipe}/{layer}" in running else "not run"
        cells.append(f"{layer} {spread(found) if found else f'*{state}*'}")
    judged = verdict(*values) if all(values) else ""
    return where.size, ", ".join(cells), judged
