"""Test accuracy against epochs, of all runs of a recipe in one panel.

    python -m benchmarks.cifar_curves [--runs docs/runs]
        [--output docs/images/cifar10_curves.png]

Panels are the CIFAR-10 recipes of the results page with a finished run, and
what `benchmarks.gpu` trained. Lines are means over the seeds, bands their
range.
"""

import argparse
import math
import pathlib
import statistics
from collections.abc import Mapping

from matplotlib.figure import Figure

from classification.tables import TABLES
from evonorm_tf import plots
from training import runs
from training.report import claims, measured, results

# Accuracy in % by epoch; one for each seed, by layer.
Curves = Mapping[str, list[dict[float, float]]]
_TITLES = {"resnet20_cifar": "ResNet-20"}
_KEYS = ("task.train_data.global_batch_size", "trainer.train_steps")


def of_runs(root: pathlib.Path) -> dict[str, Curves]:
    """Curves of the finished runs in a folder, by recipe.

    Args:
      root: a folder of runs, however deep.
    """
    found = results.sort(results.read([str(root)]), TABLES.rows())
    panels: dict[str, dict[str, list]] = {}
    table = TABLES.tables["cifar"]
    for column in table.columns:
        for layer in table.values:
            for run in found.by_row.get(f"{column.recipe.id}/{layer}", []):
                place = runs.Run(root.parent / run.folder)
                curve = _curve(place, column.recipe.examples, run)
                panel = panels.setdefault(column.heading, {})
                panel.setdefault(layer, []).append(curve)
    return panels


def _curve(
    place: runs.Run, examples: int, run: results.Run
) -> dict[float, float]:
    batch = run.settings[_KEYS[0]]
    return {
        # Intervals of 1170 and of 1173 steps are 3 epochs, both.
        round(line["step"] * batch / examples, 1): 100 * line["accuracy"]
        for line in place.metrics("eval")
    }


def of_gpus(runs: pathlib.Path) -> dict[str, Curves]:
    """Curves of `benchmarks.gpu`'s trainings."""
    trained: dict[str, dict[str, list[dict]]] = {}
    for document in measured.gpu_documents(runs):
        for row in document["rows"]:
            title = _TITLES.get(row["network"], row["network"])
            name = f"{measured.study(row | {'network': title})}, GPU"
            curve = {epoch: value for epoch, value, _ in row["curve"]}
            by_layer = trained.setdefault(name, {})
            one = {"seed": row["seed"], **curve}
            by_layer.setdefault(row["layer"], []).append(one)
    return {
        name: {layer: _seeds(rows) for layer, rows in by_layer.items()}
        for name, by_layer in trained.items()
    }


def _seeds(rows: list[dict]) -> list[dict[float, float]]:
    """Returns one curve for each seed, the mean over its repetitions."""
    epochs = [key for key in rows[0] if key != "seed"]
    values = zip(*(claims.seed_means(rows, epoch) for epoch in epochs))
    return [dict(zip(epochs, curve)) for curve in values]


def figure(panels: Mapping[str, Curves]) -> Figure:
    """One panel for each recipe.

    Args:
      panels: curves by title.

    Raises:
      ValueError: there is none.
    """
    if not panels:
        raise ValueError("There is no finished run. Received: panels={}")
    seeds = {len(c) for curves in panels.values() for c in curves.values()}
    many = "1 seed each" if seeds == {1} else f"up to {max(seeds)} seeds"
    # Two to a line, so that words can be read on a page.
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    new = plots.figure(
        4.6 * columns + 1,
        4.2 * rows,
        "Test accuracy on CIFAR-10",
        f"one recipe for all layers; {many}, bands are their range",
    )
    grid = new.subplots(rows, columns, squeeze=False)
    for unused in grid.flat[len(panels) :]:
        unused.remove()
    for axes, (title, curves) in zip(grid.flat, panels.items()):
        plots.plain(axes)
        axes.set_title(title, fontsize=10, color=plots.INK)
        axes.set_xlabel("epochs")
        axes.xaxis.get_major_locator().set_params(integer=True)
        for layer in plots.in_order(list(curves)):
            _line(axes, layer, curves[layer])
        # The order at the end is what there is to see.
        ends = [min(list(c.values())[-1] for c in x) for x in curves.values()]
        axes.set_ylim(bottom=min(ends) - 25)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy, %")
    return new


def _line(axes, layer: str, curves: list[dict[float, float]]) -> None:
    """The mean at the epochs that all seeds have, and the range."""
    at = sorted(set.intersection(*(set(curve) for curve in curves)))
    rows = [[curve[x] for curve in curves] for x in at]
    style = plots.style(layer)
    mean = [statistics.fmean(row) for row in rows]
    axes.plot(at, mean, color=style.colour, lw=1.6, zorder=3)
    low, high = map(min, rows), map(max, rows)
    axes.fill_between(at, [*low], [*high], color=style.colour, alpha=0.18, lw=0)
    plots.marks(axes, at, mean, f"{layer}")


def main() -> None:
    """Reads the runs and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--runs", type=pathlib.Path, default=pathlib.Path("docs/runs")
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("docs/images/cifar10_curves.png"),
    )
    args = parser.parse_args()
    panels = of_runs(args.runs / "cifar10") | of_gpus(args.runs)
    plots.save(figure(panels), str(args.output))
    print(f"{len(panels)} panels. Figure: {args.output}")


if __name__ == "__main__":
    main()
