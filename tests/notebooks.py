"""Runs a notebook of docs/notebooks, on whichever backend a test has."""

import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def run(name: str) -> None:
    """Runs the code of a notebook whose outputs come from one run in order."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == [*range(1, len(code) + 1)]
    names: dict = {}
    for index, cell in enumerate(code):
        text = "".join(cell["source"])
        exec(compile(text, f"{name}-{index}", "exec"), names)
