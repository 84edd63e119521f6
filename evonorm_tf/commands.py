"""What the command lines of this project share; needs no TensorFlow.

TensorFlow decides what to log when it is imported, so a package calls `start`
when it is: `python -m PACKAGE.MODULE` imports the package first.
"""

import ast
import atexit
import os
import pathlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def start(
    renamed: Mapping[str, str] | None = None, line: list[str] | None = None
) -> None:
    """Prepares a process that was started as `python -m MODULE`.

    TensorFlow's own log lines are left out, unless TF_CPP_MIN_LOG_LEVEL or
    --verbosity asks for them. When the reader of the output, such as `head`,
    ends, so does the command, without a traceback. A library that is imported,
    rather than run, changes nothing.

    Args:
      renamed: the present names of modules that were commands, by the old.
      line: the process's command line; `sys.orig_argv` when None.

    Raises:
      SystemExit: the command has another name now.
    """
    if line is None:
        # While Python looks for the module, and never after.
        if sys.argv[:1] != ["-m"]:
            return
        line = sys.orig_argv
        if sys.excepthook is not _report:  # A command starts two packages.
            sys.excepthook = _report
            atexit.register(_flush)
    if "-m" not in line[:-1]:
        return
    module, *arguments = line[line.index("-m") + 1 :]
    if module in (renamed or {}):
        sys.exit(
            f"This command was renamed: python -m {renamed[module]}. "
            f"Received: python -m {module}"
        )
    if not any(one.startswith(("--verbosity", "-v=")) for one in arguments):
        os.environ.setdefault(LOG_LEVEL, "3")


def _report(kind: type, error: BaseException, trace: Any) -> None:
    """Reports an error, unless it is that nobody reads the output."""
    # Another pipe's error is reported, after an empty line.
    if not issubclass(kind, BrokenPipeError) or _flush("\n"):
        sys.__excepthook__(kind, error, trace)


def _flush(text: str = "") -> bool:
    """Prints a text and all that is buffered; returns whether it is read."""
    try:
        print(end=text, flush=True)
    except BrokenPipeError:
        # As Python's documentation advises: so that the interpreter's own
        # flush, after this, succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def list_commands(package: ModuleType) -> None:
    """Runs `python -m PACKAGE`, which prints the package's commands.

    Raises:
      SystemExit: if there is anything else on the command line.
    """
    given = sys.argv[1:]
    if given and given not in (["-h"], ["--help"]):
        # Not for everyone who imports the library, and with it this module.
        from evonorm_tf.errors import did_you_mean

        known = _commands(package)
        wanted = f"{package.__name__}.{given[0]}"
        sys.exit(
            f"Commands are modules of {package.__name__}: write python -m "
            f"{package.__name__}.COMMAND. {did_you_mean(wanted, known)}"
            f"Received: python -m {package.__name__} {' '.join(given)}"
        )
    print(overview(package))


def overview(package: ModuleType) -> str:
    """The commands of a package, one line each.

    Args:
      package: imported; its modules are read as text.
    """
    found = _commands(package)
    width = max(map(len, found))
    lines = [f"{package.__doc__.splitlines()[0]}\n"]
    lines += [f"  python -m {k:{width}}  {v}" for k, v in sorted(found.items())]
    return "\n".join([*lines, "\nEach has a --help."])


def _commands(package: ModuleType) -> dict[str, str]:
    """The first line of each command's docstring, by its module's name."""
    root = pathlib.Path(package.__file__).parent
    found = {}
    for path in [*root.glob("[!_]*.py"), *root.glob("*/__main__.py")]:
        module = ast.parse(path.read_text("utf-8"))
        inside = path.name == "__main__.py"
        name = path.parent.name if inside else path.stem
        if inside or any(map(_runs, module.body)):
            about = ast.get_docstring(module).splitlines()[0]
            found[f"{package.__name__}.{name}"] = about
    return found


def _runs(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__"`."""
    return isinstance(statement, ast.If) and (
        ast.unparse(statement.test) == "__name__ == '__main__'"
    )
