"""Figures of recorded runs: curves, and the paper's batch-size figure.

    python -m classification.plot runs/cifar10 --output=curves.png
    python -m classification.plot runs/cifar10 --output=batch_size.png \
        --kind=batch_size

Each argument is the folder of a run or of several runs, at any depth. Runs may
differ in layer, batch and seed; other differences are an error. The seeds of a
configuration make one line: their mean, with their range as a band or bar.
"""

import statistics

from absl import app, flags
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from classification import curves, logs
from classification.logs import Log
from evonorm_tf import plots

KINDS = ("curves", "batch_size")
# Accuracies in % of the seeds, by layer, then by images per worker.
Cells = dict[str, dict[int, tuple[float, ...]]]


def draw(runs: list[Log], kind: str) -> Figure:
    """Draws the figure of some runs.

    Args:
      runs: from `logs.find`.
      kind: one of `KINDS`.

    Raises:
      ValueError: if the kind is unknown or no run can be shown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}. Received: {kind=}")
    return curves.figure(runs) if kind == "curves" else _batch_sizes(runs)


def batch_size_figure(
    cells: Cells, title: str, note: str, split: str = "test"
) -> Figure:
    """Plots accuracy against images per worker, one labeled line per layer.

    Args:
      cells: accuracies in %.
      title: title of the figure.
      note: describes the data, with the number of seeds.
      split: the images on which the accuracy was measured.
    """
    new = plots.figure(8.4, 4.6, title, note)
    axes = new.subplots()
    plots.plain(axes)
    layers = plots.in_order(set(cells))
    ends = []
    for index, layer in enumerate(layers):
        style = plots.style(layer)
        row = dict(sorted(cells[layer].items(), reverse=True))
        # Slightly offset, so that the bars of equal values stay visible.
        shift = 2 ** (-0.045 * (index - (len(layers) - 1) / 2))
        x = [batch * shift for batch in row]
        y = [statistics.fmean(values) for values in row.values()]
        axes.plot(x, y, color=style.colour, lw=1.8, zorder=3)
        plots.marks(axes, x, y, layer)
        for k, values in zip(x, row.values()):
            axes.vlines(k, min(values), max(values), style.colour, lw=1.4)
        ends.append((x[-1], y[-1], f"{layer}  {y[-1]:.1f}", style.colour))
    batches = sorted({b for row in cells.values() for b in row}, reverse=True)
    axes.set_xscale("log", base=2)
    axes.set_xlim(batches[0] * 2**0.4, batches[-1] / 2**0.25)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel("images per worker")
    axes.set_ylabel(f"{split} accuracy, %")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    plots.name_lines(axes, ends)
    return new


def _batch_sizes(runs: list[Log]) -> Figure:
    done = [run for run in runs if run.accuracy is not None]
    if not done:
        raise ValueError(
            "No run has reached the evaluation after its last step, which "
            "this figure shows; use --kind=curves, or finish the runs. "
            f"Received: {', '.join(run.progress for run in runs)}"
        )
    cells: Cells = {}
    for (layer, batch), group in logs.by(done, "layer", "per_worker").items():
        values = tuple(run.accuracy for run in group)
        cells.setdefault(layer, {})[batch] = values
    note = f"{logs.about(done)}; {logs.mean_of(done)}"
    left_out = [run for run in runs if run.accuracy is None]
    if left_out:
        note += f"; {len(left_out)} without a final evaluation omitted"
    split = done[0].settings["task.validation_data.split"]
    return batch_size_figure(cells, "Accuracy against batch size", note, split)


def main(argv: list[str]) -> None:
    """Reads the runs, draws, and lists unfinished runs."""
    output = flags.FLAGS.output
    if not output.lower().endswith((".png", ".svg", ".pdf")):
        raise app.UsageError(
            "--output must end in .png, .svg or .pdf. "
            f"Received: output={output!r}"
        )
    try:
        runs = logs.find(argv[1:])
        new = draw(runs, flags.FLAGS.kind)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    plots.save(new, output)
    for run in runs:
        if not run.finished:
            print(f"not finished: {run.progress}")
    print(f"{len(runs)} runs. Figure: {output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "Output file: .png, .svg or .pdf.")
    flags.DEFINE_enum("kind", "curves", KINDS, "What to draw.")
    flags.mark_flag_as_required("output")
    app.run(main)
