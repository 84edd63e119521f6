"""What a search shows of itself: its funnel and its best layers."""

import collections
import time

from rich import console, live, table, text

from evonorm_tf import graphs
from evonorm_tf.search import evolution, filters, stages
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.settings import Settings

_FILTERS = (*filters.Filters.__dataclass_fields__, "duplicate", "same function")


def accepted(trials: list[Trial], settings: Settings) -> list[tuple]:
    """(mean accuracy, accuracies by anchor, trial), the best first."""
    rows = []
    for trial in trials:
        if trial.verdict == "accepted":
            found = stages.scores(trial.results, settings)
            rows.append((sum(found.values()) / len(found), found, trial))
    return sorted(rows, key=lambda row: (-row[0], row[2].number))


def funnel(
    journal: Journal, trials: list[Trial], settings: Settings
) -> list[tuple[str, int, int]]:
    """(stage, how many it rejected, how many were left), in order."""
    drawn = collections.Counter()
    for trial in trials:
        drawn.update(trial.rejected)
    left = sum(drawn.values()) + len(trials)
    rows = [("drawn", 0, left)]
    for name in _FILTERS:
        left -= drawn[name]
        rows.append((name, drawn[name], left))
    failed, passed = collections.Counter(), collections.Counter()
    for name, reason, _, _ in journal.failures():
        (failed if reason else passed)[name] += 1
    for name in stages.names(settings):
        rows.append((name, failed[name], passed[name]))
    return rows


def show_funnel(journal: Journal, settings: Settings) -> table.Table:
    """The funnel as a table; what is under way is in no row."""
    shown = table.Table(title="Funnel", title_justify="left")
    for name in ("stage", "rejected", "left"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    trials = journal.trials()
    for name, rejected, left in funnel(journal, trials, settings):
        shown.add_row(name, f"{rejected:,}" if rejected else "", f"{left:,}")
    return shown


def show_best(
    journal: Journal, settings: Settings, count: int = 10
) -> table.Table:
    """The best accepted layers; * marks the Pareto front of all of them."""
    shown = table.Table(
        title=f"Best layers, {settings.dataset}: a proxy of small networks, "
        "not a benchmark",
        title_justify="left",
    )
    for name in ("id", "mean", *settings.anchors):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("layer, before * gamma + beta", overflow="fold")
    rows = accepted(journal.trials(), settings)
    front = _front(rows)
    for mean, found, trial in rows[:count]:
        mark = "*" if trial.number in front else ""
        values = [f"{value:.3f}" for value in found.values()]
        formula = graphs.formula(graphs.parse(trial.graph))
        shown.add_row(f"{trial.number}{mark}", f"{mean:.3f}", *values, formula)
    return shown


def _front(rows: list[tuple]) -> set[int]:
    """The trials on the Pareto front of what `accepted` gave."""
    members = [
        evolution.Member(trial.number, None, tuple(found.values()))
        for _, found, trial in rows
    ]
    return {member.trial for member in evolution.front(members)}


class Watch:
    """A line that follows the run: in place on a terminal, else now and then.

    Use as a context manager; call after every change.
    """

    _EVERY = 20.0

    def __init__(self, journal: Journal, settings: Settings):
        self._journal, self._settings = journal, settings
        self._console = console.Console()
        self._live = live.Live(console=self._console, auto_refresh=False)
        self._start = self._last = time.monotonic()
        self._before = len(journal.trials())

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self) -> None:
        now = time.monotonic()
        terminal = self._console.is_terminal
        if now - self._last < (2.0 if terminal else self._EVERY):
            return
        self._last = now
        line = self._line(now - self._start)
        if terminal:
            self._live.update(text.Text(line), refresh=True)
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, seconds: float) -> str:
        trials = self._journal.trials()
        ended = [trial for trial in trials if trial.verdict]
        best = accepted(trials, self._settings)
        rate = 3600 * (len(trials) - self._before) / max(seconds, 1.0)
        line = (
            f"{seconds:4.0f} s | trials {len(trials)} ({rate:.0f}/h) | ended "
            f"{len(ended)} | accepted {len(best)}"
        )
        if best:
            mean, _, trial = best[0]
            on_front = len(_front(best))
            line += f" | best {mean:.3f} (id {trial.number})"
            line += f" | front of {on_front}"
        return line


def show(trial: Trial, settings: Settings) -> str:
    """Everything about one trial, as text."""
    graph = graphs.parse(trial.graph)
    lines = [
        f"id        {trial.number}",
        f"verdict   {trial.verdict or 'under way'}  {trial.reason}".rstrip(),
        f"formula   {graphs.formula(graph)}",
        f"LaTeX     {graphs.latex(graph)}",
        f"graph     {graph.text()}",
        f"canonical {graphs.canonical(graph).text()}",
        f"key       {graphs.key(graph)}",
        f"parent    {'none' if trial.parent is None else trial.parent}",
    ]
    for name in stages.names(settings):
        if name in trial.results:
            found = trial.results[name]
            values = ", ".join(f"{k} {v:.4g}" for k, v in found.items())
            lines.append(f"{name:20} {values or 'no result'}")
    return "\n".join(lines)
