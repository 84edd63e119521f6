"""What a loop or an evaluation returns: guarded, shown and recorded."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from training import progress, runs


class Watch:
    """Orbit's actions of a run, for any trainer.

    Attributes:
      trainer: what is watched; set it before the run starts.
    """

    trainer: Any = None

    def __init__(
        self,
        display: progress.Display,
        run: runs.Run,
        steps: tuple[int, int],
        images: int,
        writes: bool = True,
    ):
        """Prepares to watch a run.

        Args:
          display: where progress is shown.
          run: the run.
          steps: where the run goes on from, and where it ends.
          images: how many a step takes.
          writes: whether this process records the run; of several workers,
            one does.
        """
        self._display, self._run = display, run
        start, self._total = steps
        self._images = images
        self._writes = writes
        if writes:
            run.cut_metrics(start)
        self._speed = progress.Speed(start)
        self._losses: Mapping[str, Iterable[str]] = {"loss": ["training_loss"]}
        self._models: Iterable[str] = ("model",)

    def look_at(
        self, losses: Mapping[str, Iterable[str]], models: Iterable[str]
    ) -> None:
        """For a trainer of more than one loss or model.

        Args:
          losses: by the name to show, what a loop returns that adds up to it.
          models: the trainer's attributes that hold models.
        """
        self._losses, self._models = losses, models

    def _step(self) -> int:
        return int(self.trainer.global_step.numpy())

    def trained(self, output: dict[str, Any]) -> None:
        """After a training loop, before its checkpoint is saved."""
        step, logs = self._step(), progress.scalars(output)
        models = {name: getattr(self.trainer, name) for name in self._models}
        require_finite(step, logs, models, self._run)
        rate = self._speed.update(step)
        images = rate * self._images
        # Orbit writes the summaries out of this same dictionary, next.
        output["images_per_second"] = images
        self._record("train", step, logs | {"images_per_second": images})
        losses = [
            f"{name} {sum(logs[part] for part in parts):.3f}"
            for name, parts in self._losses.items()
        ]
        note = f"step {step}/{self._total}, {', '.join(losses)}"
        note += f", {images:.0f} images/s"
        left = (self._total - step) / rate
        self._display.update(step / self._total, note, left)

    def evaluated(self, output: dict[str, Any]) -> None:
        """After an evaluation."""
        step, logs = self._step(), progress.scalars(output)
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
    """Stops a run that cannot recover, before it is saved over.

    Args:
      step: where it is.
      logs: what a training loop returned, losses among it.
      models: by the name that an error calls them.
      run: where its checkpoints are.

    Raises:
      FloatingPointError: a value or a weight is not finite; says which, and
        names the last good checkpoint.
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
        f"Training broke down by step {step}: {'; '.join(bad)}. Last good "
        f"checkpoint: {run.checkpoint() or 'none was saved yet'}. Lower the "
        "learning rate, warm up for longer or clip gradients, then run again."
    )
