"""Imports point one way; read from the source, not from memory.

The order inside the library is in `test_library_imports.py`.
"""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADS = ("classification", "detection", "gan")
FILES = [
    path
    for top in ("evonorm_tf", "training", *HEADS, "configs", "benchmarks")
    for path in sorted((ROOT / top).rglob("*.py"))
]
# Who may import what, by the start of the file's path.
KERAS3 = ("evonorm_tf/layers.py", "evonorm_tf/models.py")
KERAS3 += ("benchmarks/",)
LEGACY = ("evonorm_tf/legacy.py", "evonorm_tf/models.py")
LEGACY += ("training/",)
LEGACY += ("evonorm_tf/search/", "benchmarks/", *(f"{h}/" for h in HEADS))
GARDEN = ("training/", "benchmarks/", *(f"{h}/" for h in HEADS))
JAX = ("evonorm_tf/preflight/", "evonorm_tf/ops/jax.py", "benchmarks/")
ALLOWED = {"keras": KERAS3, "tf_keras": LEGACY, "official": GARDEN}
ALLOWED |= {"jax": JAX, "jaxlib": JAX}


def _imports(path: pathlib.Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    here = path.relative_to(ROOT).as_posix()
    for name in _imports(path):
        top = name.split(".")[0]
        if top in ALLOWED:
            assert here.startswith(ALLOWED[top]), f"{here} imports {name}"
        if here.startswith("evonorm_tf/"):
            assert top not in {*HEADS, "training"}, f"{here} imports {name}"
        if here.startswith("evonorm_tf/search/") and "/ablation/" not in here:
            # What runs a search does not depend on what compares it.
            assert "search.ablation" not in name, f"{here} imports {name}"
        if here.startswith("training/"):
            assert top not in HEADS, f"{here} imports a head: {name}"
        for head in HEADS:
            if here.startswith(f"{head}/"):
                assert top not in set(HEADS) - {head}, f"{here}: {name}"
        if here.startswith("configs/") and top in HEADS:
            # The one command over all heads: they register their tables.
            assert here == "configs/tables.py", f"{here} imports {name}"
            assert name == f"{top}.tables.TABLES", f"{here} imports {name}"
        assert top != "configs", f"{here} imports data by name: {name}"
        if here.startswith("evonorm_tf/nets/"):
            assert not name.startswith("tensorflow.keras")
            kin = ("evonorm_tf.nets", "evonorm_tf.errors")
            assert top != "evonorm_tf" or name.startswith(kin)


PARTS = ("training", *HEADS, "configs")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_outside_the_library_imports_by_a_string(path):
    if path.relative_to(ROOT).parts[0] not in PARTS:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node, "attr", getattr(node, "id", ""))
        assert name not in ("import_module", "__import__"), path


def test_no_files_import_each_other():
    """Cycles hide who needs whom, inside functions as on top."""
    modules = {}
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in PARTS:
            name = ".".join(parts).removesuffix(".__init__")
            modules[name] = _imports(path)
    edges = {
        name: {_module(found, modules) for found in imports} - {name, None}
        for name, imports in modules.items()
    }
    assert list(graphlib.TopologicalSorter(edges).static_order())


def _module(name, modules):
    """The file that an imported name is of."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None
