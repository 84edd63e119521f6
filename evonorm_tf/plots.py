"""The style of figures: each layer has the same colour and marker in all.

The hues are Okabe and Ito's colour-blind safe set. The layers of a family share
a hue and differ in lightness and marker.
"""

import zlib
from collections.abc import Collection

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evonorm_tf import catalog, files
from evonorm_tf.catalog import Style

INK = "#333333"
MUTED = "#666666"
LABEL_SIZE = 10  # points


_OTHERS = tuple(
    Style(colour, marker)
    for colour in ("#000000", "#7a3b2e", "#4d5d53")
    for marker in ("o", "s", "^", "D", "v")
)


def style(layer: str) -> Style:
    """Returns the style of a layer; unknown layers have a fixed one too.

    Args:
      layer: a catalog name, or the name of another layer in a config.
    """
    if layer in catalog.names():
        found = catalog.get(layer).style
        if found is not None:
            return found
    # Not hash(), which differs between processes.
    return _OTHERS[zlib.crc32(layer.encode()) % len(_OTHERS)]


def in_order(layers: Collection[str]) -> list[str]:
    """Sorts layers for legends: baselines, EvoNorms, others."""

    def rank(name: str) -> int:
        if name.startswith("evonorm_"):
            return 1
        return 2 if catalog.get(name).reference == catalog.ABLATION else 0

    # A stable sort: within each group, the order of the catalog.
    ordered = sorted(catalog.names(), key=rank)
    known = [layer for layer in ordered if layer in layers]
    return known + sorted(set(layers) - set(known))


def figure(width: float, height: float, title: str, note: str) -> Figure:
    """Returns an empty figure on white, with a title and a line below it.

    Args:
      width: in inches.
      height: in inches.
      title: the headline.
      note: the line below it, in smaller type.
    """
    new = Figure(figsize=(width, height), layout="constrained")
    new.get_layout_engine().set(w_pad=0.06, h_pad=0.05, hspace=0.06)
    # constrained_layout makes room for a suptitle, so the note is one.
    new.suptitle(note, x=0.012, ha="left", fontsize=9.5, color=MUTED)
    new.text(
        0.012, 1.005, title, ha="left", va="bottom", fontsize=13, color=INK
    )
    return new


def plain(axes: Axes) -> None:
    """Draws only two spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#000000", alpha=0.1, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5)


def marks(axes: Axes, x: list[float], y: list[float], layer: str) -> None:
    """Draws the points of a layer without a line."""
    chosen = style(layer)
    # Pluses, crosses and stars have less ink than discs of the same size.
    thin = chosen.marker in ("P", "X", "*") or isinstance(chosen.marker, tuple)
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=chosen.marker,
        color=chosen.colour,
        ms=10 if thin else 8,
        mec="white",
        mew=0.7,
        label=layer,
        zorder=5,
    )


def save(new: Figure, path: str) -> None:
    """Saves the figure, including what is outside its frame.

    Args:
      new: the figure.
      path: on any file system; its folder is created.
    """
    with files.writing(path) as place:
        new.savefig(
            place,
            dpi=160,
            facecolor="white",
            bbox_inches="tight",
            pad_inches=0.12,
        )


def name_lines(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Labels each line to the right of its end, without overlaps.

    Call it last, because the distances between the labels depend on the limits
    and the layout.

    Args:
      axes: the axes with the lines.
      ends: x and y of the end of each line, its name and its colour.
    """
    if not ends:
        return
    axes.figure.draw_without_rendering()  # Fixes the size of the axes.
    bottom, top = axes.get_ylim()
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    room = 1.3 * LABEL_SIZE / points * (top - bottom)
    ordered = sorted(ends, key=lambda end: end[1])
    places = spread_out([end[1] for end in ordered], room)
    for (x, y, name, colour), place in zip(ordered, places):
        axes.annotate(
            name,
            (x, y),
            (1.03, place),
            xycoords="data",
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            fontsize=LABEL_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.5,
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 5,
            },
        )


def spread_out(values: list[float], room: float) -> list[float]:
    """Moves ascending values as little as necessary to be `room` apart.

    Values that would overlap form a block around their mean; blocks that touch
    are merged.
    """
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and _low(blocks[-1], room) < (
            _high(blocks[-2], room) + room
        ):
            last = blocks.pop()
            blocks[-1] = blocks[-1] + last
    return [
        _low(block, room) + k * room
        for block in blocks
        for k in range(len(block))
    ]


def _low(block: list[float], room: float) -> float:
    return sum(block) / len(block) - (len(block) - 1) / 2 * room


def _high(block: list[float], room: float) -> float:
    return sum(block) / len(block) + (len(block) - 1) / 2 * room
