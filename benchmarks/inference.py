"""Latency of exported networks, as ratios to bn_relu.

    python -m benchmarks.inference [--json FILE] [--rows evonorm_b0 ...]

One image through the files that `evonorm_tf.exporting` writes, the fastest of
several in a row. Each file is timed beside bn_relu's of the same format, in
turn, round after round; the ratio is the median over rounds. An int8 file is
also timed beside its own layer's float32 file. The bn_relu row compares two
copies of bn_relu: its distance from 1 is the error of a ratio. With
`--as_trained`, files of the layers as the model computes them are timed too,
not only those of the folded form (`evonorm_tf.ops.folding`).

Weights are drawn at random, since converters drop operations with the ones and
zeros of a new network. In mobilenet_v2 every bn_relu follows a convolution,
into which it is folded; in the pre-activation resnet50 few do.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import record
from evonorm_tf import catalog, layers, models, nets
from evonorm_tf.exporting import check, formats, trace

BASELINE = "bn_relu"
FILES = ("saved_model", "tflite", "tflite_int8", "onnx")
_CALIBRATION = 8  # images for int8; latency does not depend on them


class Files:
    """Exported networks of one shape, written once each.

    Args:
      network: a name of `evonorm_tf.list_models()`.
      side: of the images, in pixels.
      scale: `width` and `max_depth`, see `create_model`.
      folder: where the files go; those that are there are not written again.
    """

    def __init__(
        self,
        network: str,
        side: int,
        scale: dict[str, Any],
        folder: pathlib.Path,
    ):
        self._make = functools.partial(
            models.create_model, network, image_size=side, **scale
        )
        sizes = (side, *scale.values())
        self._folder = folder / f"{network}-{'-'.join(map(str, sizes))}"
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(_CALIBRATION, side, side, 3))
        self.images = self.images.astype(np.float32)

    def path(self, row: str, name: str, fold: bool) -> pathlib.Path:
        """The file of a layer in a format, written if it is not there."""
        chosen = formats.FORMATS[name]
        folder = self._folder / (row if fold else f"{row}-as-trained")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / chosen.file
        if not path.exists():
            model = self._make(functools.partial(layers.norm_act, row))
            randomize(model)
            spec = tf.TensorSpec([None, *self.images.shape[1:]])
            serve = trace.function(model, spec, fold)
            chosen.write(formats.Source(model, serve, self.images), path)
        return path

    def run(self, row: str, name: str, fold: bool) -> Callable[[], Any]:
        """What computes one image by the file."""
        read = formats.FORMATS[name].read(self.path(row, name, fold))
        return functools.partial(read, self.images[:1])


def randomize(model: Any) -> None:
    """Draws the weights of the norm-act layers, gains from around 1."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.NormAct):
            for weight in layer.weights:
                centered = weight.name in ("beta", "moving_mean")
                low, high = (-0.3, 0.3) if centered else (0.7, 1.3)
                weight.assign(rng.uniform(low, high, weight.shape))


def _seconds(run: Callable[[], Any], repeat: int) -> float:
    """The fastest of several images: what else runs only makes it slower."""
    took = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


def compare(
    baseline: Callable[[], Any],
    run: Callable[[], Any],
    rounds: int,
    repeat: int,
) -> dict[str, float]:
    """Both in turn, each first every other time; after a warm-up."""
    baseline(), run()
    pairs = []
    for index in range(rounds):
        order = (baseline, run) if index % 2 else (run, baseline)
        took = {id(one): _seconds(one, repeat) for one in order}
        pairs.append((took[id(run)], took[id(baseline)]))
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "ms": round(statistics.median(a for a, _ in pairs) * 1e3, 2),
        "baseline_ms": round(statistics.median(b for _, b in pairs) * 1e3, 2),
    }


def comparisons(args: argparse.Namespace, name: str) -> Iterator[tuple]:
    """What is compared in a format: (row, folded, row and format beside it)."""
    rows = [catalog.get(row).name for row in args.rows]
    for row in (BASELINE, *rows):
        yield row, True, (BASELINE, name)
        if name == "tflite_int8":
            yield row, True, (row, "tflite")
        elif row != BASELINE and args.as_trained:
            yield row, False, (BASELINE, name)


def measure(args: argparse.Namespace, folder: pathlib.Path) -> list[dict]:
    """All networks, formats and rows of the command line."""
    scale = {"width": args.width, "max_depth": args.max_depth}
    found = []
    for network in args.networks:
        files = Files(network, args.image_size, scale, folder)
        print(f"\n{network} {scale}, one image of {args.image_size} pixels")
        for name in args.formats:
            for row, fold, baseline in comparisons(args, name):
                run = files.run(row, name, fold)
                took = compare(
                    files.run(*baseline, True), run, args.rounds, args.repeat
                )
                line = {
                    "network": network,
                    "image_size": args.image_size,
                    "file": name,
                    "layer": row,
                    "form": "folded" if fold else "as trained",
                    "baseline": " ".join(baseline),
                    "bytes": check.size(files.path(row, name, fold)),
                }
                found.append(line | took)
                print(_line(found[-1]), flush=True)
    return found


def _line(row: dict[str, Any]) -> str:
    spread = f"{row['lowest']:.2f}..{row['highest']:.2f}"
    return (
        f"{row['file']:14s}{row['layer']:14s}{row['form']:12s}"
        f"{row['ratio']:7.2f}{spread:>14s}{row['ms']:9.2f} ms to "
        f"{row['baseline']} {row['baseline_ms']:.2f} ms"
    )


def flags() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--folder", type=pathlib.Path,
        help="keep the files, and reuse those that are there",
    )  # fmt: skip
    parser.add_argument(
        "--networks", nargs="+", default=("resnet50", "mobilenet_v2"),
        choices=nets.names(), metavar="NETWORK",
    )  # fmt: skip
    parser.add_argument(
        "--rows", nargs="+", default=("evonorm_b0", "evonorm_s0"),
        metavar="LAYER",
    )  # fmt: skip
    parser.add_argument(
        "--formats", nargs="+", default=FILES, choices=FILES, metavar="FORMAT"
    )
    parser.add_argument("--as_trained", action="store_true")
    parser.add_argument("--image_size", type=int, default=96, metavar="PIXELS")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--max_depth", type=int, default=1, metavar="BLOCKS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=10, metavar="IMAGES")
    return parser


def main() -> None:
    """Measures, prints and records."""
    args = flags().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, args.folder or pathlib.Path(folder))
    print("\nratio: median over rounds (lower is faster); ms: of one image.")
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
