"""The search's command line.

    python -m evonorm_tf.search --space=b --output=runs/search --debug
    python -m evonorm_tf.search --config=configs/search/small.yaml \
        --output=runs/search
    python -m evonorm_tf.search show 17 --output=runs/search
    python -m evonorm_tf.search export 17 --output=runs/search

A run that was stopped, or killed, goes on when it is started again.
"""

import argparse
import json
import os
import sqlite3
import sys

from rich import console

from evonorm_tf.graphs import parse
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search import view
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.worker import LocalPool


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
        choices=("run", "status", "show", "export"),
        help="run (default), or look at a run: its status, one of its layers",
    )
    parser.add_argument("id", nargs="?", type=int, help="of show and export")
    parser.add_argument("--output", required=True, help="folder of the run")
    parser.add_argument("--space", help="b: all primitives; s: none over batch")
    parser.add_argument("--config", help="YAML file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting by name, over the file's; repeat it",
    )
    parser.add_argument(
        "--debug", action="store_true", help="digits, under three minutes"
    )
    chosen = parser.parse_args(given)
    if (chosen.id is None) == (chosen.command in ("show", "export")):
        parser.error(f"{chosen.command}: an id for show and export, and only")
    return chosen


def _settings(chosen: argparse.Namespace) -> Settings:
    layers = []
    if chosen.config:
        layers.append(settings_lib.read(chosen.config))
    if chosen.debug:
        layers.append(settings_lib.DEBUG)
    if chosen.space:
        layers.append({"space": chosen.space})
    layers += [settings_lib.assignment(text) for text in chosen.set]
    return settings_lib.make(*layers)


def _run(chosen: argparse.Namespace) -> None:
    settings = _settings(chosen)
    journal = Journal(chosen.output, settings.identity())
    try:
        driver = Driver(settings, journal)
        pool = LocalPool(settings)
        try:
            with view.Watch(journal, settings) as watch:
                driver.run(pool, watch)
        finally:
            pool.close()
        _print_status(journal, settings)
    finally:
        journal.close()


def _print_status(journal: Journal, settings: Settings) -> None:
    out = console.Console()
    out.print(view.show_funnel(journal, settings))
    out.print(view.show_best(journal, settings))


def _look(chosen: argparse.Namespace) -> None:
    journal = Journal(chosen.output, None)
    identity = journal.identity()
    identity.pop("version")
    settings = settings_lib.make(identity)
    if chosen.command == "status":
        _print_status(journal, settings)
        return
    trial = next((t for t in journal.trials() if t.number == chosen.id), None)
    if trial is None:
        raise ValueError(f"The search has no such trial. Received: {chosen.id}")
    if chosen.command == "show":
        print(view.show(trial, settings))
    else:
        path = _export(trial, settings, chosen.output)
        print(f"{path}\nuse it as --norm_act={path}")


def _export(trial: Trial, settings: Settings, folder: str) -> str:
    """Writes a layer's file: a norm_act wherever a layer is named."""
    name = f"searched_{settings.space}{settings.seed}_{trial.number}"
    about = {
        "search": settings.identity(),
        "trial": trial.number,
        "verdict": trial.verdict,
        "results": trial.results,
    }
    data = {**parse(trial.graph).to_json(), "name": name, "about": about}
    path = os.path.join(folder, f"{name}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    return path


def main(given: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    chosen = _arguments(given)
    try:
        if chosen.command == "run":
            _run(chosen)
        else:
            _look(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # The reader, `head` perhaps, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except sqlite3.OperationalError as error:
        print(
            f"The journal cannot be written: {error}. Everything finished "
            "is kept; make room and start again. Received: "
            f"output={chosen.output!r}",
            file=sys.stderr,
        )
        return 1
    except (ValueError, TypeError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
