"""Checks, shows and records the results of loops and evaluations."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from training import progress, runs


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
