"""Training curves of recorded runs, with the validation points."""

import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from classification import logs
from classification.logs import Log
from evonorm_tf import plots

_POINTS = 60  # of a training curve: more would look like noise


def figure(runs: list[Log]) -> Figure:
    """Plots training loss and accuracy against images seen, by batch.

    Args:
      runs: from `logs.find`.

    Raises:
      ValueError: if no run has recorded anything yet.
    """
    open_ended = [run for run in runs if not run.finished]
    waiting = ", ".join(run.progress for run in runs)
    runs = [run for run in runs if run.train]
    if not runs:
        raise ValueError(f"No run has recorded anything. Received: {waiting}")
    batches = sorted({run.per_worker for run in runs}, reverse=True)
    note = f"{logs.about(runs)}; {logs.mean_of(runs)}"
    if open_ended:
        note += f"; {len(open_ended)} unfinished, ending in a ring"
    tall = len(batches) > 1
    new = plots.figure(
        max(8.4, 3.6 * len(batches)) if tall else 9.6,
        6.4 if tall else 4.0,
        "Training curves",
        note,
    )
    shape = (2, len(batches)) if tall else (1, 2)
    grid = new.subplots(*shape, sharex=tall, sharey="row" if tall else False)
    if not tall:
        grid = grid[:, None]
    for column, batch in enumerate(batches):
        chosen = [run for run in runs if run.per_worker == batch]
        loss, accuracy = grid[:, column]
        _panel(loss, chosen, "training_loss", 1.0)
        _panel(accuracy, chosen, "accuracy", 100.0)
        _validation(accuracy, chosen)
        loss.set_title(
            f"{batch} images per worker", fontsize=10.5, color=plots.INK
        )
    _label(grid, tall, runs[0].settings["task.validation_data.split"])
    _legend(new, plots.in_order({run.layer for run in runs}))
    return new


def _panel(axes: Axes, runs: list[Log], value: str, scale: float) -> None:
    """Plots training curves: mean and range of the seeds."""
    plots.plain(axes)
    for (layer,), group in logs.by(runs, "layer").items():
        style = plots.style(layer)
        at, rows = together([curve(run, value) for run in group])
        mean = [scale * statistics.fmean(row) for row in rows]
        low = [scale * min(row) for row in rows]
        high = [scale * max(row) for row in rows]
        axes.plot(at, mean, color=style.colour, lw=1.5, zorder=3)
        axes.fill_between(at, low, high, color=style.colour, alpha=0.18, lw=0)
        for run in group:
            points = curve(run, value)
            if points and not run.finished:
                end = max(points)
                axes.plot(
                    [end],
                    [scale * points[end]],
                    "o",
                    mfc="white",
                    mec=style.colour,
                    ms=7,
                    mew=1.5,
                    zorder=5,
                )


def _validation(axes: Axes, runs: list[Log]) -> None:
    """Plots validation points with the range of the seeds."""
    layers = plots.in_order({run.layer for run in runs})
    longest = max(run.steps * run.batch for run in runs)
    for index, layer in enumerate(layers):
        style = plots.style(layer)
        group = [run for run in runs if run.layer == layer]
        at, rows = together(
            [
                {
                    line["step"] * run.batch: 100 * line["accuracy"]
                    for line in run.validation
                }
                for run in group
            ]
        )
        # Slightly offset, as the layers are evaluated at the same steps.
        shift = 0.022 * longest * (index + 1)
        x = [images + shift for images in at]
        y = [statistics.fmean(row) for row in rows]
        for k, row in zip(x, rows):
            axes.vlines(k, min(row), max(row), style.colour, lw=1.4, zorder=4)
        plots.marks(axes, x, y, layer)


def curve(run: Log, value: str) -> dict[int, float]:
    """Returns a run's training value by images seen, at most `_POINTS`.

    The whole length of the run is divided into parts, each of which becomes one
    point, so that all seeds, finished or not, have points at the same places.

    Args:
      run: the run.
      value: its name in `metrics.jsonl`.
    """
    parts: dict[int, list[dict[str, float]]] = {}
    for line in run.train:
        if value in line:
            part = (line["step"] - 1) * _POINTS // run.steps
            parts.setdefault(part, []).append(line)
    return {
        lines[-1]["step"] * run.batch: statistics.fmean(
            line[value] for line in lines
        )
        for lines in parts.values()
    }


def together(
    curves: list[dict[int, float]],
) -> tuple[list[int], list[list[float]]]:
    """Returns all numbers of images in any curve, and the values there."""
    at = sorted({images for points in curves for images in points})
    rows = [[c[images] for c in curves if images in c] for images in at]
    return at, rows


def _label(grid: Any, tall: bool, split: str) -> None:
    """Labels the outer axes, or both if there are two."""
    for axes in grid[-1] if tall else grid[:, 0]:
        axes.set_xlabel("images seen")
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.locator_params(axis="x", nbins=5)
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("accuracy, %")
    grid[1, -1].text(
        0.98,
        0.05,
        f"lines: training\nmarks: {split}",
        transform=grid[1, -1].transAxes,
        ha="right",
        fontsize=9.5,
        color=plots.MUTED,
    )


def _short(images: float, _: int) -> str:
    """Formats a number of images, such as 50k or 1.2M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(images) >= size:
            return f"{images / size:g}{unit}"
    return f"{images:g}"


def _legend(new: Figure, layers: list[str]) -> None:
    """Draws the legend of all layers below the panels."""
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, label=layer)
        for layer, style in ((layer, plots.style(layer)) for layer in layers)
    ]
    new.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(layers), 6),
        frameon=False,
        fontsize=10,
    )
