"""Checks, shows and records loops and evaluations; saves the best one."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions

from evonorm_tf.errors import did_you_mean
from training import checkpoints, progress, runs


class Callbacks:
    """Orbit's actions after a training loop and after an evaluation."""

    def __init__(
        self,
        built: Any,
        display: progress.Display,
        run: runs.Run,
        steps: tuple[int, int],
        writes: bool = True,
    ):
        """Starts the clock; nothing is written.

        Args:
          built: a `driver.Built`: trainer, models, losses, images per step.
          display: shows progress.
          run: the run.
          steps: the steps at which the run resumes and ends.
          writes: whether this process records the run; of several workers,
            one does.
        """
        self._built, self._display, self._run = built, display, run
        start, self._total = steps
        self._writes = writes
        self._speed = progress.Speed(start)

    @property
    def step(self) -> int:
        """Returns the global step."""
        return int(self._built.trainer.global_step.numpy())

    def trained(self, output: dict[str, Any]) -> None:
        """Called after a training loop, before its checkpoint is saved."""
        step, logs = self.step, progress.scalars(output)
        require_finite(step, logs, self._built.models, self._run)
        rate = self._speed.update(step)
        images = rate * self._built.images
        # Orbit then writes the summaries from this dictionary.
        output["images_per_second"] = images
        self._record("train", step, logs | {"images_per_second": images})
        losses = [
            f"{name} {sum(logs[part] for part in parts):.3f}"
            for name, parts in self._built.losses.items()
        ]
        note = f"step {step}/{self._total}, {', '.join(losses)}"
        note += f", {images:.0f} images/s"
        left = (self._total - step) / rate
        self._display.update(step / self._total, note, left)

    def evaluated(self, output: dict[str, Any]) -> None:
        """Called after an evaluation."""
        step, logs = self.step, progress.scalars(output)
        self._record("eval", step, logs)
        text = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        self._display.say(f"step {step}: {text}")
        self._speed.restart()

    def _record(self, kind: str, step: int, logs: dict[str, float]) -> None:
        if self._writes:
            self._run.add_metrics(kind, step, logs)


def require_finite(
    step: int,
    logs: Mapping[str, float],
    models: Mapping[str, tf_keras.Model],
    run: runs.Run,
) -> None:
    """Stops a run that has diverged, before its checkpoint is overwritten.

    Args:
      step: the global step.
      logs: results of a training loop, including losses.
      models: by the names to use in an error.
      run: has the checkpoints.

    Raises:
      FloatingPointError: if a loss or a weight is not finite; the message
        names it and the last good checkpoint.
    """
    bad = [f"{k} is {v}" for k, v in logs.items() if not math.isfinite(v)]
    for name, model in models.items():
        broken = [
            weight.name
            for weight in model.weights
            if not bool(tf.reduce_all(tf.math.is_finite(weight)))
        ]
        if broken:
            bad.append(
                f"{len(broken)} of the {name}'s {len(model.weights)} weights "
                f"are not finite, the first {broken[0]!r}"
            )
    if not bad:
        return
    raise FloatingPointError(
        f"Training diverged by step {step}: {'; '.join(bad)}. Last good "
        f"checkpoint: {run.checkpoint() or 'none was saved yet'}. Lower the "
        "learning rate, extend the warm-up or clip gradients, and use another "
        "model_dir."
    )


