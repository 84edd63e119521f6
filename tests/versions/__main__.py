"""Tests the wheel with old and new Pythons, TensorFlows and Kerases.

    python -m tests.versions               # all corners: hours
    python -m tests.versions --only 3.13   # of one Python
    python -m tests.versions --only Colab  # of one purpose
    python -m tests.versions --smoke       # without the layer tests

Writes docs/runs/versions.json and docs/versions.md.
"""

import argparse
import sys

from tests.versions import matrix


def main() -> int:
    """Runs the chosen corners; 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="corners that have this version or purpose; repeat it",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="leave the layer tests out"
    )
    given = parser.parse_args()
    chosen = [
        corner
        for corner in matrix.CORNERS
        if not given.only or set(given.only) & set(corner[:5])
    ]
    if not chosen:
        parser.error(f"no corner has it. Received: --only={given.only}")
    return int(not matrix.run(chosen, layers=not given.smoke))


if __name__ == "__main__":
    sys.exit(main())
