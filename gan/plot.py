"""Plots curves of recorded runs, and samples of each layer's generator.

    python -m gan.plot runs/cifar10/biggan_small --output=curves.png

Each argument is the folder of a run or of several runs, at any depth. Runs may
differ in layer and seed; other architectures, data or extractors are an error,
because their distances cannot be compared. Below the curves of distance, score
and singular values are the last samples of each layer's first run, one class
per column.
"""

import dataclasses
import json
from typing import Any

from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from evonorm_tf import files, plots
from gan.evaluation import RESULT_FILE, SAMPLES
from training import runs

# Settings that may differ between runs.
_OWN = ("norm_act",)


@dataclasses.dataclass(frozen=True)
class Log:
    """The records of a run.

    Attributes:
      folder: its path.
      layer: catalog name.
      train: lines of its training loops.
      evals: lines of its evaluations.
      measured: data and extractor of its distances.
      grid: file of the samples of its last evaluation; "" if there is none.
    """

    folder: str
    layer: str
    train: list[dict[str, Any]]
    evals: list[dict[str, Any]]
    measured: dict[str, Any]
    grid: str = ""


def find(roots: list[str]) -> list[Log]:
    """Finds the runs in some folders, at any depth.

    Raises:
      ValueError: if a folder has no run, or runs cannot be compared.
    """
    logs = [_read(run) for run in runs.find(roots).values()]
    for log in logs[1:]:
        _require_alike(logs[0], log)
    return logs


def _read(run: runs.Run) -> Log:
    task = run.require_config()["task"]
    measured = {
        key: value for key, value in task["model"].items() if key not in _OWN
    }
    measured["batch"] = task["train_data"]["global_batch_size"]
    facts = run.json(RESULT_FILE).get("facts")
    if facts is not None:
        measured |= {f"real {k}": v for k, v in facts["real"].items()}
        measured["made count"] = facts["made"]["count"]
    evals = run.metrics("eval")
    step = evals[-1]["step"] if evals else 0
    grid = (SAMPLES, f"step-{step:07d}.png")
    return Log(
        run.folder,
        task["model"]["norm_act"]["name"],
        run.metrics("train"),
        evals,
        measured,
        run.path(*grid) if run.has(*grid) else "",
    )


def _require_alike(one: Log, other: Log) -> None:
    different = [
        f"{key}: {one.measured.get(key)!r} and {other.measured.get(key)!r}"
        for key in {**one.measured, **other.measured}
        if one.measured.get(key) != other.measured.get(key)
    ]
    if different:
        raise ValueError(
            "Distances of these runs cannot be compared; plot them separately. "
            f"Received: {one.folder!r} and {other.folder!r} with "
            f"{'; '.join(different)}"
        )


def figure(logs: list[Log]) -> Figure:
    """Plots distance, score, the discriminator's largest sigma; samples.

    Args:
      logs: from `find`.

    Returns:
      Three axes of curves, then one of samples for each layer that has some.

    Raises:
      ValueError: if no run has been evaluated.
    """
    if not any(log.evals for log in logs):
        raise ValueError(
            "No run has been evaluated yet. Received: "
            f"{', '.join(log.folder for log in logs)}"
        )
    measured = logs[0].measured
    note = (
        f"{measured['architecture']}, batch {measured['batch']}; "
        f"{measured.get('made count', '?')} samples against "
        f"{measured.get('real images', '?')}"
    )
    grids = {log.layer: log for log in reversed(logs) if log.grid}
    height = 4.0 * (2 if grids else 1)
    new = plots.figure(12.0, height, "Samples by step of the generator", note)
    parts = new.subfigures(2 if grids else 1, squeeze=False)[:, 0]
    distance, score, sigma = parts[0].subplots(1, 3)
    measured_first = next(log.evals[0] for log in logs if log.evals)
    keys = [key for key in measured_first if "std" not in key]
    for axes, ending in ((distance, ("_distance", "fid")), (score, "_score")):
        key = next(k for k in keys if k.endswith(ending) and "kernel" not in k)
        _lines(axes, logs, "evals", key, marked=True)
        axes.set_title(key.replace("_", " "), fontsize=10.5, color=plots.INK)
        axes.set_xlabel("step")
    distance.set_ylim(bottom=0)
    _lines(sigma, logs, "train", "discriminator_sigma")
    sigma.set_title("largest sigma of D", fontsize=10.5, color=plots.INK)
    sigma.set_xlabel("step")
    handles, names = distance.get_legend_handles_labels()
    unique = dict(zip(names, handles))
    order = plots.in_order(set(unique))
    parts[0].legend(
        [unique[name] for name in order],
        order,
        loc="outside lower center",
        ncols=max(len(order), 1),
        frameon=False,
    )
    if grids:
        below = parts[1].subplots(1, len(grids), squeeze=False)[0]
        for axes, layer in zip(below, plots.in_order(grids)):
            _samples(axes, grids[layer])
    return new


def _samples(axes: Axes, log: Log) -> None:
    """Draws the picture of a run's last samples."""
    with files.local(log.grid) as path, Image.open(path) as image:
        axes.imshow(image.convert("RGB"), interpolation="nearest")
    step = log.evals[-1]["step"]
    axes.set_title(f"{log.layer}, step {step}", fontsize=10.5, color=plots.INK)
    axes.set_axis_off()


def _lines(
    axes: Axes, logs: list[Log], kind: str, key: str, marked: bool = False
) -> None:
    """Draws one line per run; the seeds of a layer share its colour."""
    plots.plain(axes)
    for log in logs:
        lines = [line for line in getattr(log, kind) if key in line]
        x = [line["step"] for line in lines]
        y = [line[key] for line in lines]
        axes.plot(x, y, color=plots.style(log.layer).colour, lw=1.5, zorder=3)
        if marked:
            plots.marks(axes, x, y, log.layer)


def main(arguments: list[str]) -> None:
    """Reads the runs and draws."""
    output = flags.FLAGS.output
    if not output.lower().endswith((".png", ".svg", ".pdf")):
        raise app.UsageError(
            "--output must end in .png, .svg or .pdf. "
            f"Received: output={output!r}"
        )
    try:
        logs = find(arguments[1:])
        new = figure(logs)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    plots.save(new, output)
    for log in logs:
        for line in log.evals[:: max(len(log.evals) - 1, 1)]:
            print(log.folder, json.dumps(line))
    print(f"{len(logs)} runs. Figure: {output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "Output file: .png, .svg or .pdf.")
    flags.mark_flag_as_required("output")
    app.run(main)
