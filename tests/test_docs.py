"""Links in the documentation resolve; its snippets and commands run.

A block that begins with ```sh is run, command by command. A block that needs
more than a checkout says so: ```sh needs=tpu, imagenet, coco, cifar10,
inception, cluster, install, images, or hours of a machine.
"""

import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from evonorm_tf import catalog
from evonorm_tf.ops import settings
from tests import notebooks

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_SNIPPET = re.compile(r"```python\n(.*?)```", re.S)
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.S | re.M)
_NEEDS = (
    *("tpu", "imagenet", "coco", "cifar10", "inception", "cluster"),
    *("install", "hours", "images"),
)
_MODULE = re.compile(r"python -m ([\w.]+)")
# Commands that take seconds once everything is imported; blocks with others are
# slow tests.
_QUICK = re.compile(r"configs\.tables|doctor|--help|data check|demo --help")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_within_the_project_lead_somewhere(page):
    targets = [
        link for link in _LINK.findall(page.read_text()) if "://" not in link
    ]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing


# The same calls, of another model, as in a snippet of README.md or networks.md.
_AGAIN = ("index.md-1", "index.md-2", "index.md-3", "convert.md-0")


def _snippets():
    for page in PAGES:
        if page.name == "jax.md":  # Run by tests/jax/test_docs.py.
            continue
        for index, code in enumerate(_SNIPPET.findall(page.read_text())):
            name = f"{page.name}-{index}"
            marks = pytest.mark.slow if name in _AGAIN else ()
            yield pytest.param(code, id=name, marks=marks)


@pytest.mark.parametrize("code", list(_snippets()))
def test_snippets_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Names that the parts of a model use without defining them.
    image = tf.ones([2, 8, 8, 8])
    exec(compile(code, "snippet", "exec"), {"keras": keras, "x": image})


@pytest.mark.slow  # The pages' snippets, below, call the same functions.
@pytest.mark.parametrize("name", ["layer", "convert", "search"])
def test_notebooks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # Of the processes they start.
    # Compiling a few layers takes longer than all steps.
    with settings.using(xla=False):
        notebooks.run(name)


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """A link, anchor or API name that does not resolve is an error."""
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
        + ["--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "reference" / "index.html").read_text()
    assert "evonorm_tf.conversion.convert" in page
    # The docstring of a class whose mixin has it is below its heading.
    places = [
        page.index(text)
        for text in (
            'id="evonorm_tf.layers.NormAct"',
            "Normalization and activation in one layer",
            'id="evonorm_tf.layers.norm_act"',
        )
    ]
    assert places == sorted(places)


def test_every_layer_has_its_picture():
    """`python -m benchmarks.layer_plots` draws them."""
    page = (ROOT / "docs" / "layers.md").read_text()
    missing = [
        name
        for name in catalog.names()
        if f"images/layers/{name}.png" not in page
        or not (ROOT / "docs/images/layers" / f"{name}.png").exists()
    ]
    assert not missing


def _blocks():
    """Yields (page, language, needs, text) of every fenced block."""
    for page in PAGES:
        for info, text in _FENCE.findall(page.read_text()):
            language, _, needs = info.partition(" needs=")
            yield page.name, language.strip(), needs, text


def _commands(text):
    """Returns the commands of a block, continued lines joined."""
    joined = text.replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_every_block_says_what_it_is():
    strange = [
        (page, language, needs, text[:60])
        for page, language, needs, text in _blocks()
        if language not in ("sh", "python", "text", "json")
        or not set(filter(None, needs.split(","))) <= set(_NEEDS)
    ]
    assert not strange


def test_every_module_of_a_command_is_there():
    missing = {
        (page, name)
        for page, _, _, text in _blocks()
        for name in _MODULE.findall(text)
        if name.split(".")[0] not in ("venv", "pip", "pytest", "build")
        and not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()
        and not (ROOT / name.replace(".", "/") / "__main__.py").exists()
    }
    assert not missing


def _blocks_to_run():
    seen = set()
    for index, (page, language, needs, text) in enumerate(_blocks()):
        if language != "sh" or needs:
            continue
        commands = set(_commands(text))
        quick = all(_QUICK.search(one) for one in commands)
        quick = quick and not commands <= seen  # On another page as well.
        seen |= commands
        yield pytest.param(
            text,
            quick,
            id=f"{page}-{index}",
            marks=() if quick else pytest.mark.slow,
        )


def _run_here(command):
    """Runs `python -m MODULE ARGUMENTS` in this process."""
    python, option, module, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, f"{command}: {ended.code}"


@pytest.mark.parametrize(("text", "quick"), list(_blocks_to_run()))
def test_commands_run(text, quick, tmp_path, monkeypatch):
    """One block after the other, each in a folder of its own."""
    if quick:
        monkeypatch.chdir(tmp_path)
        for command in _commands(text):
            _run_here(command)
        return
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "docs" / "runs").mkdir()
    for command in _commands(text):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, (
            f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        )
