"""The demo's report: a table, a Markdown page and the batch-size figure."""

import dataclasses
import statistics
from collections.abc import Iterable

from classification import plot
from evonorm_tf import files, plots

ABOUT = (
    "A small ResNet on the 1,797 8x8 digits of scikit-learn (a quarter held "
    "out for test). Digits, not ImageNet: the paper's batch-size experiment "
    "in small."
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      layer: catalog name.
      batch: images per step.
      seed: of weights, order and augmentation.
    """

    layer: str
    batch: int
    seed: int

    @property
    def directory(self) -> str:
        """Returns the name of the run's folder."""
        return f"{self.layer}-batch{self.batch}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.layer}, batch {self.batch}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """Accuracies in % of one layer at one batch size, over the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Returns the mean over the seeds."""
        return statistics.fmean(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.mean:.1f} ({low:.1f} to {high:.1f})"


def cells(accuracies: dict[Run, float]) -> dict[str, dict[int, Cell]]:
    """Returns cells by layer, then by batch size, the largest batch first."""
    rows: dict[str, dict[int, Cell]] = {}
    for layer in dict.fromkeys(run.layer for run in accuracies):
        rows[layer] = {
            batch: Cell(_values(accuracies, layer, batch))
            for batch in _batches(accuracies)
        }
    return rows


def _batches(runs: Iterable[Run]) -> list[int]:
    return sorted({run.batch for run in runs}, reverse=True)


def _values(
    accuracies: dict[Run, float], layer: str, batch: int
) -> tuple[float, ...]:
    return tuple(
        100 * accuracy
        for run, accuracy in accuracies.items()
        if (run.layer, run.batch) == (layer, batch)
    )


def table(accuracies: dict[Run, float]) -> str:
    """Tables the test accuracy in %, mean and range over the seeds."""
    batches = _batches(accuracies)
    heads = ["layer", *(f"batch {batch}" for batch in batches)]
    lines = [heads, ["---"] * len(heads)]
    for layer, row in cells(accuracies).items():
        lines.append([layer, *(str(row[batch]) for batch in batches)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width, "-" if cell == "---" else " ")
            for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    )


def write(
    root: str, accuracies: dict[Run, float], epochs: float, examples: int
) -> tuple[str, str]:
    """Writes report.md and report.png; returns their paths.

    Args:
      root: the output folder.
      accuracies: test accuracy of every run, in [0, 1].
      epochs: passes over the training set per run.
      examples: size of the test set.
    """
    page, picture = (files.join(root, f"report.{x}") for x in ("md", "png"))
    seeds = len({run.seed for run in accuracies})
    what = (
        f"Mean and range of {seeds} seeds after {epochs:g} epochs; one test "
        f"image is {100 / examples:.2f} %"
    )
    _figure(accuracies, what, picture)
    text = (
        f"# Batch size and layer, on digits\n\n{ABOUT}\n\n"
        f"Test accuracy in %. {what}, so differences of a few tenths are "
        "noise. The learning rate scales linearly with the batch, and nothing "
        f"is tuned for a layer.\n\n{table(accuracies)}\n\n"
        "![Accuracy against batch size](report.png)\n\n"
        "Written by `python -m classification.demo`.\n"
    )
    files.write(page, text)
    return page, picture


def _figure(accuracies: dict[Run, float], note: str, path: str) -> None:
    """Draws the batch-size figure of these runs."""
    rows = {
        layer: {batch: cell.values for batch, cell in row.items()}
        for layer, row in cells(accuracies).items()
    }
    title = "Accuracy against batch size: small ResNet, 8x8 digits"
    plots.save(plot.batch_size_figure(rows, title, note), path)
