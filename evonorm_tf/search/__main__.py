"""The search's command line.

    python -m evonorm_tf.search --space=b --output=runs/search --debug
    python -m evonorm_tf.search --config=small \
        --output=runs/search
    python -m evonorm_tf.search report --output=runs/search
    python -m evonorm_tf.search show 17 --output=runs/search
    python -m evonorm_tf.search export 17 --output=runs/search

A run that was stopped, or killed, goes on when it is started again. The other
commands are told in docs/search.md.
"""

import argparse
import os
import sqlite3
import sys

from evonorm_tf.search import commands, settings

_WITH_ID = ("show", "export")


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.search",
        description="Evolves normalization-activation layers.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=tuple(commands.COMMANDS),
        help="run (default); look at a run: status, show, export, report; "
        "compare: arms, rerank; prove: table, replay, planted",
    )
    parser.add_argument("id", nargs="?", type=int, help="of show and export")
    parser.add_argument("--output", help="folder of the run")
    parser.add_argument("--space", help="b: all primitives; s: none over batch")
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"{', '.join(settings.configs())}, or a YAML file of settings",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting by name, over the file's; repeat it",
    )
    parser.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="workers on a Ray cluster that runs, instead of this machine's",
    )
    parser.add_argument(
        "--debug", action="store_true", help="digits, under three minutes"
    )
    _add_others(parser)
    chosen = parser.parse_args(given)
    if (chosen.id is None) == (chosen.command in _WITH_ID):
        parser.error(f"{chosen.command}: an id for show and export, and only")
    if chosen.output is None and chosen.command != "planted":
        parser.error("--output is required")
    return chosen


def _add_others(parser: argparse.ArgumentParser) -> None:
    """Arguments of the commands that compare and prove."""
    parser.add_argument(
        "--top", type=_count, default=10, help="layers of rerank"
    )
    parser.add_argument(
        "--experiment", default="cifar10_resnet", help="of rerank"
    )
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="FLAG",
        help="a further flag of the head, for rerank; repeat it",
    )
    parser.add_argument(
        "--held_out",
        type=int,
        default=10,
        metavar="PERCENT",
        help="of the head's training images, for rerank to rank by",
    )
    parser.add_argument("--table", help="table.json of replay")
    parser.add_argument(
        "--seeds", type=_count, default=200, help="of replay and planted"
    )
    parser.add_argument("--trials", type=_count, help="of replay and planted")
    parser.add_argument("--target", default="evonorm_s2", help="of planted")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1. Received: {text}")
    return number


def main(given: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    chosen = _arguments(given)
    try:
        commands.COMMANDS[chosen.command](chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # The reader, `head` perhaps, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except sqlite3.OperationalError as error:
        print(
            f"The journal cannot be used: {error}. Everything finished is "
            "kept: see that there is room on the disk and that the folder "
            f"may be written, and start again. Received: {_received(chosen)}",
            file=sys.stderr,
        )
        return 1
    except sqlite3.DatabaseError as error:
        print(
            f"The journal is damaged, or is none: {error}. Restore it from a "
            "copy, or give another --output. Received: "
            f"{_received(chosen)}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(
            f"A file cannot be read or written: {error}. Everything in the "
            f"journal is kept. Received: {_received(chosen)}",
            file=sys.stderr,
        )
        return 1
    except (ValueError, TypeError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _received(chosen: argparse.Namespace) -> str:
    return f"output={chosen.output!r}"


if __name__ == "__main__":
    sys.exit(main())
