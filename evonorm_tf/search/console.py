"""Console output of a search: its funnel and its best layers."""

import time

from rich import live, table, text
from rich.console import Console, Group

from evonorm_tf import graphs
from evonorm_tf.search import history, stages
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.settings import Settings


def show_funnel(journal: Journal, settings: Settings) -> table.Table:
    """Prints the funnel as a table, without unfinished trials."""
    shown = table.Table(title="Funnel", title_justify="left")
    for name in ("stage", "rejected", "left"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    trials = journal.trials()
    for name, rejected, left in history.funnel(journal, trials, settings):
        shown.add_row(name, f"{rejected:,}" if rejected else "", f"{left:,}")
    return shown


def show_best(
    journal: Journal, settings: Settings, count: int = 10
) -> table.Table:
    """Prints the best accepted layers; * marks the Pareto front of all."""
    shown = table.Table(
        title=f"Best layers, {settings.dataset}: a proxy of small networks, "
        "not a benchmark",
        title_justify="left",
    )
    for name in ("id", "mean", *settings.anchors):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("layer, before * gamma + beta", overflow="fold")
    rows = history.accepted(journal, journal.trials(), settings)
    front = history.front(rows)
    for mean, found, trial in rows[:count]:
        mark = "*" if trial.number in front else ""
        values = [f"{value:.3f}" for value in found.values()]
        formula = graphs.formula(graphs.parse(trial.graph))
        shown.add_row(f"{trial.number}{mark}", f"{mean:.3f}", *values, formula)
    return shown


class Watch:
    """Shows progress: in place on a terminal, otherwise occasional lines.

    Use it as a context manager, and call it after every change.
    """

    def __init__(self, journal: Journal, settings: Settings):
        self._journal, self._settings = journal, settings
        self._console = Console()
        self._live = live.Live(console=self._console, auto_refresh=False)
        self._start = time.monotonic()
        self._next = self._start + self._pause
        self._before = len(journal.trials())

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @property
    def _pause(self) -> float:
        return 2.0 if self._console.is_terminal else 20.0

    def __call__(self) -> None:
        """Updates the display."""
        now = time.monotonic()
        if now < self._next:
            return
        self._show(self._line(now - self._start))
        # This reads all trials, which may be a hundred thousand; the workers
        # must not wait for it.
        took = time.monotonic() - now
        self._next = now + max(self._pause, 20.0 * took)

    def _show(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, soft_wrap=True)
            return
        shown = Group(
            text.Text(line),
            show_funnel(self._journal, self._settings),
            show_best(self._journal, self._settings, 5),
        )
        self._live.update(shown, refresh=True)

    def _line(self, seconds: float) -> str:
        trials = self._journal.trials()
        best = history.accepted(self._journal, trials, self._settings)
        points = history.progress(self._journal, trials, self._settings)
        rate = 3600 / max(seconds, 1.0)
        line = (
            f"{seconds:4.0f} s | trials {len(trials)} "
            f"({rate * (len(trials) - self._before):.0f}/h) | ended "
            f"{len(points)} | accepted {len(best)}"
        )
        if best:
            mean, _, trial = best[0]
            on_front = len(history.front(best))
            line += f" | best {mean:.3f} (id {trial.number})"
            line += f" | front of {on_front}"
            line += f" | lineages {points[-1].lineages:.0%}"
        return line


def show(trial: Trial, settings: Settings) -> str:
    """Returns everything about one trial, as text."""
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
