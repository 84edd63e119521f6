"""Evolves normalization-activation layers.

    python -m evonorm_tf.search --space=b --output=runs/search --debug
    python -m evonorm_tf.search --config=small --output=runs/search
    python -m evonorm_tf.search report --output=runs/search
    python -m evonorm_tf.search show 17 --output=runs/search
    python -m evonorm_tf.search export 17 --output=runs/search

Without a command it searches. Run the same command again to resume a search
that was stopped or killed.
"""

import argparse
import sys

from evonorm_tf.versions import missing

try:
    from evonorm_tf.search import command_line, commands
except ModuleNotFoundError as error:
    sys.exit(missing("The search", error, "search").msg)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, run, about):
        one = parsers.add_parser(
            name, help=about, description=about, allow_abbrev=False
        )
        one.set_defaults(run=run)
        command_line.add_output(one)
        return one

    search = add("run", commands.run, "search (the default)")
    command_line.add_settings(search)
    command_line.add_ray(search)
    add("status", commands.status, "print the funnel and the best layers")
    add("report", commands.write_report, "write report.html and a CSV file")
    for name, run, about in (
        ("show", commands.show, "print everything about one trial"),
        ("export", commands.export, "write a layer as a file for --norm_act"),
    ):
        one = add(name, run, about)
        one.add_argument("id", type=int, help="number of the trial")
    return parser


def main(given: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    given = sys.argv[1:] if given is None else given
    # Without a command it searches.
    first = given[0] if given else "-"
    if first.startswith("-") and first not in ("-h", "--help"):
        given = ["run", *given]
    return command_line.main(_parser(), given)


if __name__ == "__main__":
    sys.exit(main())
