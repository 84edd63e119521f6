"""How figures look: every layer has one colour and marker in all of them.

Hues are those of Okabe and Ito's colour-blind safe set; a family of layers
shares one, its members differ in lightness and marker.
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
    """The style of a layer; one from outside the catalog has a fixed one too.

    Args:
      layer: a catalog name, or what stands for another layer in a config.
    """
    if layer in catalog.names():
        found = catalog.get(layer).style
        if found is not None:
            return found
    # Not hash(): that differs from process to process.
    return _OTHERS[zlib.crc32(layer.encode()) % len(_OTHERS)]


def in_order(layers: Collection[str]) -> list[str]:
    """`layers` in the order of every legend: baselines, EvoNorms, others."""

    def rank(name: str) -> int:
        if name.startswith("evonorm_"):
            return 1
        return 2 if catalog.get(name).reference == catalog.ABLATION else 0

    # A stable sort: within each of the three, the order of the catalog.
    ordered = sorted(catalog.names(), key=rank)
    known = [layer for layer in ordered if layer in layers]
    return known + sorted(set(layers) - set(known))


def figure(width: float, height: float, title: str, note: str) -> Figure:
    """An empty figure on white, with a headline and a line under it.

    Args:
      width: in inches.
      height: in inches.
      title: what it shows.
      note: of what, in smaller type.
    """
    new = Figure(figsize=(width, height), layout="constrained")
    new.get_layout_engine().set(w_pad=0.06, h_pad=0.05, hspace=0.06)
    # The note as a suptitle, the headline above it: both are given room.
    new.suptitle(note, x=0.012, ha="left", fontsize=9.5, color=MUTED)
    new.text(
        0.012, 1.005, title, ha="left", va="bottom", fontsize=13, color=INK
    )
    return new


def plain(axes: Axes) -> None:
    """Two spines, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#000000", alpha=0.1, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5)


def marks(axes: Axes, x: list[float], y: list[float], layer: str) -> None:
    """A layer's points, without the line between them."""
    chosen = style(layer)
    # A plus, a cross and a star have less ink than a disc of their size.
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
    """Writes the figure, what stands outside its frame included.

    Args:
      new: the figure.
      path: on any file system; the folder above is made.
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
    """Writes each line's name to the right of its end, pushed apart.

    Call it last: the names keep the distances of the limits and the layout
    that they meet.

    Args:
      axes: where the lines are.
      ends: x and y of each line's end, its name, its colour.
    """
    if not ends:
        return
    axes.figure.draw_without_rendering()  # Fixes the size of the axes.
    bottom, top = axes.get_ylim()
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    room = 1.3 * LABEL_SIZE / points * (top - bottom)
    ordered = sorted(ends, key=lambda end: end[1])
    places = apart([end[1] for end in ordered], room)
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


def apart(values: list[float], room: float) -> list[float]:
    """Ascending values moved as little as needed to be `room` apart.

    Values that would collide form a block around the mean of theirs; blocks
    that come to touch are joined.
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
