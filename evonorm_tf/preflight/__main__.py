"""Compiles a file of StableHLO for a TPU.

python -m evonorm_tf.preflight compile step.mlir --topology=v5e:2x2
"""

import argparse
import json
import pathlib

from evonorm_tf.preflight import tpu


def _compile(given: argparse.Namespace) -> None:
    text = pathlib.Path(given.module).read_text(encoding="utf-8")
    print(json.dumps(tpu.compile_text(text, given.topology), indent=2))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.preflight",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("compile", help="compile StableHLO for a TPU")
    one.add_argument("module")
    one.add_argument("--topology", default=tpu.EXAMPLES[1])
    one.set_defaults(run=_compile)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
