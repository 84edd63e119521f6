"""What the command line does; `__main__` reads the arguments."""

import argparse
import dataclasses
import json
import os
import statistics

from rich import console, table

from evonorm_tf import graphs
from evonorm_tf.search import (
    arms,
    aside,
    history,
    planted,
    replay,
    report,
    rerank,
    view,
)
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.worker import LocalPool


def settings_of(chosen: argparse.Namespace) -> Settings:
    """The settings that the flags give."""
    layers = []
    if chosen.config:
        layers.append(settings_lib.read(chosen.config))
    if chosen.debug:
        layers.append(settings_lib.DEBUG)
    if chosen.space:
        layers.append({"space": chosen.space})
    layers += [settings_lib.assignment(text) for text in chosen.set]
    return settings_lib.make(*layers)


def run(chosen: argparse.Namespace) -> None:
    """A search, begun or continued, and its status at the end."""
    _search(settings_of(chosen), chosen.output, chosen.ray)


def run_arms(chosen: argparse.Namespace) -> None:
    """Every arm at equal CPU seconds, one after the other, and the report."""
    settings = settings_of(chosen)
    if not settings.cpu:
        raise ValueError(
            "Arms are compared at equal CPU seconds: give --set=cpu=SECONDS "
            "of processor time for each. Received: cpu=0"
        )
    for arm in arms.ARMS:
        folder = os.path.join(chosen.output, arms.folder(arm))
        console.Console().print(f"\n{arm}: {folder}", highlight=False)
        _search(arms.settings_of(arm, settings), folder, chosen.ray)
        # The first arm's journal has them for all.
        settings = dataclasses.replace(settings, references=())
    write_report(chosen)


def _search(settings: Settings, folder: str, ray: str | None) -> None:
    # Without a cluster there is no run, and no folder either.
    pool = RayPool(settings, ray) if ray else None
    journal = Journal(folder, settings.identity())
    try:
        driver = Driver(settings, journal)
        pool = pool or LocalPool(settings)
        try:
            if settings.references:
                names = ", ".join(settings.references)
                print(f"known layers first: {names}", flush=True)
            aside.measure_references(journal, settings, pool)
            with view.Watch(journal, settings) as watch:
                driver.run(pool, watch)
            if not settings.rejection:
                aside.judge(journal, settings, pool)
        finally:
            pool.close()
        _print_status(journal, settings)
    finally:
        journal.close()


def _print_status(journal: Journal, settings: Settings) -> None:
    out = console.Console()
    out.print(view.show_funnel(journal, settings))
    out.print(view.show_best(journal, settings))


def _opened(folder: str) -> tuple[Journal, Settings]:
    journal = Journal(folder, None)
    return journal, journal.settings()


def status(chosen: argparse.Namespace) -> None:
    """The funnel and the best layers."""
    _print_status(*_opened(chosen.output))


def write_report(chosen: argparse.Namespace) -> None:
    """report.html and CSV."""
    for path in report.write(chosen.output):
        print(path)


def _trial(chosen: argparse.Namespace) -> tuple[Trial, Settings]:
    journal, settings = _opened(chosen.output)
    trial = next((t for t in journal.trials() if t.number == chosen.id), None)
    if trial is None:
        raise ValueError(f"The search has no such trial. Received: {chosen.id}")
    return trial, settings


def show(chosen: argparse.Namespace) -> None:
    """Everything about one layer."""
    print(view.show(*_trial(chosen)))


def export(chosen: argparse.Namespace) -> None:
    """A layer's file and its picture."""
    trial, settings = _trial(chosen)
    path = _export(trial, settings, chosen.output)
    graph = graphs.parse(trial.graph)
    base = path.removesuffix(".json")
    with open(base + ".dot", "w", encoding="utf-8") as file:
        file.write(graphs.dot(graph))
    print(f"{path}\nuse it as --norm_act={path}\n{base}.dot")
    try:
        graphs.png(graph, base + ".png")
        print(base + ".png")
    except RuntimeError as error:
        print(error)


