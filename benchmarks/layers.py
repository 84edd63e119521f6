"""Time and memory of every layer, forward and backward, as ratios.

    python -m benchmarks.layers [--json FILE] [--rows evonorm_b0 ...]
    python -m benchmarks.layers --backend=jax [--json FILE] [--rows ...]

Everything is timed in one run, interleaved: each round times every layer
once, and a ratio is the median over rounds of the ratio within a round. Other
load on the machine therefore affects both sides equally.

Ratios are relative to BatchNormalization + ReLU: on TensorFlow to the fused
kernel of tf_keras (Keras 3's BatchNormalization is not fused, and is in the
table too), on JAX to Keras 3, each layer under one `jax.jit`.
"""

import argparse
import importlib
import os
import pathlib

from benchmarks import record
from evonorm_tf import catalog

SHAPES = ((32, 28, 28, 128), (8, 56, 56, 64))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--backend", choices=("tensorflow", "jax"), default="tensorflow"
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--rows", nargs="+", default=catalog.names(), metavar="LAYER"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    # A process has one backend, so only its module is imported.
    backend = importlib.import_module(f"benchmarks.{given.backend}_layers")
    names = [catalog.get(name).name for name in given.rows]
    rows = []
    for shape in SHAPES:
        rows += backend.measure(shape, names, given.rounds, given.repeat)
    print(backend.table(rows))
    record.finish(rows, given.json, given.backend)


if __name__ == "__main__":
    main()
