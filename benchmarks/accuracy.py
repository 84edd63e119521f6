"""Accuracy of the variance for each way of computing it.

    python -m benchmarks.accuracy [--json FILE]

Measures the largest relative error of a (sample, channel) variance in float32,
compared with NumPy in float64 on the same float32 values, for maps of normal
noise whose mean is a multiple of its standard deviation.
"""

import argparse
import json
import pathlib

import numpy as np
import tensorflow as tf

from evonorm_tf.ops import moments, settings
from evonorm_tf.ops.tensorflow import xp

RATIOS = (0, 3, 10, 30, 100)
FORMS = (
    ("merged", "blocks"),
    ("two_pass", "blocks"),
    ("two_pass", "sum"),
    ("one_pass", "blocks"),
    ("one_pass", "sum"),
)


def error(form: tuple[str, str], ratio: float, size: int = 28) -> float:
    """Returns the largest relative error of the variance of 32 x 64 maps.

    Args:
      form: (moments, reduction), names of `ops.settings`.
      ratio: mean over standard deviation of the maps.
      size: height and width.
    """
    shape = (32, size * size, 64)
    noise = np.random.default_rng(0).standard_normal(shape)
    x = (noise + ratio).astype(np.float32)
    exact = x.astype(np.float64).var(1)
    how = settings.Settings(form[1], form[0], False)

    @tf.function(jit_compile=True)
    def step(x):
        return moments.spatial_moments(xp, x, 1, how).variance

    variance = step(tf.constant(x)).numpy()
    return float(np.max(np.abs(variance - exact) / exact))


def main() -> None:
    """Prints the table, and writes it if requested."""
    # One function per form is intended here.
    tf.get_logger().setLevel("ERROR")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    args = parser.parse_args()
    rows = []
    print("mean / std        " + "".join(f"{r:>10}" for r in RATIOS))
    for form in FORMS:
        errors = [error(form, r) for r in RATIOS]
        rows.append({"form": form, "ratios": RATIOS, "errors": errors})
        cells = "".join(f"{e:10.1e}" for e in errors)
        print(f"{form[0]:9s}{form[1]:9s}{cells}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
