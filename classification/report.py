"""The demo's report: a table, a Markdown page and the batch-size figure."""

import dataclasses
import statistics

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


def _cells(accuracies: dict[Run, float]) -> plot.Cells:
    """Returns accuracies in % by layer, then by batch, the largest first."""
    rows: plot.Cells = {}
    for run in sorted(accuracies, key=lambda run: -run.batch):
        row = rows.setdefault(run.layer, {})
        row[run.batch] = (*row.get(run.batch, ()), 100 * accuracies[run])
    return rows


def _text(values: tuple[float, ...]) -> str:
    low, high = min(values), max(values)
    return f"{statistics.fmean(values):.1f} ({low:.1f} to {high:.1f})"


def table(accuracies: dict[Run, float]) -> str:
    """Tables the test accuracy in %, mean and range over the seeds."""
    rows = _cells(accuracies)
    batches = next(iter(rows.values()))
    heads = ["layer", *(f"batch {batch}" for batch in batches)]
    lines = [heads, ["---"] * len(heads)]
    for layer, row in rows.items():
        lines.append([layer, *(_text(row[batch]) for batch in batches)])
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
    title = "Accuracy against batch size: small ResNet, 8x8 digits"
    figure = plot.batch_size_figure(_cells(accuracies), title, what)
    plots.save(figure, picture)
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
