"""What reports share: reading a benchmark's JSON, and Markdown tables."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(runs: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Reads a benchmark's JSON file; None if it does not exist."""
    path = runs / name
    return json.loads(path.read_text()) if path.exists() else None
