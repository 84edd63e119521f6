"""What the messages of errors share."""

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """The known names that are most like an unknown one, as a sentence.

    Args:
      word: what was received.
      known: the names that would have been valid.

    Returns:
      "Did you mean evonorm_s0 or evonorm_s1? ", with a space at its end;
      where nothing is near, the known names, at most 20 of them.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(word), names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}? "
    more = ", ..." if len(names) > 20 else ""
    return f"Expected one of {', '.join(names[:20])}{more}. "
