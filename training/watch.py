"""What a loop or an evaluation returns: guarded, shown and recorded."""

from collections.abc import Iterable, Mapping
from typing import Any

from training import progress, record


class Watch:
    """Orbit's actions of a run, for any trainer.

    Attributes:
      trainer: what is watched; set it before the run starts.
    """

    trainer: Any = None

    def __init__(
        self,
        display: progress.Display,
        model_dir: str,
        steps: tuple[int, int],
        images: int,
        writes: bool = True,
    ):
        """Prepares to watch a run.

        Args:
          display: where progress is shown.
          model_dir: the run's directory.
          steps: where the run goes on from, and where it ends.
          images: how many a step takes.
          writes: whether this process records the run; of several workers,
            one does.
        """
        self._display, self._model_dir = display, model_dir
        start, self._total = steps
        self._images = images
        self._file = progress.MetricsFile(model_dir, start) if writes else None
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
        record.require_finite(step, logs, models, self._model_dir)
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
        if self._file is not None:
            self._file.append(kind, step, logs)