class Best:
    """Saves the checkpoint of the best evaluation.

    The Model Garden's exporter writes the metric before the checkpoint. If it
    is killed in between, the metric refers to a checkpoint that does not exist,
    and the repeated evaluation, which is not better, is not saved either. Here
    the metric is written last and applies only to the checkpoint of its step.

    Attributes:
      best_ckpt_logs: that evaluation's metrics; None before the first. As long
        as the metric has always been NaN, the first evaluation's.
    """

    def __init__(
        self,
        run: runs.Run,
        folder: str,
        metric: str,
        higher: bool,
        aside: str | None = None,
    ):
        """Reads the state of an earlier part of the run.

        Args:
          run: the run.
          folder: subfolder for the checkpoint and its metrics.
          metric: name of the metric to compare.
          higher: whether higher is better.
          aside: for a worker that is not the chief: folder for its checkpoint.
            It reads what the chief reads, so both decide alike.
        """
        self._run, self._folder, self._aside = run, folder, aside
        self._metric, self._higher = metric, higher
        self._manager: checkpoints.Checkpoints | None = None
        self.best_ckpt_logs = run.best(folder)

    def maybe_export_checkpoint(
        self, checkpoint: tf.train.Checkpoint, logs: dict, step: int
    ) -> bool:
        """Saves the checkpoint if the evaluation is the best so far.

        The Model Garden's trainer calls it while the model has the weights that
        were evaluated, which are the averaged ones if there is an average.

        Args:
          checkpoint: the trainer's.
          logs: the evaluation's metrics.
          step: the global step.
        """
        logs = progress.scalars(logs)
        if not self._better(logs):
            # The Model Garden's trainer then reads and logs the best value.
            if self._metric not in (self.best_ckpt_logs or {}):
                self.best_ckpt_logs = logs
            return False
        if self._manager is None:
            self._manager = checkpoints.Checkpoints(
                checkpoint,
                self._aside or self._run.path(self._folder),
                max_to_keep=1,
                checkpoint_name="best_ckpt",
            )
        self._manager.save()
        self.best_ckpt_logs = logs
        if self._aside is None:
            info = logs | {runs.BEST_STEP: int(step)}
            self._run.write_json(info, self._folder, runs.BEST_FILE)
        return True

    def _better(self, logs: Mapping[str, float]) -> bool:
        new = logs[self._metric]
        old = (self.best_ckpt_logs or {}).get(self._metric, math.nan)
        if math.isnan(new) or math.isnan(old):
            return not math.isnan(new)
        return new > old if self._higher else new < old


def best_from_config(
    trainer: config_definitions.TrainerConfig,
    run: runs.Run,
    names: Collection[str],
    aside: str | None = None,
    start: int = 0,
) -> Best | None:
    """Returns a `Best` if the config requests one.

    Args:
      trainer: its `best_checkpoint_*` define the metric and the folder.
      run: the run.
      names: the metrics of an evaluation.
      aside: see `Best`.
      start: the step from which the run resumes. A later best checkpoint, of
        an earlier start, does not count; `Run.forget` removes it.

    Raises:
      ValueError: if the settings are incomplete, or metric or direction are
        unknown: before training, because the first evaluation can be hours
        later.
    """
    folder = trainer.best_checkpoint_export_subdir
    metric = trainer.best_checkpoint_eval_metric
    direction = trainer.best_checkpoint_metric_comp
    if bool(folder) != bool(metric):
        raise ValueError(
            "A best checkpoint needs a folder and a metric; set both or "
            "neither of trainer.best_checkpoint_export_subdir and "
            ".best_checkpoint_eval_metric. Received: "
            f"best_checkpoint_export_subdir={folder!r}, "
            f"best_checkpoint_eval_metric={metric!r}"
        )
    if direction not in ("higher", "lower"):
        raise ValueError(
            "trainer.best_checkpoint_metric_comp must be higher or lower. "
            f"Received: trainer.best_checkpoint_metric_comp={direction!r}"
        )
    if not folder:
        return None
    if metric not in names:
        raise ValueError(
            "trainer.best_checkpoint_eval_metric must be a metric of the "
            f"evaluation. {did_you_mean(metric, names)}"
            f"Received: trainer.best_checkpoint_eval_metric={metric!r}"
        )
    best = Best(run, folder, metric, direction == "higher", aside)
    before = best.best_ckpt_logs
    if before is not None and before[runs.BEST_STEP] > start:
        best.best_ckpt_logs = None
    return best
