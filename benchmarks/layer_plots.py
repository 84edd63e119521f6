"""Response and gradient of every layer, one picture each for docs/layers.md.

    python -m benchmarks.layer_plots [--output docs/images/layers]
        [--layers evonorm_b0 ...]

The input is one image whose channel 0 holds the quantiles of a standard normal
distribution. The other channels alternate between -1 and 1, which has the same
mean and variance. The response is channel 0 of the output; the gradient is its
slope, the statistics held fixed.
"""

import argparse
import pathlib
import statistics

import numpy as np

import evonorm_tf
from evonorm_tf import plots

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SIDE, _CHANNELS = 48, 8
_LIMIT = 3.1  # of both axes, the same for all layers
_WIDTH, _HEIGHT = 4.2, 3.0  # inches


def response(layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in ascending order and a layer's outputs for them, [S] each.

    Args:
      layer: a catalog name.
    """
    count = _SIDE * _SIDE
    normal = statistics.NormalDist()
    x = np.array([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    images = np.empty([count, _CHANNELS])
    images[:, 0] = x
    images[:, 1:] = np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]
    images = images.reshape(1, _SIDE, _SIDE, _CHANNELS)
    built = evonorm_tf.NormAct(
        layer, min_group_size=1, dtype="float64", xla=False
    )
    y = np.asarray(built(images, training=True))
    return x, y.reshape(count, _CHANNELS)[:, 0]


def draw(layer: str, path: pathlib.Path) -> None:
    """Draws one layer's response and gradient.

    Args:
      layer: a catalog name.
      path: an .svg or .png file.
    """
    x, y = response(layer)
    slope = np.gradient(y, x)
    figure = plots.figure(_WIDTH, _HEIGHT, layer, "input from N(0, 1)")
    axes = figure.subplots()
    plots.plain(axes)
    colour = plots.style(layer).colour
    axes.axhline(0, color="#000000", alpha=0.3, linewidth=0.8)
    axes.plot(x, y, color=colour, linewidth=2, label="response y")
    axes.plot(
        x,
        slope,
        color=plots.INK,
        linestyle="--",
        linewidth=1.2,
        label="gradient dy/dx",
    )
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT))
    axes.set_xlabel("x")
    axes.legend(frameon=False, fontsize=9, loc="best")
    plots.save(figure, str(path))


def main() -> None:
    """Draws the layers that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=ROOT / "docs" / "images" / "layers",
        help="folder of the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        default=list(evonorm_tf.names()),
        metavar="NAME",
        help="layers to draw (default: every layer of the catalog)",
    )
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for layer in given.layers:
        path = given.output / f"{layer}.png"
        draw(layer, path)
        print(path)


if __name__ == "__main__":
    main()
