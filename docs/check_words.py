"""Checks the project's texts against a list of expressions to avoid.

    python docs/check_words.py [FILE ...]

The expressions are regular expressions in pyproject.toml, [tool.words], each
with the wording to use instead. They are searched, without case, in Markdown
files and notebooks and in the docstrings, comments and strings of Python
files. A line with "words: ignore" is not checked. The exit status is 1 if
there is a match.
"""

import io
import pathlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator

import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SUFFIXES = (".py", ".md", ".in", ".ipynb", ".yaml", ".yml")
_IGNORE = "words: ignore"


def texts(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of the prose in a file.

    Args:
      path: of a Python file, whose code is left out, or a text file.
    """
    source = path.read_text()
    if path.suffix != ".py":
        yield 1, source
        return
    block: list[str] = []
    begin = last = 0
    kinds = (tokenize.STRING, tokenize.COMMENT)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in kinds:
            continue
        # Comments on consecutive lines, and adjacent strings, are one text.
        if token.start[0] > last + 1 and block:
            yield begin, "\n".join(block)
            block = []
        if not block:
            begin = token.start[0]
        block += [""] * (token.start[0] - begin - len(block))
        block += token.string.split("\n")
        last = token.end[0]
    if block:
        yield begin, "\n".join(block)


def find(path: pathlib.Path, avoid: dict[str, str]) -> Iterator[str]:
    """Yields a message for each match in a file.

    Args:
      path: of the file.
      avoid: maps regular expressions to the wording to use instead. A space
        in an expression matches any space, also that of a line break.
    """
    # The quotes and comment signs at a line break count as space.
    gap = r"[\s\"'#]+(?:[rf]*[\"'])?"
    lines = path.read_text().split("\n")
    for begin, text in texts(path):
        for expression, instead in avoid.items():
            pattern = expression.replace(" ", gap)
            for match in re.finditer(pattern, text, re.IGNORECASE):
                line = begin + text.count("\n", 0, match.start())
                if _IGNORE in lines[line - 1]:
                    continue
                found = " ".join(match.group().split())
                yield f"{path}:{line}: {found!r}: write {instead}"


def main(names: list[str]) -> int:
    """Checks files, by default all that git tracks; returns the status."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    config = config["tool"]["words"]
    if not names:
        listed = subprocess.run(
            ["git", "ls-files"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        names = [
            str(ROOT / name)
            for name in listed.stdout.splitlines()
            if name.endswith(_SUFFIXES)
            and not name.startswith(tuple(config["exclude"]))
        ]
    found = [
        message
        for name in names
        if pathlib.Path(name).exists()
        for message in find(pathlib.Path(name), config["avoid"])
    ]
    print("\n".join(found) or "No expression to avoid was found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
