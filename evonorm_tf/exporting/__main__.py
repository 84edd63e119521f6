r"""Exports a .keras file of Keras 3 or tf_keras, and compares the files.

    python -m evonorm_tf.exporting model.keras --format=tflite,onnx \
        --output=exports --images=images.npy

Prints one line per format: the largest difference from the model, size and
latency.
"""

import argparse
import pathlib
import sys
from typing import Any

import numpy as np

from evonorm_tf import export, files, state_dict
from evonorm_tf.exporting import formats


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.exporting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a .keras file")
    parser.add_argument("--output", required=True, help="folder")
    parser.add_argument(
        "--format",
        default="saved_model,tflite",
        help=f"some of {','.join(formats.FORMATS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        help=".npy file of images [N, H, W, C] as for the network, or .npz "
        "file of arrays by the names of several inputs, for the comparison "
        "and int8's ranges (default: noise)",
    )
    parser.add_argument(
        "--tolerance", type=float, help="largest relative difference"
    )
    return parser.parse_args(given)


def _arrays(path: str) -> Any:
    """Reads an .npy file's array, or an .npz file's by name."""
    try:
        with files.local(path) as place:
            found = np.load(place)
            many = isinstance(found, np.lib.npyio.NpzFile)
            return dict(found) if many else found
    except state_dict.DAMAGED as error:
        raise ValueError(
            f"The images cannot be read ({error}); write them with numpy.save "
            f"or numpy.savez. Received: images={path!r}"
        ) from error


def main(given: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    chosen = _arguments(given)
    try:
        names = chosen.format.split(",")
        unknown = sorted(set(names) - set(formats.FORMATS))
        if unknown:
            raise ValueError(
                f"The formats must be some of {', '.join(formats.FORMATS)}. "
                f"Received: {', '.join(unknown)}"
            )
        if not files.is_file(chosen.model):
            raise ValueError(
                f"There is no such file. Received: model={chosen.model!r}"
            )
        images = None if chosen.images is None else _arrays(chosen.images)
        with files.local(chosen.model) as path:
            model = formats.read_keras(pathlib.Path(path))
        for name in names:
            done = export(
                model,
                files.join(chosen.output, formats.FORMATS[name].file),
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
