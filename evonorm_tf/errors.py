"""Helpers for checks of arguments and their error messages."""

import difflib
from collections.abc import Iterable
from typing import Any


def is_number(kind: type, value: Any) -> bool:
    """Returns whether a value is a number, also one of NumPy's, and no bool.

    Args:
      kind: `numbers.Real` or `numbers.Integral`.
      value: anything.
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Suggests the known names that are most similar to an unknown one.

    Args:
      word: the unknown name.
      known: the valid names.

    Returns:
      "Did you mean evonorm_s0 or evonorm_s1? ", with a trailing space, or the
      known names, at most 20, if none is similar.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(word), names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}? "
    more = ", ..." if len(names) > 20 else ""
    return f"Expected one of {', '.join(names[:20])}{more}. "
