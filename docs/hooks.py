"""MkDocs hooks: fences may say what their commands need, "```sh needs=tpu".

The tests read that (tests/test_docs.py); MkDocs knows only the language.
"""

import re
from typing import Any

_NEEDS = re.compile(r"^(\s*```\w+) needs=[\w,]+$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns the page with nothing but the language after each fence."""
    return _NEEDS.sub(r"\1", markdown)
