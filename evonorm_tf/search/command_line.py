"""Flags and error handling of the search's and the ablation's commands."""

import argparse
import sqlite3
import sys
import traceback

from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.settings import Settings


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `settings_of` reads."""
    parser.add_argument(
        "--space",
        help="b: all primitives; s: none with statistics over the batch",
    )
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"{', '.join(settings_lib.configs())}, or a YAML file of settings",
    )
    add_set(parser)
    parser.add_argument(
        "--debug", action="store_true", help="use digits, under three minutes"
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds --set."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting by name, overriding the config; may be repeated",
    )


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Adds --ray."""
    parser.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="run the stages on a running Ray cluster instead of this machine",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds --output and --verbose, which `main` reads."""
    parser.add_argument("--output", required=True, help="folder of the run")
    parser.add_argument(
        "--verbose", action="store_true", help="show where an error was raised"
    )


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Returns the settings from the flags."""
    layers = []
    if chosen.config:
        layers.append(settings_lib.read(chosen.config))
    if chosen.debug:
        layers.append(settings_lib.DEBUG)
    if chosen.space:
        layers.append({"space": chosen.space})
    layers += [settings_lib.assignment(text) for text in chosen.set]
    return settings_lib.make(*layers)


def count(text: str) -> int:
    """Parses a positive integer, as the `type` of a flag."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def main(parser: argparse.ArgumentParser, given: list[str] | None) -> int:
    """Parses the flags and calls their `run`; returns the exit status.

    What a user can cause is one line, for which --verbose shows where it was
    raised; any other error is one of the code, and shown with its traceback.
    """
    chosen = parser.parse_args(given)
    received = f"Received: output={chosen.output!r}"

    def fail(message: str, status: int) -> int:
        if chosen.verbose:
            traceback.print_exc()
        print(message, file=sys.stderr)
        return status

    try:
        chosen.run(chosen)
    except BrokenPipeError:
        raise  # It is no file's; see `evonorm_tf.commands`.
    except KeyboardInterrupt:
        print("\nStopped; the same command resumes it.", file=sys.stderr)
        return 130
    except sqlite3.OperationalError as error:
        return fail(
            f"The journal cannot be used: {error}. All finished stages are "
            "saved. How to fix it: free disk space, make the folder "
            "writable, end other programs that have the file open, and start "
            f"again. {received}",
            1,
        )
    except sqlite3.DatabaseError as error:
        return fail(
            f"The journal is damaged, or not a journal: {error}. How to fix "
            "it: restore it from a copy, or give another --output. "
            f"{received}",
            1,
        )
    except OSError as error:
        return fail(
            f"A file cannot be read or written: {error}. Everything in the "
            f"journal is saved. {received}",
            1,
        )
    except (ValueError, RuntimeError) as error:
        return fail(str(error), 2)
    return 0
