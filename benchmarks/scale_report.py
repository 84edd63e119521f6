"""Means, table and figure of `benchmarks.scale_invariance`."""

import math
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from evonorm_tf import plots

STATES = ("untrained", "trained")
# A layer counts as invariant if no gradient deviates by more than this from
# the invariant value. Epsilon contributes 1e-5 over the variance, and the
# variance is near 1/64 where the convolution is scaled by 1/8.
TOLERANCE = 0.05
Row = dict[str, float]

# The panels: the label of the axis, and the value of a row.
_PANELS: tuple[tuple[str, Callable[[Row], float], float], ...] = (
    ("loss change", lambda row: row["loss_change"], 0.0),
    (
        "own gradient's norm,\nas a share of 1/a",
        lambda row: row["own_gradient"] * row["factor"],
        1.0,
    ),
    (
        "other gradients' norm,\nto that at a = 1",
        lambda row: row["other_gradients"],
        1.0,
    ),
)


def mean_over(tables: list[list[Row]]) -> list[Row]:
    """Averages the tables of all convolutions, factor by factor."""
    rows = []
    for same in zip(*tables):
        changes = [row["loss_change"] for row in same]
        rows.append(
            {
                "factor": same[0]["factor"],
                "loss_change": sum(changes) / len(changes),
                "own_gradient": _geometric(same, "own_gradient"),
                "other_gradients": _geometric(same, "other_gradients"),
            }
        )
    return rows


def _geometric(rows: tuple[Row, ...], name: str) -> float:
    """Returns the geometric mean; 0 if one is 0."""
    values = [row[name] for row in rows]
    if any(value == 0 for value in values):
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))


def without_nan(tree: Any) -> Any:
    """Replaces NaN by null, because JSON has no NaN."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return None
    return tree


def deviation(rows: list[Row]) -> float:
    """Returns the largest factor between a gradient and the invariant value.

    Returns:
      At least 0; 0.1 if a gradient is 10 % too large or 9 % too small, NaN if
      one is not finite, infinity if one has vanished.
    """
    ratios = [
        value
        for row in rows
        for value in (
            row["own_gradient"] * row["factor"],
            row["other_gradients"],
        )
    ]
    if not all(map(math.isfinite, ratios)):
        return math.nan
    return max(max(r, 1 / r if r else math.inf) for r in ratios) - 1


def invariant(result: dict[str, Any]) -> bool:
    """Returns whether a layer's network is invariant, before and after."""
    return all(
        deviation(result[state]["rows"]) <= TOLERANCE for state in STATES
    )


def header() -> str:
    """Returns the table's head, aligned with `line`."""
    groups = f"{'':14s}" + "".join(f"{state:>43s}" for state in STATES)
    each = f"{'loss':>9s}{'change':>10s}{'own x a':>15s}{'others':>9s}"
    # The gradients' columns show both states.
    return f"{groups}\n{'layer':14s}{each}{each}   invariant"


def line(result: dict[str, Any]) -> str:
    """Returns a layer's row: loss, its largest change, largest ratios."""
    text = f"{result['layer']:14s}"
    for state in STATES:
        rows = result[state]["rows"]
        change = max((row["loss_change"] for row in rows), key=abs)
        own = [row["own_gradient"] * row["factor"] for row in rows]
        others = [row["other_gradients"] for row in rows]
        text += f"{result[state]['loss']:9.4f}{change:+10.1e}"
        text += f"{own[0]:8.3f}{own[-1]:7.3f}"
        text += f"{max(others, key=_distance):9.3f}"
    return f"{text}   {'yes' if invariant(result) else 'no'}"


def _distance(ratio: float) -> float:
    """Returns the distance from 1, where 1/2 is as far as 2."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def figure(results: list[dict[str, Any]], note: str) -> Figure:
    """Draws three panels untrained and three trained, a line per layer.

    Args:
      results: of `scale_invariance.analyse`.
      note: describes network, data and steps.
    """
    title = "One convolution's weights times a: loss and gradients"
    new = plots.figure(9.6, 9.0, title, note)
    cells = new.add_gridspec(4, 2, height_ratios=(1, 1, 1, 0.32))
    for index, (name, value, still) in enumerate(_PANELS):
        left = new.add_subplot(cells[index, 0])
        right = new.add_subplot(cells[index, 1], sharex=left, sharey=left)
        for axes, state in zip((left, right), STATES):
            # Before the lines, whose margins depend on this scale.
            if index:
                axes.set_yscale("log", base=2)
            else:
                # Changes have both signs and sizes from 1e-7 to 1.
                axes.set_yscale("symlog", linthresh=1e-3)
            _panel(axes, results, state, value)
            axes.axhline(still, color=plots.INK, lw=0.8, alpha=0.5, zorder=1)
            if not index:
                axes.set_title(state, fontsize=11, color=plots.INK)
        left.set_ylabel(name)
        right.tick_params(labelleft=False)
        if index:
            left.yaxis.set_major_formatter(FuncFormatter(_factor))
    for axes in new.axes[-2:]:
        axes.set_xlabel("a")
    _legends(new.add_subplot(cells[3, :]), results)
    return new


def _panel(
    axes: Axes,
    results: list[dict[str, Any]],
    state: str,
    value: Callable[[Row], float],
) -> None:
    """Draws one line per layer; invariant ones coincide and are below."""
    plots.plain(axes)
    order = plots.in_order({result["layer"] for result in results})
    by_name = {result["layer"]: result for result in results}
    for layer in sorted(order, key=lambda n: not invariant(by_name[n])):
        rows = by_name[layer][state]["rows"]
        x = [row["factor"] for row in rows]
        y = [value(row) for row in rows]
        axes.plot(x, y, color=plots.style(layer).colour, lw=1.6, zorder=3)
        plots.marks(axes, x, y, layer)
    axes.margins(y=0.08)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(_factor))
    axes.xaxis.set_minor_locator(NullLocator())


def _factor(value: float, _: int) -> str:
    """Formats a factor, such as 1/8, 1 or 8."""
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def _legends(axes: Axes, results: list[dict[str, Any]]) -> None:
    """Draws the legends of the two groups side by side."""
    axes.set_axis_off()
    layers = plots.in_order({result["layer"] for result in results})
    still = {result["layer"] for result in results if invariant(result)}
    for name, chosen, place in (
        ("depends on the scale", [n for n in layers if n not in still], 0.0),
        ("does not (within 5 %)", [n for n in layers if n in still], 0.4),
    ):
        handles = []
        for layer in chosen:
            style = plots.style(layer)
            handles.append(
                Line2D(
                    [],
                    [],
                    color=style.colour,
                    marker=style.marker,
                    ms=7,
                    label=layer,
                )
            )
        # A second legend would otherwise replace the first.
        if axes.get_legend():
            axes.add_artist(axes.get_legend())
        axes.legend(
            handles=handles,
            title=name,
            title_fontproperties={"size": 10.5},
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(place, 1.0),
            ncols=2 if place == 0.0 else 3,
            frameon=False,
            fontsize=9.5,
        )
