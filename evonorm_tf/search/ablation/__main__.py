r"""Compares the search with random search.

    python -m evonorm_tf.search.ablation arms --config=small \
        --output=runs/arms --set=cpu=600
    python -m evonorm_tf.search --config=exhaustive --output=runs/table
    python -m evonorm_tf.search.ablation table --output=runs/table
    python -m evonorm_tf.search.ablation replay --output=runs/table

Each command has a --help.
"""

import argparse
import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from evonorm_tf import files
from evonorm_tf.search import command_line, commands
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.ablation import arms, replay


def _refuse_defining(assignments: list[str]) -> None:
    """Refuses to set what defines an arm."""
    for text in assignments:
        if settings_lib.assignment(text).keys() & set(arms.DEFINING):
            raise ValueError(
                f"{', '.join(arms.DEFINING)} define the arms "
                f"{', '.join(arms.ARMS)}, which all run. Leave the setting "
                "out, or run one search with `python -m evonorm_tf.search`. "
                f"Received: set={text!r}"
            )


def run_arms(chosen: argparse.Namespace) -> None:
    """Runs every arm with equal CPU seconds and writes the report."""
    _refuse_defining(chosen.set)
    settings = command_line.settings_of(chosen)
    if not settings.cpu:
        raise ValueError(
            "Arms are compared at equal CPU seconds: pass --set=cpu=SECONDS, "
            "the CPU time of each. Received: cpu=0"
        )
    ends = {}
    for arm in arms.ARMS:
        folder = files.join(chosen.output, arms.folder(arm))
        Console().print(f"\n{arm}: {folder}", highlight=False)
        own = arms.settings_of(arm, settings)
        ends[arm] = commands.search(own, folder, chosen.ray)
        # The first arm's journal has them for all arms.
        settings = dataclasses.replace(settings, references=())
    commands.write_report(chosen)
    for arm, end in ends.items():
        if not end.startswith("cpu="):
            print(
                f"{arm} ended early, by {end}, and not by "
                f"cpu={settings.cpu:g}: the arms do not compare."
            )


def make_table(chosen: argparse.Namespace) -> None:
    """Writes the table of a finished exhaustive search."""
    path = files.join(chosen.output, replay.FILE)
    made = replay.collect(chosen.output)
    replay.write(made, path)
    passed = sum(fitness > 0 for fitness in made.fitness)
    print(f"{path}: {len(made.rows)} layers, {passed} pass")
    ended, wrong = replay.early_exits(made)
    print(
        f"the early exit would end {ended} trainings at step 40, and thereby "
        f"reject {wrong} of the layers that pass"
    )


def run_replay(chosen: argparse.Namespace) -> None:
    """Runs the arms on a table with many seeds."""
    # Imported here because only figures need Matplotlib.
    from evonorm_tf import plots
    from evonorm_tf.search import charts

    _refuse_defining(chosen.set)
    path = chosen.table or files.join(chosen.output, replay.FILE)
    changes = [settings_lib.assignment(text) for text in chosen.set]
    made = replay.read(path).replaced(*changes)
    trials = chosen.trials or len(made.rows) // 3
    curves = replay.run(made, chosen.seeds, trials)
    ended, spent = replay.by_trials(curves), replay.by_cpu(curves, 64)
    after = sorted({max(1, trials // k) for k in (8, 4, 2, 1)})
    rows = {
        "trials": replay.summary(made, ended, after),
        "cpu": replay.summary(made, spent[1], [8, 16, 32, 64]),
    }
    for row in rows["cpu"]:
        row["after"] = round(spent[0][row["after"] - 1], 1)
    result = files.join(chosen.output, "replay.json")
    about = {"seeds": chosen.seeds, "optimum": max(made.fitness)}
    about["layers"] = len(made.rows)
    about["settings"] = made.settings.identity()
    files.write(result, json.dumps({**about, **rows}, indent=1) + "\n")
    panels = {
        "trials": (range(1, trials + 1), ended),
        "CPU seconds": spent,
    }
    label = f"best accuracy so far (optimum {max(made.fitness):.3f})"
    figure = charts.bands(panels, label)
    plots.save(figure, result.replace(".json", ".png"))
    for name, label in (("trials", "trials"), ("cpu", "CPU seconds")):
        _print_table(label, rows[name])
    print(result)


def _print_table(cost: str, rows: list[dict]) -> None:
    shown = Table("arm", cost, "regret", "95 % band", "top 1 %")
    for row in rows:
        shown.add_row(
            *(row["arm"], str(row["after"]), f"{row['regret']:.4f}"),
            f"{row['low']:.4f} to {row['high']:.4f}",
            f"{row['top']:.0%}",
        )
    Console().print(shown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evonorm_tf.search.ablation",
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

    one = add("arms", run_arms, "run every arm at equal CPU seconds")
    command_line.add_settings(one)
    command_line.add_ray(one)
    add("table", make_table, "collect the table of an exhaustive search")
    one = add("replay", run_replay, "run the arms on a table, with many seeds")
    command_line.add_set(one)
    one.add_argument("--table", help="table.json (default: in --output)")
    one.add_argument(
        "--seeds", type=command_line.count, default=200, help="searches per arm"
    )
    one.add_argument(
        "--trials",
        type=command_line.count,
        help="trials per search (default: a third of the table's layers)",
    )
    return parser


def main(given: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    return command_line.main(_parser(), given)


if __name__ == "__main__":
    sys.exit(main())
