"""The Python of docs/jax.md runs on JAX, and so do the notebooks."""

import pathlib
import re

import keras
import pytest

from evonorm_tf.ops import settings
from tests import notebooks

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "jax.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture
def restored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize("index", range(len(SNIPPETS)))
def test_snippets_run(index, restored):
    code, before = SNIPPETS[index], settings.get()
    if "keras_report" in code:
        pytest.importorskip("libtpu")
    exec(compile(code, f"snippet-{index}", "exec"), {})
    assert settings.get() == before


@pytest.mark.slow  # The pages' snippets call the same functions.
@pytest.mark.parametrize("name", ["convert", "layer"])
def test_notebooks_run(name, tmp_path, monkeypatch):
    """The third trains with TensorFlow."""
    monkeypatch.chdir(tmp_path)
    notebooks.run(name)
