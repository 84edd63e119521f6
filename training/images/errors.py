"""Errors of TensorFlow's input pipelines, as messages."""

import contextlib
import re
from collections.abc import Callable, Iterator

import tensorflow as tf

# What TensorFlow raises for files and records that cannot be read; others are
# of memory, or of another worker's end.
_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def readable(head: str, rest: Callable[[], str]) -> Iterator[None]:
    """Turns TensorFlow's errors in an input pipeline into plain ones.

    Args:
      head: the head whose `data check` looks for damaged files.
      rest: returns the end of the message: what was read.

    Raises:
      ValueError: if a record or an image cannot be read, or is invalid.
    """
    try:
        yield
    except _ERRORS as error:
        if "IteratorGetNext" not in error.message:
            raise
        found, command = cause(error).strip(" ."), f"{head}.data check"
        advice = (
            f"`python -m {command} --all` reads all of them and names damaged "
            "files (--help shows its flags). "
        )
        raise ValueError(
            f"The data cannot be read: {found}. "
            f"{advice * (command not in found)}{rest()}"
        ) from error


def cause(error: tf.errors.OpError) -> str:
    """Returns TensorFlow's message without the names of operations."""
    operations = (
        r"Graph execution error:\s*|Detected at node .*? defined at \(most "
        r"recent call last\):\s*<stack traces unavailable>\s*|"
        r"Error in user-defined function .*? iterator: \S+: |"
        r"\s*\[\[(?:\{\{.*?\}\}|[\w/]+)\]\]|\{\{.*?\}\}\s*|\s*\[Op:.*"
    )
    return re.sub(operations, "", error.message)
