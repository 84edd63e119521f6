"""What a run shows on the screen: its settings, then its progress.

A terminal shows one bar with images per second and the time left. Otherwise
one plain line per training loop is printed.
"""

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from typing import Any, Self, TextIO

import tensorflow as tf
from absl import logging
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from training import config, runs

# Prefixes of Orbit's own lines, which it both prints and logs.
_ORBIT = ("train |", " eval |", "restor", "saved checkpoint", "initialized")


def scalars(logs: dict[str, Any]) -> dict[str, float]:
    """Converts Orbit's logs to floats; replicated values are read once."""
    return {name: _scalar(value) for name, value in logs.items()}


def _scalar(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)  # A tensor would round it to float32.
    # float() rejects the variable of a replicated learning rate.
    return float(tf.convert_to_tensor(value))


def settings(params: config.Experiment) -> str:
    """Returns the main settings and versions, for the screen.

    The whole config is logged: --verbosity=0 shows it.
    """
    logging.info("Config:\n%s", runs.as_yaml(params))
    model = params.task.model
    main = [
        getattr(model, "network", ""),
        model.norm_act.name,
        f"batch {params.task.train_data.global_batch_size}",
        f"{params.trainer.train_steps} steps",
        _optimizers(params),
        params.runtime.mixed_precision_dtype or "float32",
    ]
    versions = [f"{k} {v}" for k, v in runs.versions().items()]
    return f"{', '.join(filter(None, main))}; {', '.join(versions)}"


def place(start: int, total: int, model_dir: str) -> str:
    """Describes where a run begins and ends."""
    if not start:
        return f"{total} steps, into {model_dir}"
    return f"Resuming from step {start} of {total} in {model_dir}"


def _optimizers(params: config.Experiment) -> str:
    """Describes the optimizers: a GAN's two, or that of the trainer."""
    own = [
        f"{name} {getattr(params.task, key).learning_rate:g}"
        for name in ("generator", "discriminator")
        if hasattr(params.task, key := f"{name}_optimizer")
    ]
    if own:
        return f"adam, learning rates {', '.join(own)}"
    optimizer = params.trainer.optimizer_config
    return f"{optimizer.optimizer.type}, {_rate(optimizer)}"


def _rate(optimizer: Any) -> str:
    """Describes the learning rate: its kind, initial value and warm-up."""
    kind = optimizer.learning_rate.type
    chosen = optimizer.learning_rate.get()
    values = getattr(chosen, "values", None) or [None]
    found = (
        getattr(chosen, "initial_learning_rate", None),
        getattr(chosen, "learning_rate", None),
        values[0],
    )
    first = next((value for value in found if value is not None), None)
    text = f"{kind} learning rate" + ("" if first is None else f" {first:g}")
    warmup = optimizer.warmup.get() if optimizer.warmup else None
    steps = getattr(warmup, "warmup_steps", 0)
    return text + (f" after {steps} steps of warm-up" if steps else "")


class Display:
    """Shows a bar on a terminal, plain lines elsewhere.

    Attributes:
      live: whether there is a bar, which may be updated at any rate.
    """

    def __init__(self, title: str, stream: TextIO | None = None):
        """Prepares the display.

        Args:
          title: name of the run.
          stream: destination; None for standard output.
        """
        self._console = Console(
            file=stream or sys.stdout, soft_wrap=True, highlight=False
        )
        self._title = title
        self.live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            redirect_stdout=False,
            disable=not self.live,
        )
        self._task = self._bar.add_task(title, total=1.0, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a permanent line."""
        self._console.print(text, markup=False)

    def update(self, share: float, note: str, seconds_left: float) -> None:
        """Shows that a `share` of the run, in [0, 1], is done."""
        note = f"{note}, {duration(seconds_left)} left"
        if self.live:
            self._bar.update(self._task, completed=share, note=note)
        else:
            self.say(f"{self._title}: {note}")


def duration(seconds: float) -> str:
    """Formats a duration: 2 h 05 min, 3 min 20 s, 7 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Speed:
    """Smoothed steps per second, without the first loop's compilation."""

    def __init__(self, step: int):
        self._step, self._time = step, time.monotonic()
        self._loops, self._rate = 0, 0.0

    def update(self, step: int) -> float:
        """Returns the rate after `step` is reached."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._loops = step, self._loops + 1
        # The first loop traces and compiles; later ones replace its rate.
        keep = 0.7 if self._loops > 2 else 0.0
        self._rate = keep * self._rate + (1 - keep) * rate
        self.restart()
        return self._rate

    def restart(self) -> None:
        """Restarts the clock after something other than training."""
        self._time = time.monotonic()


class _WithoutOrbit(io.TextIOBase):
    """Standard output without the lines that Orbit prints."""

    def __init__(self, stream: TextIO):
        self._stream, self._dropped = stream, False

    def write(self, text: str) -> int:
        drop = text.startswith(_ORBIT) or (self._dropped and text == "\n")
        self._dropped = drop and text != "\n"
        if drop:
            logging.vlog(1, "%s", text)
        else:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def quiet_orbit() -> Iterator[None]:
    """Sends Orbit's prints, which repeat what `Display` shows, to the log."""
    with contextlib.redirect_stdout(_WithoutOrbit(sys.stdout)):
        yield
