"""A small version of the paper's batch-size figure.

    python -m classification.demo

Trains a small ResNet on the 1,797 8x8 digits of scikit-learn with each of four
layers, at batch 64 and batch 4, with two seeds, two runs at a time, in a few
minutes on two CPU cores. It shows that the layers train and how, not the
paper's results on ImageNet. Every run is one of `classification.train`; the
rate scales linearly with the batch and nothing is tuned for a layer.

Run the same command again to resume an interrupted demo. Other settings need
another --model_dir.
"""

import concurrent.futures
import contextlib
import multiprocessing
import queue
import signal
import sys
import time
from typing import Any, NamedTuple, Self

import tf_keras
from absl import flags

from classification import datasets, report, task, train
from classification.report import Run
from evonorm_tf import files
from evonorm_tf.search.worker import end_with_parent
from training import commands, config, driver, progress, runs

FLAGS = flags.FLAGS
LAYERS = ("bn_relu", "gn_relu", "evonorm_b0", "evonorm_s0")
BATCHES = (64, 4)
SEEDS = (0, 1)
EPOCHS = 8.0
WORKERS = 2
RESULT_FILE = "result.json"


def grid() -> list[Run]:
    """Returns the runs, in the order of the report."""
    return [
        Run(layer, batch, seed)
        for seed in SEEDS
        for layer in LAYERS
        for batch in BATCHES
    ]


def parameters(run: Run, epochs: float) -> config.Experiment:
    """Returns the experiment of one run, based on `digits_resnet`."""
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
    """Returns a run's share of the work, to estimate the time left.

    It is the same per image, because a step costs almost as much at small
    batches, and tracing and compiling costs as much as about 800 steps, 1/16 of
    the images of 10 epochs.
    """
    return 1 / run.batch + 1 / 16


def accuracy(run: Run, root: str, epochs: float, display: Any) -> float:
    """Returns a run's test accuracy in [0, 1]; trains if necessary.

    Args:
      run: the run.
      root: folder of the runs.
      epochs: passes over the training images.
      display: a `progress.Display` for this run.

    Raises:
      ValueError: if the run's folder contains another run.
    """
    folder = runs.Run(files.join(root, run.directory))
    params = parameters(run, epochs)
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
    found = folder.json(RESULT_FILE).get("accuracy")
    if found is not None:
        folder.require_config()
        folder.require_same(params, "resume", folder.step())
    else:
        # Each model starts with the same names and an empty graph.
        tf_keras.backend.clear_session()
        result = driver.run(
            params, train.HEAD, "train_and_eval", folder.folder, display
        )
        found = result.metrics["accuracy"]
        folder.write_json({"accuracy": found}, RESULT_FILE)
    return found


class Update(NamedTuple):
    """The progress of a run: a `share` in [0, 1], and a note."""

    run: Run
    share: float
    note: str


class _Part:
    """The `progress.Display` of one run, which updates the bar's process."""

    live = False

    def __init__(self, run: Run, updates: Any):
        self._run, self._updates = run, updates

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Drops the runs' own lines, which are in their `metrics.jsonl`."""

    def update(self, share: float, note: str, seconds_left: float) -> None:
        """Updates the bar; see `progress.Display.update`."""
        del seconds_left
        self._updates.put(Update(self._run, share, note))


def _begin(updates: Any) -> None:
    """Initializes a worker process."""
    global _updates
    _updates = updates
    commands.quiet_logs()
    end_with_parent()  # Even if the parent was killed.
    # The parent process handles Ctrl-C and then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(run: Run, root: str, epochs: float) -> float:
    return accuracy(run, root, epochs, _Part(run, _updates))


class Bar:
    """The progress bar of all runs."""

    def __init__(self, display: progress.Display):
        self._display = display
        self._shares: dict[Run, float] = {}
        # Recorded earlier, so not a measure of the time of the others.
        self._recorded = 0.0
        self._began = time.monotonic()

    def update(self, update: Update) -> None:
        """Moves the bar."""
        self._shares[update.run] = update.share
        if not self._display.live:
            return
        total = sum(_cost(run) for run in grid())
        done = sum(share * _cost(run) for run, share in self._shares.items())
        passed = time.monotonic() - self._began
        made = max(done - self._recorded, 1e-9)
        self._display.update(
            done / total,
            f"{update.run}: {update.note}",
            passed / made * (total - done),
        )

    def end(self, run: Run, result: float) -> None:
        """Prints the result of a run."""
        if run not in self._shares:
            self._recorded += _cost(run)
        self._shares[run] = 1.0
        self._display.say(f"{run}: accuracy {result:.3f}")


def accuracies(
    root: str, epochs: float, display: progress.Display
) -> dict[Run, float]:
    """Returns the accuracies of all runs, trained in WORKERS processes.

    Tracing uses one thread, and such a small network hardly more, so a single
    run would leave a second core idle. Results do not depend on other runs.
    """
    context, bar = multiprocessing.get_context("spawn"), Bar(display)
    updates = context.Queue()
    with concurrent.futures.ProcessPoolExecutor(
        WORKERS, context, _begin, (updates,)
    ) as pool:
        # The longest first, so that all processes end at about the same time.
        waiting = {
            pool.submit(_work, run, root, epochs): run
            for run in sorted(grid(), key=_cost, reverse=True)
        }
        found = {}
        try:
            while waiting:
                with contextlib.suppress(queue.Empty):
                    bar.update(updates.get(timeout=0.2))
                for future in [one for one in waiting if one.done()]:
                    run = waiting.pop(future)
                    found[run] = future.result()
                    bar.end(run, found[run])
        except BaseException:
            # The runs can resume from their checkpoints.
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    return {run: found[run] for run in grid()}


def main(_: list[str]) -> None:
    """Runs what is missing, then writes the report."""
    began = time.monotonic()
    with progress.Display("demo") as display:
        display.say(report.ABOUT)
        try:
            found = accuracies(FLAGS.model_dir, FLAGS.epochs, display)
        except KeyboardInterrupt:
            display.say("Stopped; the same command resumes.")
            sys.exit(130)
    seconds = time.monotonic() - began
    # Only the test set, whose size determines the resolution of accuracies.
    digits = parameters(grid()[0], FLAGS.epochs).task.validation_data
    examples = datasets.open_source(digits, num_classes=10).examples
    paths = report.write(FLAGS.model_dir, found, FLAGS.epochs, examples)
    print(f"\n{report.table(found)}\n")
    print(f"{progress.duration(seconds)}. Report: {', '.join(paths)}")


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", "runs/demo", "Folder of the runs.")
    flags.DEFINE_float("epochs", EPOCHS, "Passes over the digits per run.")
    commands.run(main)
