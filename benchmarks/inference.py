"""Latency of exported networks, as ratios to bn_relu.

    python -m benchmarks.inference [--json FILE] [--rows evonorm_b0 ...]

One image through the files that `evonorm_tf.exporting` writes, each beside
bn_relu's file of the same format: timed in turn, round after round, the ratio
the median over rounds. The bn_relu row is bn_relu against a second copy of
itself: how far it is from 1 is what a ratio can be wrong by. `as trained`:
the same file with the layers computed as in the model, not in the folded form
(`evonorm_tf.ops.folding`). In mobilenet_v2 every bn_relu follows a
convolution, into which it is folded; in the pre-activation resnet50 few do.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import record
from evonorm_tf import catalog, layers, models, nets
from evonorm_tf.exporting import formats, trace

BASELINE = "bn_relu"
FILES = ("saved_model", "tflite", "tflite_int8", "onnx")
_CALIBRATION = 8  # images for int8; latency does not depend on them


class Files:
    """Exported networks of one shape, written once each.

    Args:
      network: a name of `evonorm_tf.list_models()`.
      side: of the images, in pixels.
      scale: `width` and `max_depth`, see `create_model`.
      folder: where the files go.
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
        self._folder, self._count = folder, 0
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(_CALIBRATION, side, side, 3))
        self.images = self.images.astype(np.float32)

    def run(self, row: str, name: str, fold: bool) -> Callable[[], Any]:
        """What computes one image by a new file of that format."""
        model = self._make(functools.partial(layers.norm_act, row))
        spec = tf.TensorSpec([None, *self.images.shape[1:]])
        serve = trace.function(model, spec, fold)
        self._count += 1
        path = self._folder / f"{self._count}{formats.FORMATS[name].suffix}"
        source = formats.Source(model, serve, self.images)
        formats.FORMATS[name].write(source, path)
        return functools.partial(
            formats.FORMATS[name].read(path), self.images[:1]
        )


def _seconds(run: Callable[[], Any], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - start) / repeat


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
        "ratio_to_bn_relu": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "ms": round(statistics.median(a for a, _ in pairs) * 1e3, 2),
        "bn_relu_ms": round(statistics.median(b for _, b in pairs) * 1e3, 2),
    }


def measure(args: argparse.Namespace, folder: pathlib.Path) -> list[dict]:
    """All networks, formats and rows of the command line."""
    rows = [catalog.get(name).name for name in args.rows]
    scale = {"width": args.width, "max_depth": args.max_depth}
    found = []
    for network in args.networks:
        files = Files(network, args.image_size, scale, folder)
        print(f"\n{network} {scale}, one image of {args.image_size} pixels")
        print(
            f"{'file':14s}{'layer':14s}{'form':12s}{'ratio':>7s}"
            f"{'of rounds':>14s}{'ms':>9s}{'bn_relu':>9s}"
        )
        for name in args.formats:
            baseline = files.run(BASELINE, name, True)
            for row, fold in [
                (BASELINE, True),
                *((r, fold) for r in rows for fold in (True, False)),
            ]:
                line = {
                    "network": network,
                    "file": name,
                    "layer": row,
                    "form": "folded" if fold else "as trained",
                }
                # int8 is written in the folded form alone.
                if name == "tflite_int8" and not fold:
                    continue
                run = files.run(row, name, fold)
                line |= compare(baseline, run, args.rounds, args.repeat)
                found.append(line)
                print(_line(line), flush=True)
    return found


def _line(row: dict[str, Any]) -> str:
    spread = f"{row['lowest']:.2f}..{row['highest']:.2f}"
    return (
        f"{row['file']:14s}{row['layer']:14s}{row['form']:12s}"
        f"{row['ratio_to_bn_relu']:7.2f}{spread:>14s}"
        f"{row['ms']:9.2f}{row['bn_relu_ms']:9.2f}"
    )


def flags() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
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
        rows = measure(args, pathlib.Path(folder))
    print("\nratio: median over rounds (lower is faster); ms: of one image.")
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
