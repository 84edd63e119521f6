"""Saves the best checkpoint of a run, in addition to the latest ones.

The Model Garden's exporter writes the metric before the checkpoint. If it is
killed in between, the metric refers to a checkpoint that does not exist, and
the repeated evaluation, which is not better, is not saved either. Here the
metric is written last and applies only to the checkpoint of its step.
"""

import math
from collections.abc import Mapping

import tensorflow as tf
from official.core import config_definitions

from training import checkpoints, progress, runs

_NAME = "best_ckpt"


class Best:
    """Saves the checkpoint of the best evaluation.

    Attributes:
      best_ckpt_logs: that evaluation's metrics; None before the first.
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

        Raises:
          ValueError: if the metric is not among them.
        """
        logs = progress.scalars(logs)
        if self._metric not in logs:
            raise ValueError(
                "trainer.best_checkpoint_eval_metric must be a metric of the "
                f"evaluation: {', '.join(sorted(logs))}. Received: "
                f"best_checkpoint_eval_metric={self._metric!r}"
            )
        if not self._better(logs):
            return False
        if self._manager is None:
            self._manager = checkpoints.Checkpoints(
                checkpoint,
                self._aside or self._run.path(self._folder),
                max_to_keep=1,
                checkpoint_name=_NAME,
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


def from_config(
    trainer: config_definitions.TrainerConfig,
    run: runs.Run,
    aside: str | None = None,
    start: int = 0,
) -> Best | None:
    """Returns a `Best` if the config requests one.

    Args:
      trainer: its `best_checkpoint_*` define the metric and the folder.
      run: the run.
      aside: see `Best`.
      start: the step from which the run resumes; from 0, the best checkpoint
        of an earlier start does not count.

    Raises:
      ValueError: if the settings are incomplete or the direction is invalid.
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
            f"Received: best_checkpoint_metric_comp={direction!r}"
        )
    if not folder:
        return None
    best = Best(run, folder, metric, direction == "higher", aside)
    if not start:
        best.best_ckpt_logs = None
    return best
