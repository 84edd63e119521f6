"""The paper's batch-size figure in small: `python -m classification.demo`.

Trains one small ResNet on the 1,797 8x8 digits inside scikit-learn with each
of four layers, at batch 64 and at batch 4, from two seeds: a few minutes on
two CPU cores. Digits, not ImageNet: it shows that the layers train and how,
not what the paper's tables say. Every run is `classification.train`'s; the
rate scales linearly with the batch and nothing is tuned for one layer.

Killed, it goes on where it was by the same command.
"""

import time
from typing import Self

import tf_keras
from absl import flags

from classification import datasets, report, task, train
from classification.report import Run
from evonorm_tf import files
from training import commands, config, driver, progress, runs
from training import flags as training_flags

FLAGS = flags.FLAGS
LAYERS = ("bn_relu", "gn_relu", "evonorm_b0", "evonorm_s0")
BATCHES = (64, 4)
SEEDS = (0, 1)
EPOCHS = 8.0
RESULT_FILE = "result.json"


def grid() -> list[Run]:
    """The runs, in the order that they are made."""
    return [
        Run(layer, batch, seed)
        for seed in SEEDS
        for layer in LAYERS
        for batch in BATCHES
    ]


def parameters(run: Run, epochs: float) -> config.Experiment:
    """The experiment of one run: `digits_resnet` but for what differs."""
    train_data = {"global_batch_size": run.batch, "seed": run.seed}
    changes = {
        "seed": run.seed,
        "train_data": train_data,
        "schedule": {"epochs": epochs},
    }
    return config.parse(
        "digits_resnet",
        norm_act=run.layer,
        params_override={"task": changes},
    )


def _cost(run: Run) -> float:
    """A run's share of the work, for the time left.

    Per image: a step's cost hardly depends on so small a batch, and tracing
    and compiling cost as much as some 800 steps, 1/16 of the images of 10
    epochs.
    """
    return 1 / run.batch + 1 / 16


class Demo:
    """All runs, one after the other, behind one progress bar."""

    def __init__(self, root: str, epochs: float, display: progress.Display):
        """Args: where the runs go, how long each is, what shows them."""
        self._root, self._epochs, self._display = root, epochs, display
        self._total = sum(_cost(run) for run in grid())
        self._done = self._found = 0.0
        self._began = time.monotonic()

    def accuracy(self, run: Run) -> float:
        """Test accuracy of a run in [0, 1]: recorded, resumed or made."""
        folder = runs.Run(files.join(self._root, run.directory))
        params = parameters(run, self._epochs)
        task.prepare(params)
        steps = params.trainer.train_steps
        params.trainer.override(
            {
                "steps_per_loop": max(steps // 20, 1),
                "summary_interval": max(steps // 20, 1),
                "checkpoint_interval": max(steps // 3, 1),
                "validation_interval": steps,
            }
        )
        if not folder.records(params):
            files.remove(folder.folder)
        accuracy = folder.json(RESULT_FILE).get("accuracy")
        if accuracy is not None:
            self._found += _cost(run)
        else:
            # Each model starts from the same names and an empty graph.
            tf_keras.backend.clear_session()
            part = _Part(self, run)
            result = driver.run(
                params, train.HEAD, "train_and_eval", folder.folder, part
            )
            accuracy = result.metrics["accuracy"]
            folder.write_json({"accuracy": accuracy}, RESULT_FILE)
        self._done += _cost(run)
        self._display.say(f"{run}: accuracy {accuracy:.3f}")
        return accuracy

    def show(self, run: Run, share: float, note: str) -> None:
        """Moves the bar: a `share` in [0, 1] of `run` is done."""
        if not self._display.live:
            return
        done = self._done + share * _cost(run)
        passed = time.monotonic() - self._began
        left = passed / (done - self._found) * (self._total - done)
        self._display.update(done / self._total, f"{run}: {note}", left)


class _Part:
    """One run's `progress.Display`: its share of the whole bar."""

    def __init__(self, demo: Demo, run: Run):
        self._demo, self._run = demo, run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def say(self, text: str) -> None:
        """The runs' own lines are in their `metrics.jsonl`."""

    def update(self, share: float, note: str, seconds_left: float) -> None:
        """As `progress.Display.update`."""
        del seconds_left
        self._demo.show(self._run, share, note)


def main(_: list[str]) -> None:
    """Makes the runs that are missing, then the report."""
    training_flags.quiet_logs()
    began = time.monotonic()
    with progress.Display("demo") as display:
        display.say(report.ABOUT)
        demo = Demo(FLAGS.model_dir, FLAGS.epochs, display)
        accuracies = {run: demo.accuracy(run) for run in grid()}
    seconds = time.monotonic() - began
    # The test set alone: its size says how fine the accuracies are.
    digits = parameters(grid()[0], FLAGS.epochs).task.validation_data
    examples = datasets.open_source(digits, num_classes=10).examples
    paths = report.write(FLAGS.model_dir, accuracies, FLAGS.epochs, examples)
    print(f"\n{report.table(accuracies)}\n")
    print(f"{progress.duration(seconds)}. Report: {', '.join(paths)}")


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", "runs/demo", "Where the runs go.")
    flags.DEFINE_float("epochs", EPOCHS, "Passes over the digits, each run.")
    commands.run(main)
