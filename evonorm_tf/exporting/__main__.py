"""Exports a .keras file, of Keras 3 or tf_keras, and checks the exports.

    python -m evonorm_tf.exporting model.keras --format=tflite,onnx \
        --output=exports --images=images.npy

A line each: the largest difference from the model, size and latency.
"""

import argparse
import pathlib
import sys

import numpy as np

from evonorm_tf import export
from evonorm_tf.exporting import formats


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.exporting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=pathlib.Path, help="a .keras file")
    parser.add_argument(
        "--output", type=pathlib.Path, required=True, help="folder"
    )
    parser.add_argument(
        "--format",
        default="saved_model,tflite",
        help=f"some of {','.join(formats.FORMATS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=pathlib.Path,
        help=".npy file of images [N, H, W, C] as the network takes them, or "
        ".npz file of arrays by the names of several inputs, to compare on "
        "and for int8's ranges (default: noise)",
    )
    parser.add_argument(
        "--tolerance", type=float, help="largest relative difference"
    )
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    chosen = _arguments(given)
    try:
        names = chosen.format.split(",")
        unknown = sorted(set(names) - set(formats.FORMATS))
        if unknown:
            raise ValueError(
                f"The formats are {', '.join(formats.FORMATS)}. "
                f"Received: {', '.join(unknown)}"
            )
        if not chosen.model.is_file():
            raise ValueError(
                f"There is no such file. Received: model={str(chosen.model)!r}"
            )
        images = None if chosen.images is None else np.load(chosen.images)
        if isinstance(images, np.lib.npyio.NpzFile):
            images = dict(images)
        model = formats.read_keras(chosen.model)
        for name in names:
            file = name + formats.FORMATS[name].suffix
            done = export(
                model,
                chosen.output / file,
                name,
                images=images,
                tolerance=chosen.tolerance,
            )
            print(done, flush=True)
    except (ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
