"""What the documents point at is there; their snippets run."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_SNIPPET = re.compile(r"```python\n(.*?)```", re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_within_the_project_lead_somewhere(page):
    targets = [
        link for link in _LINK.findall(page.read_text()) if "://" not in link
    ]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing


def _snippets():
    for page in PAGES:
        for index, code in enumerate(_SNIPPET.findall(page.read_text())):
            # Parts of a model's definition, shown without the rest.
            if "x = " not in code:
                yield pytest.param(code, id=f"{page.name}-{index}")


@pytest.mark.parametrize("code", list(_snippets()))
def test_snippets_run(code):
    exec(compile(code, "snippet", "exec"), {})
