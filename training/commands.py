"""Runs commands: they end with a result, or with the error and status 1."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from absl import app, flags, logging

from evonorm_tf.errors import did_you_mean

_PACKAGES = ("training", "classification", "detection", "gan")


def run(main: Callable[[list[str]], None], words: bool = False) -> None:
    """Runs a command as `absl.app.run` does, with few logs; see `messages`.

    Args:
      main: gets the command's name and the words that are not flags.
      words: whether there may be any.
    """

    def guarded(arguments: list[str]) -> None:
        quiet_logs()
        with messages():
            if arguments[1:] and not words:
                # Such as `--debug false`, which would set debug.
                raise ValueError(
                    "This command takes only flags, each as --NAME=VALUE. "
                    f"Received: {' '.join(arguments[1:])!r}"
                )
            main(arguments)

    # --help lists the key flags of the main module alone, and most are defined
    # by what the heads share.
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.split(".")[0] in _PACKAGES:
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(guarded)


def quiet_logs() -> None:
    """Hides the Model Garden's log lines unless --verbosity is set."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def messages() -> Iterator[None]:
    """Ends the process with the message of an error in the user's input.

    Messages about values, files and divergence are sufficient; where they were
    raised is shown only with --verbosity=1.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # It is no file's; see `evonorm_tf.commands`.
    except (OSError, ValueError, FloatingPointError) as error:
        verbose = flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0
        if verbose:
            raise
        sys.exit(f"ERROR: {error}")


def dispatch(program: str, verbs: Mapping[str, ModuleType]) -> None:
    """Runs one of a program's subcommands, and exits with its status.

    Args:
      program: "PACKAGE.MODULE".
      verbs: modules with `main(arguments) -> int`, by name.

    Raises:
      SystemExit: always; see `messages` for invalid input.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in verbs:
        with messages():
            sys.exit(verbs[name].main(sys.argv[2:]))
    lines = [f"usage: python -m {program} COMMAND [--help]\n"]
    lines += [
        f"  {key:8} {module.__doc__.splitlines()[0]}"
        for key, module in verbs.items()
    ]
    if name in ("-h", "--help"):
        print("\n".join(lines))
        sys.exit(0)
    if name:
        near = did_you_mean(name, verbs)
        lines.append(f"\nUnknown command. {near}Received: {name}")
    sys.exit("\n".join(lines))
