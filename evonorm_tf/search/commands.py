"""The commands of the search; `__main__` reads their flags."""

import argparse
import json

from rich.console import Console

from evonorm_tf import files, graphs
from evonorm_tf.search import command_line, console, references, report
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.worker import LocalPool


def run(chosen: argparse.Namespace) -> None:
    """Starts or resumes a search and prints its status at the end."""
    search(command_line.settings_of(chosen), chosen.output, chosen.ray)


def search(settings: Settings, folder: str, ray: str | None) -> str:
    """Runs or resumes a search; returns by what it ended, see `journal.End`.

    Args:
      settings: of the search.
      folder: of its journal.
      ray: address of a Ray cluster; None for this machine.
    """
    # Without a cluster nothing is run, and no folder is created.
    pool = None if ray is None else RayPool(settings, ray)
    journal = Journal(folder, settings.identity())
    try:
        driver = Driver(settings, journal)
        pool = pool or LocalPool(settings)
        try:
            if settings.references:
                names = ", ".join(settings.references)
                print(f"known layers first: {names}", flush=True)
            references.measure(journal, settings, pool)
            with console.Watch(journal, settings) as watch:
                driver.run(pool, watch)
            if not settings.rejection:
                references.judge(journal, settings, pool)
        finally:
            pool.close()
        _print_status(journal, settings)
        if driver.exhausted:
            print(driver.exhausted)
        return journal.ended().reason
    finally:
        journal.close()


def _print_status(journal: Journal, settings: Settings) -> None:
    out = Console()
    out.print(console.show_funnel(journal, settings))
    out.print(console.show_best(journal, settings))
    spent = sum(stage.cpu for stage in journal.stages())
    line = f"{spent:,.0f} CPU seconds of finished stages"
    reason = journal.ended().reason
    line += f"; ended by {reason}" if reason else ""
    out.print(line, highlight=False)
    for stage in references.lost(journal):
        print(f"{stage}; the same command measures it again")


def opened(folder: str) -> tuple[Journal, Settings]:
    """Opens the journal in a folder for reading; returns it with settings."""
    journal = Journal(folder, None)
    return journal, journal.settings()


def status(chosen: argparse.Namespace) -> None:
    """Prints the funnel and the best layers."""
    _print_status(*opened(chosen.output))


def write_report(chosen: argparse.Namespace) -> None:
    """Writes report.html and CSV files."""
    for path in report.write(chosen.output):
        print(path)


def _trial(chosen: argparse.Namespace) -> tuple[Trial, Settings]:
    journal, settings = opened(chosen.output)
    trial = next((t for t in journal.trials() if t.number == chosen.id), None)
    if trial is None:
        raise ValueError(f"The search has no such trial. Received: {chosen.id}")
    return references.judged(trial, settings, journal.uncharged()), settings


def show(chosen: argparse.Namespace) -> None:
    """Prints everything about one layer."""
    print(console.show(*_trial(chosen)))


def export(chosen: argparse.Namespace) -> None:
    """Writes a layer's file and its picture."""
    trial, settings = _trial(chosen)
    path = export_layer(trial, settings, chosen.output)
    graph = graphs.parse(trial.graph)
    base = path.removesuffix(".json")
    files.write(base + ".dot", graphs.dot(graph))
    print(f"{path}\nuse it as --norm_act={path}\n{base}.dot")
    try:
        graphs.png(graph, base + ".png")
        print(base + ".png")
    except RuntimeError as error:
        print(error)


def export_layer(trial: Trial, settings: Settings, folder: str) -> str:
    """Writes a layer's file, which can be used wherever a layer is named.

    Returns:
      Its path.
    """
    name = f"searched_{settings.space}{settings.seed}_{trial.number}"
    about = {
        "search": settings.identity(),
        "trial": trial.number,
        "verdict": trial.verdict,
        "reason": trial.reason,
        "results": trial.results,
    }
    graph = graphs.parse(trial.graph)
    data = {**graph.to_json(), "name": name, "about": about}
    text = json.dumps(data, indent=1) + "\n"
    return files.write(files.join(folder, f"{name}.json"), text)
