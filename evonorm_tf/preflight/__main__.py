"""Compiles a file of StableHLO for a TPU.

python -m evonorm_tf.preflight compile step.mlir --topology=v5e:2x2
"""

import argparse
import json
import pathlib
import sys

from evonorm_tf import files
from evonorm_tf.preflight import tpu


def _compile(given: argparse.Namespace) -> None:
    if not files.is_file(given.module):
        raise ValueError(
            f"There is no such file. Received: module={given.module!r}"
        )
    try:
        text = pathlib.Path(given.module).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            "The file is not StableHLO as text, such as a module's `text` "
            f"({error}). Received: module={given.module!r}"
        ) from error
    print(json.dumps(tpu.compile_text(text, given.topology), indent=2))


def main(given: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
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
    chosen = parser.parse_args(given)
    try:
        chosen.run(chosen)
    except (ValueError, OSError, ImportError, tpu.CompilerError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
