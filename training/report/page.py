"""Formats rows for the screen and tables with results as Markdown."""

from collections.abc import Iterable

from evonorm_tf import files
from training.report import claims, measured
from training.report.results import Results, Run
from training.report.tables import ROOT, Column, Metric, Row, Table, Value

_PAGE = ROOT / "configs/results.md.in"
_CURVES = "images/cifar10_curves.png"
_RUNS = ROOT / "docs/runs"
_E12 = _RUNS / "cifar10/resnet20-e12-b128"


def listing(rows: Iterable[Row], results: Results | None) -> str:
    """Lists a row: id, steps, the paper's numbers, ours, command."""
    return "\n".join(_lines(row, results) for row in rows)


def _lines(row: Row, results: Results | None) -> str:
    recipe, parts = row.recipe, []
    if recipe.steps():
        parts.append(f"{recipe.steps():,} steps")
    if recipe.workers > 1:
        parts.append(f"{recipe.workers} workers")
    for metric, values in row.paper.items():
        said = ", ".join(
            f"{value.printed} ({value.source}, grade {value.grade})"
            for value in values
        )
        parts.append(f"{metric.name}: paper {said or 'none'}")
        if results is not None:
            runs = results.by_row.get(row.id, [])
            parts.append(f"ours {ours(runs, metric)}")
            parts += dict.fromkeys(f"[{run.conditions()}]" for run in runs)
    return f"{row.id}\n    {'; '.join(parts)}\n    {row.command()}"


def ours(runs: list[Run], metric: Metric) -> str:
    """Formats the mean over seeds, and their spread."""
    reached = [
        run.reached[metric.key] * metric.scale
        for run in runs
        if metric.key in run.reached
    ]
    return claims.spread(reached, metric.decimals) if reached else "not run"


def markdown(tables: Iterable[Table], results: Results, folder: str) -> str:
    """Returns the whole page: claims, benchmarks, every table.

    Args:
      tables: in this order.
      results: the runs, sorted.
      folder: the folder of the report, to which figures are relative.
        Benchmarks are those of docs/runs, wherever it is.
    """
    tables, gpu = list(tables), measured.gpu_documents(_RUNS)
    known = claims.accuracies(results, gpu)
    convergence = measured.read(_RUNS, "convergence.json")
    finetune = measured.read(_RUNS, "finetune-lite0.json")
    sections = [_section(table, results, folder) for table in tables]
    sections += _outside(tables, results) + _others(results)
    parts = {
        "claims": claims.table(known, set(results.running)),
        "curves": _figure("CIFAR-10 by epochs", _CURVES, folder),
        "gaps": measured.gaps(_E12, ("bn_relu", "evonorm_b0"), (1170, 4680)),
        "convergence": measured.convergence(convergence),
        "finetune": measured.finetune(finetune),
        "gpu": measured.gpu(gpu),
        "tables": "\n".join(sections),
    }
    page = _PAGE.read_text("utf-8")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return page


def _figure(title: str, path: str, folder: str) -> str:
    """Returns a figure if it exists."""
    exists = files.exists(files.join(folder, path))
    return f"![{title}]({path})" if exists else ""


def _section(table: Table, results: Results, folder: str) -> str:
    headings = ["layer", *(column.heading for column in table.columns)]
    lines = [f"### {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    cells = [
        [layer]
        + [
            _cell(column, layer, value, results)
            for column, value in zip(table.columns, values, strict=True)
        ]
        for layer, values in table.values.items()
    ]
    lines.append(claims.markdown(headings, cells))
    lines += _conditions(table, results)
    picture = table.figure and _figure(table.title, table.figure, folder)
    if picture:
        lines += ["", picture]
    recipes = dict.fromkeys(column.recipe.id for column in table.columns)
    lines += ["", f"Rows: {', '.join(f'`{x}/LAYER`' for x in recipes)}."]
    return "\n".join([*lines, ""])


def _cell(
    column: Column, layer: str, value: Value | None, results: Results
) -> str:
    if value is not None and not column.metric.key:
        return value.printed  # Not measured by runs.
    row_id = f"{column.recipe.id}/{layer}"
    runs = results.by_row.get(row_id, [])
    mine = ours(runs, column.metric)
    if not runs and row_id in results.running:
        mine = "running"
    return mine if value is None else f"{value.printed} / {mine}"


def _conditions(table: Table, results: Results) -> list[str]:
    """Describes, under a table, the runs in each of its columns."""
    columns: dict[str, list[str]] = {}
    for column in table.columns:
        runs = [
            run
            for layer in table.values
            for run in results.by_row.get(f"{column.recipe.id}/{layer}", [])
        ]
        for how in dict.fromkeys(run.conditions() for run in runs):
            columns.setdefault(how, []).append(column.heading)
    lines = [
        f"- ours, {', '.join(headings)}: {how}"
        for how, headings in columns.items()
    ]
    return ["", *lines] if lines else []


def _outside(tables: list[Table], results: Results) -> list[str]:
    """Lists runs of the tables' recipes with layers outside all tables."""
    lines, inside = [], set()
    metrics: dict[str, dict[Metric, None]] = {}
    for table in tables:
        for layer, column, _ in table.cells():
            inside.add(f"{column.recipe.id}/{layer}")
            metrics.setdefault(column.recipe.id, {})[column.metric] = None
    for row_id, runs in results.by_row.items():
        if row_id in inside:
            continue
        how = "; ".join(dict.fromkeys(run.conditions() for run in runs))
        for metric in metrics[row_id.rpartition("/")[0]]:
            cells = [f"`{row_id}`", metric.name, ours(runs, metric), how]
            lines.append(cells)
    if not lines:
        return []
    content = claims.markdown(["row", "metric", "ours", "how"], lines)
    title = "### Rows of a table's recipe with another layer"
    return ["\n".join([title, "", content, ""])]


def _others(results: Results) -> list[str]:
    """Lists runs that belong to no row, and why."""
    parts = []
    if results.trials:
        title = "### Trials: runs at other settings than any row's"
        lines = []
        for run, row_id, different in results.trials:
            how = "; ".join(
                f"{key} {other} for {value}"
                for key, (value, other) in different.items()
            )
            lines.append([run.folder, row_id, _reached(run), how])
        heads = ["run", "nearest row", "reached", "differs in"]
        parts.append(f"{title}\n\n{claims.markdown(heads, lines)}\n")
    for title, runs in (
        ("Unfinished runs", results.unfinished),
        ("Runs with a network or dataset of no row", results.unknown),
    ):
        if runs:
            lines = [f"### {title}", ""]
            for run in runs:
                reached = _reached(run) if run.finished else "unfinished"
                lines.append(f"- {run.folder}, at step {run.step}: {reached}")
            parts.append("\n".join([*lines, ""]))
    return parts


def _reached(run: Run) -> str:
    return ", ".join(
        f"{name} {value:.4g}"
        for name, value in run.reached.items()
        if name not in ("kind", "step", "steps_per_second")
        and not name.endswith(("_at_start", "_over_start"))
    )
