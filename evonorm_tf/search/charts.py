"""The figures of a search's report."""

import base64
import io
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from matplotlib.figure import Figure

from evonorm_tf import plots
from evonorm_tf.graphs.graph import INITIAL, OUTPUT, Graph
from evonorm_tf.graphs.picture import depths
from evonorm_tf.graphs.primitives import PRIMITIVES
from evonorm_tf.search.history import Point, Ranked

Panel = tuple[Sequence[float], Mapping[str, Sequence[Sequence[float]]]]
# Okabe and Ito's set; an arm has the same line in every figure.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES = ("-", "--", ":", "-.")


def inline(figure: Figure) -> str:
    """Returns a figure as the source of an inline HTML image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{text}"


def _lines(arms: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], Any]]:
    """Yields the style and the values of each arm's line."""
    styles = itertools.cycle(itertools.product(_DASHES, _COLOURS))
    for (dashes, colour), (name, values) in zip(styles, arms.items()):
        yield {"color": colour, "linestyle": dashes, "label": name}, values


def _figure(width: float, height: float, count: int) -> tuple[Figure, list]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for one in axes:
        plots.plain(one)
    return figure, list(axes)


def best(
    arms: Mapping[str, Sequence[Point]],
    references: Mapping[str, float] = MappingProxyType({}),
) -> Figure:
    """Plots the best mean accuracy against trainings and CPU seconds.

    Args:
      arms: curves by name.
      references: mean accuracies of known layers, drawn as dashed lines.
    """
    figure, axes = _figure(10, 3.6, 2)
    spent = max((p.cpu for points in arms.values() for p in points), default=0)
    seconds, unit = (3600, "hours") if spent > 2 * 3600 else (1, "seconds")
    for style, points in _lines(arms):
        begun = [p for p in points if p.best > 0]
        for one, x, scale in zip(axes, ("trainings", "cpu"), (1, seconds)):
            one.step(
                [getattr(p, x) / scale for p in begun],
                [p.best for p in begun],
                where="post",
                **style,
            )
    for one, label in zip(axes, ("trainings", f"CPU {unit}")):
        one.set_xlabel(label)
        one.set_ylabel("best mean validation accuracy")
        for name, mean in references.items():
            one.axhline(mean, color="#888888", lw=0.8, ls="--", zorder=0)
            one.annotate(
                name,
                (1.0, mean),
                xycoords=one.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=7,
                color="#666666",
            )
    if arms:
        axes[0].legend(frameon=False, fontsize=9)
    return figure


def funnel(rows: Sequence[tuple[str, int, int]]) -> Figure:
    """Plots what remains after every filter and stage, on a log scale."""
    figure, (axes,) = _figure(8, 0.27 * len(rows) + 0.8, 1)
    names = [row[0] for row in rows][::-1]
    left = [row[2] for row in rows][::-1]
    axes.barh(names, left, color="#56b4e9")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("left")
    for place, count in enumerate(left):
        axes.text(count, place, f" {count:,}", va="center", fontsize=8)
    axes.margins(x=0.12)
    return figure


def fronts(
    rows: Sequence[Ranked],
    members: set[int],
    references: Mapping[str, Mapping[str, float]],
) -> Figure | None:
    """Plots accepted layers on every pair of anchors, with the front marked.

    Args:
      rows: the layers.
      members: trials of those on the front.
      references: accuracy of known layers, by name and anchor.
    """
    anchors = list(rows[0].scores) if rows else []
    pairs = [(a, b) for i, a in enumerate(anchors) for b in anchors[i + 1 :]]
    if not pairs:
        return None
    figure, axes = _figure(3.6 * len(pairs), 3.4, len(pairs))
    for one, (a, b) in zip(axes, pairs):
        for on_front, colour, label in (
            (False, "#b3b3b3", "accepted"),
            (True, "#d55e00", "front of all anchors"),
        ):
            chosen = [
                r.scores
                for r in rows
                if (r.trial.number in members) == on_front
            ]
            one.scatter(
                [s[a] for s in chosen],
                [s[b] for s in chosen],
                s=18,
                color=colour,
                label=label,
            )
        for name, scores in references.items():
            place = scores[a], scores[b]
            one.scatter(*place, s=24, color="black", marker="x")
            one.annotate(
                name, place, (3, 3), textcoords="offset points", fontsize=7
            )
        one.set_xlabel(a)
        one.set_ylabel(b)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        *(handles, labels),
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    return figure


def lineages(arms: Mapping[str, Sequence[Point]]) -> Figure:
    """Plots the number of distinct founders relative to the population."""
    figure, (axes,) = _figure(6, 3, 1)
    for style, points in _lines(arms):
        x = [p.trainings for p in points]
        axes.plot(x, [p.lineages for p in points], **style)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("trainings")
    axes.set_ylabel("lineages / population")
    axes.legend(frameon=False, fontsize=9)
    return figure


def bands(panels: Mapping[str, Panel], ylabel: str) -> Figure:
    """Plots the median and the middle half over seeds, one panel per cost.

    Args:
      panels: by label of x: its values, and the results by arm [seed][place].
      ylabel: of all panels.
    """
    figure, axes = _figure(5 * len(panels), 3.6, len(panels))
    for one, (xlabel, (x, arms)) in zip(axes, panels.items()):
        for style, seeds in _lines(arms):
            low, middle, high = zip(*(_quartiles(c) for c in zip(*seeds)))
            one.plot(x, middle, **style)
            fill = {"color": style["color"], "alpha": 0.15, "lw": 0}
            one.fill_between(x, low, high, **fill)
        one.set_xlabel(xlabel)
        one.set_ylabel(ylabel)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def picture(graph: Graph) -> Figure:
    """Draws the live nodes by depth, inputs at the top, without Graphviz."""
    depth = depths(graph)
    rows: dict[int, list[int]] = {}
    for node in sorted(depth):
        rows.setdefault(depth[node], []).append(node)
    place = {
        node: ((i + 1) / (len(nodes) + 1), -level)
        for level, nodes in rows.items()
        for i, node in enumerate(nodes)
    }
    figure = Figure(figsize=(5, 0.62 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(-len(rows) + 0.5, 0.5)
    for node in graph.live():
        for source in set(graph[node].inputs):
            # Curve around nodes in between, which may be on the straight line.
            bend = 0.3 if depth[node] - depth[source] > 1 else 0.0
            arrow = {"arrowstyle": "->", "shrinkA": 9, "shrinkB": 9}
            arrow["connectionstyle"] = f"arc3,rad={bend}"
            axes.annotate("", place[node], place[source], arrowprops=arrow)
    for node, (x, y) in place.items():
        text = INITIAL[node] if node < len(INITIAL) else graph[node].op
        colour = "#f5d9c8" if node == OUTPUT else "white"
        if text in PRIMITIVES and PRIMITIVES[text].axes:
            colour = "#cfe3f2"
        box = {"boxstyle": "round", "facecolor": colour, "edgecolor": "#666666"}
        axes.text(x, y, text, ha="center", va="center", bbox=box, fontsize=9)
    return figure