def _export(trial: Trial, settings: Settings, folder: str) -> str:
    """Writes a layer's file: a norm_act wherever a layer is named."""
    name = f"searched_{settings.space}{settings.seed}_{trial.number}"
    about = {
        "search": settings.identity(),
        "trial": trial.number,
        "verdict": trial.verdict,
        "results": trial.results,
    }
    graph = graphs.parse(trial.graph)
    data = {**graph.to_json(), "name": name, "about": about}
    path = os.path.join(folder, f"{name}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    return path


def run_rerank(chosen: argparse.Namespace) -> None:
    """The top k by the classification head."""
    journal, settings = _opened(chosen.output)
    ranked = history.accepted(journal, journal.trials(), settings)
    ranked = ranked[: chosen.top]
    if not ranked:
        raise ValueError(
            "The search has accepted no layer yet. "
            f"Received: output={chosen.output!r}"
        )
    layers = [
        (r.trial.number, r.mean, _export(r.trial, settings, chosen.output))
        for r in ranked
    ]
    extra = [*chosen.head, *(["--debug"] if chosen.debug else [])]
    folder = os.path.join(chosen.output, "rerank")
    rows = rerank.run(layers, folder, chosen.experiment, extra, chosen.held_out)
    _print_table(
        ("id", "search", chosen.experiment),
        [(r.id, f"{r.search:.3f}", f"{r.accuracy:.3f}") for r in rows],
    )


def make_table(chosen: argparse.Namespace) -> None:
    """The table of an exhaustive search that has ended."""
    path = os.path.join(chosen.output, replay.FILE)
    made = replay.collect(chosen.output)
    replay.write(made, path)
    passed = sum(worth > 0 for worth in made.worth)
    print(f"{path}: {len(made.rows)} layers, {passed} pass")
    ended, wrong = replay.early_exits(made)
    print(
        f"the early exit would end {ended} trainings at their 40th step, and "
        f"with them {wrong} of the layers that pass"
    )


def run_replay(chosen: argparse.Namespace) -> None:
    """The arms on a table, over many seeds."""
    # Imported here: only figures need Matplotlib.
    from evonorm_tf import plots
    from evonorm_tf.search import charts

    path = chosen.table or os.path.join(chosen.output, replay.FILE)
    made = replay.read(path)
    layers = [settings_lib.assignment(text) for text in chosen.set]
    made.settings = settings_lib.make(made.settings.identity(), *layers)
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
    os.makedirs(chosen.output, exist_ok=True)
    result = os.path.join(chosen.output, "replay.json")
    about = {"seeds": chosen.seeds, "optimum": max(made.worth)}
    about["layers"] = len(made.rows)
    about["settings"] = made.settings.identity()
    with open(result, "w", encoding="utf-8") as file:
        json.dump({**about, **rows}, file, indent=1)
        file.write("\n")
    panels = {
        "trials": (range(1, trials + 1), ended),
        "CPU seconds": spent,
    }
    label = f"best accuracy so far (optimum {max(made.worth):.3f})"
    figure = charts.bands(panels, label)
    plots.save(figure, result.replace(".json", ".png"))
    for name, label in (("trials", "trials"), ("cpu", "CPU seconds")):
        _print_table(
            ("arm", label, "regret", "95 % band", "top 1 %"),
            [
                (
                    *(row["arm"], row["after"], f"{row['regret']:.4f}"),
                    f"{row['low']:.4f} to {row['high']:.4f}",
                    f"{row['top']:.0%}",
                )
                for row in rows[name]
            ],
        )
    print(result)


def run_planted(chosen: argparse.Namespace) -> None:
    """A planted layer, by random search and by evolution."""
    if chosen.target not in graphs.NAMED:
        raise ValueError(
            f"A target is one of {', '.join(graphs.NAMED)}. "
            f"Received: target={chosen.target!r}"
        )
    target, trials = graphs.NAMED[chosen.target], chosen.trials or 2000
    layers = [settings_lib.assignment(text) for text in chosen.set]
    settings = planted.settings_for({"space": chosen.space or "b"}, *layers)
    rows = []
    for algorithm in ("random", "evolution"):
        counts = [
            planted.search(
                target,
                dataclasses.replace(settings, seed=seed, algorithm=algorithm),
                trials,
            )
            for seed in range(chosen.seeds)
        ]
        found = [count for count in counts if count]
        median = f"{statistics.median(found):g}" if found else ""
        share = f"{len(found)} of {chosen.seeds}"
        rows.append((algorithm, share, median))
    _print_table(("algorithm", f"found in {trials:,} trials", "after"), rows)


def _print_table(heads: tuple[str, ...], rows: list[tuple]) -> None:
    shown = table.Table()
    for head in heads:
        shown.add_column(head)
    for row in rows:
        shown.add_row(*map(str, row))
    console.Console().print(shown)


COMMANDS = {
    "run": run,
    "status": status,
    "show": show,
    "export": export,
    "report": write_report,
    "arms": run_arms,
    "rerank": run_rerank,
    "table": make_table,
    "replay": run_replay,
    "planted": run_planted,
}
