"""What a person sees of a run.

On a terminal: one bar with images per second and the time left. Elsewhere:
one plain line per training loop.
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

# How Orbit's own lines begin; it prints each, and logs it as well.
_ORBIT = ("train |", " eval |", "restor", "saved checkpoint", "initialized")


def scalars(logs: dict[str, Any]) -> dict[str, float]:
    """Orbit's logs as floats; replicated values are read once."""
    return {name: _scalar(value) for name, value in logs.items()}


def _scalar(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)  # A tensor of it would be float32.
    # float() refuses the variable of a replicated learning rate.
    return float(tf.convert_to_tensor(value))


class Display:
    """A bar on a terminal, plain lines elsewhere.

    Attributes:
      live: whether there is a bar, which one may move as often as one likes.
    """

    def __init__(self, title: str, stream: TextIO | None = None):
        """Prepares the display.

        Args:
          title: what is being run.
          stream: where to; standard output when None.
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
        """A line that stays."""
        self._console.print(text, markup=False)

    def update(self, share: float, note: str, seconds_left: float) -> None:
        """Shows that a `share` of the run, in [0, 1], is done."""
        note = f"{note}, {duration(seconds_left)} left"
        if self.live:
            self._bar.update(self._task, completed=share, note=note)
        else:
            self.say(f"{self._title}: {note}")


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s, 7 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Speed:
    """Steps a second, smoothed, without the first loop's compilation."""

    def __init__(self, step: int):
        self._step, self._time = step, time.monotonic()
        self._loops, self._rate = 0, 0.0

    def update(self, step: int) -> float:
        """The rate now that `step` is reached."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._loops = step, self._loops + 1
        # The first loop traces and compiles: what follows replaces it.
        keep = 0.7 if self._loops > 2 else 0.0
        self._rate = keep * self._rate + (1 - keep) * rate
        self.restart()
        return self._rate

    def restart(self) -> None:
        """Starts the clock anew, after something that is no training."""
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
    """Keeps Orbit's prints, which repeat what `Display` shows, in the log."""
    with contextlib.redirect_stdout(_WithoutOrbit(sys.stdout)):
        yield
