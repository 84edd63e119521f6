"""Reads bundles, compiles files.

python -m evonorm_tf.preflight collect FOLDER [--json FILE]
python -m evonorm_tf.preflight compile step.mlir --topology=v5e:2x2
"""

import argparse
import json
import pathlib

from evonorm_tf.preflight import bundle, tpu


def _collect(given: argparse.Namespace) -> None:
    results = bundle.collect(given.folder)
    for one in results:
        said = [f"{one['run']:28} {one['device']:24}"]
        if "step_seconds" in one:
            said.append(f"{one['step_seconds'] * 1e3:9.2f} ms a step")
        else:
            said.append(
                f"{one['steps']:6d} steps, loss {one['losses'][-1]:.4f}"
            )
            said += [f"{k} {v:.4f}" for k, v in one["evaluation"].items()]
        print("  ".join(said))
    if given.json:
        text = json.dumps(results, indent=1) + "\n"
        pathlib.Path(given.json).write_text(text)


def _compile(given: argparse.Namespace) -> None:
    text = pathlib.Path(given.module).read_text(encoding="utf-8")
    print(json.dumps(tpu.compile_text(text, given.topology), indent=2))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.preflight",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("collect", help="the results of a bundle")
    one.add_argument("folder")
    one.add_argument("--json", help="write them here as well")
    one.set_defaults(run=_collect)
    one = commands.add_parser("compile", help="StableHLO for a TPU")
    one.add_argument("module")
    one.add_argument("--topology", default=tpu.EXAMPLES[1])
    one.set_defaults(run=_compile)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
