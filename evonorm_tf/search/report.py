"""The report of a search: a self-contained HTML page, and CSV files.

    python -m evonorm_tf.search report --output=runs/search
    python -m evonorm_tf.search report --output=runs/arms

A folder whose subfolders are searches, as written by `arms`, is reported on one
page with the arms in common figures. They may differ only in algorithm,
criterion, rejection, seed and space.
"""

import csv
import dataclasses
import html
from typing import Any

from evonorm_tf import files, graphs
from evonorm_tf.search import charts, history, references, stages
from evonorm_tf.search.history import Point, Ranked
from evonorm_tf.search.journal import FILE, Journal, Trial
from evonorm_tf.search.references import Reference
from evonorm_tf.search.settings import Settings

_ARM = ("algorithm", "criterion", "rejection", "seed", "space")
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;"
    "padding:0 1em;color:#333}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}"
    "img{max-width:100%}code{font-size:90%}"
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A search from its journal; its trials have the verdict of `judged`."""

    name: str
    settings: Settings
    trials: list[Trial]
    ranked: list[Ranked]
    points: list[Point]
    funnel: list[tuple[str, int, int]]
    references: list[Reference]
    ended: str

    @property
    def accepted(self) -> int:
        """Returns how many were accepted, including those that failed later."""
        both = "accepted", references.FAILED
        return sum(trial.verdict in both for trial in self.trials)


def read(folder: str, name: str) -> Run:
    """Reads the run in a folder."""
    journal = Journal(folder, None)
    try:
        settings, trials = journal.settings(), journal.trials()
        known = journal.uncharged()
        return Run(
            name,
            settings,
            [references.judged(trial, settings, known) for trial in trials],
            history.accepted(journal, trials, settings),
            history.progress(journal, trials, settings),
            history.funnel(journal, trials, settings),
            references.read(journal, settings),
            journal.ended().reason,
        )
    finally:
        journal.close()


def find(folder: str) -> list[Run]:
    """Reads the run in a folder, or those in its subfolders.

    Raises:
      ValueError: if there is none, or accuracies of several do not compare.
    """
    if files.is_file(files.join(folder, FILE)):
        return [read(folder, files.name(files.absolute(folder)))]
    runs = [
        read(files.join(folder, name), name)
        for name in files.names(folder)
        if files.is_file(files.join(folder, name, FILE))
    ]
    if not runs:
        raise ValueError(
            f"There is no search in that folder. Received: output={folder!r}"
        )
    for run in runs[1:]:
        _require_comparable(runs[0], run)
    return sorted(runs, key=lambda run: _sophistication(run.settings))


def _require_comparable(one: Run, other: Run) -> None:
    first, second = one.settings.identity(), other.settings.identity()
    differ = [
        f"{name}={first.get(name)!r} and {second.get(name)!r}"
        for name in sorted(first.keys() | second.keys())
        if name not in _ARM and first.get(name) != second.get(name)
    ]
    if differ:
        raise ValueError(
            "Searches on one page may differ only in "
            f"{', '.join(_ARM)}: report each folder by itself. "
            f"Received: {one.name} and {other.name} with {', '.join(differ)}"
        )


def _sophistication(settings: Settings) -> tuple[bool, bool, str]:
    """Sorts random search first, and without rejection before with it."""
    evolves = settings.algorithm == "evolution"
    return evolves, settings.rejection, settings.criterion


def write(folder: str) -> list[str]:
    """Writes report.html and one CSV per run; returns their paths."""
    runs = find(folder)
    paths = [files.write(files.join(folder, "report.html"), _page(runs))]
    for run in runs:
        paths.append(files.join(folder, f"{run.name}.csv"))
        _write_csv(run, paths[-1])
    return paths


def _page(runs: list[Run]) -> str:
    points = {run.name: run.points for run in runs}
    known: dict[str, Reference] = {}
    for run in runs:
        for one in run.references:
            if known.get(one.name, one) != one:  # By another seed.
                one = one._replace(name=f"{one.name}, {run.name}")
            known[one.name] = one
    parts = [
        f"<h1>Search: {html.escape(', '.join(points))}</h1>",
        "<p>Accuracies are of small networks on held-out training images: a "
        "proxy, not a benchmark. Candidates are compared with one seed "
        f"({_confirmed(runs[0].settings)}), and on "
        f"{runs[0].settings.validation:,} images, so two equally good layers "
        "often differ by a point.</p>",
        "<h2>Best so far</h2>",
        _image(charts.best(points, {r.name: r.mean for r in known.values()})),
        _summary(runs),
        *_references(list(known.values()), runs[0]),
        "<h2>Diversity</h2><p>Number of different random graphs from which "
        "the population descends, relative to its size.</p>",
        _image(charts.lineages(points)),
    ]
    for run in runs:
        parts += _section(run, known)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Layer search</title><style>{_STYLE}</style>"
        + "\n".join(parts)
        + "</html>\n"
    )


def _confirmed(settings: Settings) -> str:
    if not settings.confirmations:
        return "the best as well"
    seeds = settings.confirmations + 1
    return f"what is called the best with {seeds}, and its mean counts"


def _summary(runs: list[Run]) -> str:
    """Returns a table with one row per run."""
    rows = []
    for run in runs:
        row = [run.name, f"{len(run.trials):,}", f"{len(run.points):,}"]
        row.append(f"{run.accepted:,}")
        row.append(f"{run.points[-1].cpu:,.0f}" if run.points else "0")
        row.append(run.ended)
        if run.ranked:
            best = run.ranked[0]
            row += [f"{best.mean:.3f}", best.trial.number]
            row.append(graphs.formula(graphs.parse(best.trial.graph)))
        rows.append(row)
    heads = ["run", "trials", "ended", "accepted", "CPU s", "ended by"]
    heads += ["best", "id", "layer"]
    note = (
        "<p>Without rejection, every layer that was the best at some time was "
        "tested for quality and stability afterwards, uncharged; layers that "
        "failed do not count as the best.</p>"
        if not all(run.settings.rejection for run in runs)
        else ""
    )
    if len({run.ended for run in runs}) > 1:
        note += (
            "<p>Not all ended by the same limit: compare them at equal CPU "
            "seconds.</p>"
        )
    return _table(heads, rows) + note


def _references(known: list[Reference], run: Run) -> list[str]:
    """Returns a table of known layers on the same proxy task."""
    if not known:
        return []
    rows = [
        [
            *(r.name, f"{r.mean:.3f}"),
            " ".join(f"{value:.3f}" for value in r.seeds),
            *(f"{value:.3f}" for value in r.scores.values()),
            *(f"{r.norm:.3g}", r.reason or "passes"),
        ]
        for r in sorted(known, key=lambda r: -r.mean)
    ]
    heads = ["layer", "mean", "by seed", *run.settings.anchors]
    heads += ["norm", "rejection"]
    return ["<h2>Known layers, same proxy task</h2>", _table(heads, rows)]


def _section(run: Run, known: dict[str, Reference]) -> list[str]:
    about = ", ".join(f"{k}={v}" for k, v in run.settings.identity().items())
    cpu = run.points[-1].cpu if run.points else 0.0
    parts = [
        f"<h2>{html.escape(run.name)}</h2>",
        f"<p>{len(run.trials):,} trials, {len(run.points):,} ended, "
        f"{run.accepted:,} accepted, {cpu:,.0f} CPU seconds. "
        f"<code>{html.escape(about)}</code></p>",
        "<h3>Funnel</h3>",
        _image(charts.funnel(run.funnel)),
    ]
    if not run.ranked:
        return [*parts, "<p>No layer was accepted.</p>"]
    members = history.front(run.ranked)
    scores = {name: reference.scores for name, reference in known.items()}
    fronts = charts.fronts(run.ranked, members, scores)
    if fronts is not None:
        parts += ["<h3>Fronts</h3>", _image(fronts)]
    parts += ["<h3>Best layers</h3>", _best(run, members)]
    winner = run.ranked[0].trial
    parts += [
        f"<h3>The best, trial {winner.number}</h3>",
        _image(charts.picture(graphs.parse(winner.graph))),
        "<p>Its genealogy, starting with a random graph:</p>",
        _genealogy(run, winner),
    ]
    return parts


def _image(figure: Any) -> str:
    return f'<img alt="" src="{charts.inline(figure)}">'


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    def line(cells: list[Any], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table>{line(heads, 'th')}{body}</table>"


def _best(run: Run, members: set[int]) -> str:
    rows = [
        [
            f"{row.trial.number}{'*' if row.trial.number in members else ''}",
            f"{row.mean:.3f}",
            *(f"{value:.3f}" for value in row.scores.values()),
            graphs.formula(graphs.parse(row.trial.graph)),
        ]
        for row in run.ranked[:20]
    ]
    heads = ["id", "mean", *run.settings.anchors, "layer"]
    return _table(heads, rows) + "<p>* on the front of all anchors.</p>"


def _genealogy(run: Run, winner: Trial) -> str:
    means = {row.trial.number: f"{row.mean:.3f}" for row in run.ranked}
    rows = []
    for trial in history.genealogy(run.trials, winner.number):
        graph = graphs.parse(trial.graph)
        mean = means.get(trial.number, "")
        rows.append([trial.number, mean, graphs.formula(graph), graph.text()])
    return _table(["id", "mean", "layer", "graph"], rows)


def _write_csv(run: Run, path: str) -> None:
    """Writes one line per trial, in the order of their ends."""
    names = stages.names(run.settings)
    columns = [(n, k) for n in names for k in _measures(n)]
    with (
        files.writing(path) as place,
        open(place, "w", newline="", encoding="utf-8") as file,
    ):
        out = csv.writer(file)
        out.writerow(
            [
                "id",
                "parent",
                "verdict",
                "reason",
                *(f"{n} {k}" for n, k in columns),
                "formula",
                "graph",
            ]
        )
        for trial in run.trials:
            graph = graphs.parse(trial.graph)
            parent = "" if trial.parent is None else trial.parent
            verdict = trial.verdict or "under way"
            found = [trial.results.get(n, {}).get(k, "") for n, k in columns]
            out.writerow(
                [
                    *(trial.number, parent, verdict, trial.reason),
                    *(*found, graphs.formula(graph), graph.text()),
                ]
            )


def _measures(stage: str) -> tuple[str, ...]:
    return ("norm",) if stage == "stability" else ("accuracy", "loss")
