"""How a command ends: with a result, or with what is wrong and status 1."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command as `absl.app.run` does, see `messages`."""

    def guarded(arguments: list[str]) -> None:
        with messages():
            main(arguments)

    app.run(guarded)


@contextlib.contextmanager
def messages() -> Iterator[None]:
    """Ends the process where what the user gave is at fault.

    Errors of values and of files say by themselves what is wrong; where they
    were raised is shown only with --verbosity=1.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        verbose = flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0
        if verbose:
            raise
        sys.exit(f"ERROR: {error}")
