"""The parts of the library import only what is below them.

By whatever means: import statements, inside functions too, and modules named
by strings, in `importlib.import_module` and in the tables of `__getattr__`.
"""

import ast
import pathlib

import pytest

PACKAGE = "evonorm_tf"
ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / PACKAGE).rglob("*.py"))
# A part, a module or a folder of them, imports parts of the lines above.
LINES = (
    ("errors", "files", "torch_pickle", "versions", "yaml_text"),
    ("commands", "doctor", "nets", "ops", "state_dict"),
    ("catalog",),
    ("graphs", "plots", "preflight", "validation"),
    ("choosing", "layer"),
    ("layers", "legacy"),
    ("conversion", "exporting", "models"),
    ("efficientnet_lite", "search", "timm"),
    ("__init__", "__main__"),
)
LINE_OF = {part: line for line, parts in enumerate(LINES) for part in parts}


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def _statements(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "relative imports are not followed here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _strings(tree: ast.AST, package: str) -> set[str]:
    """Modules of ours that strings name: "evonorm_tf.layers", "layers:Name".

    Where something is imported by a string, names within the package and the
    library count too: the f-string around them is not read.
    """
    calls = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    prefixes = [""]
    if calls & {"import_module", "__import__"}:
        prefixes += [f"{PACKAGE}.", f"{package}."]
    texts = {
        node.value.split(":")[0].strip(".")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {
        prefix + text
        for text in texts
        if all(word.isidentifier() for word in text.split("."))
        for prefix in prefixes
        if (prefix + text).startswith(f"{PACKAGE}.")
        if _is_module(prefix + text)
    }


def _parts(source: str, package: str) -> set[str]:
    """The parts of the library that a file imports."""
    tree = ast.parse(source)
    names = _statements(tree) | _strings(tree, package)
    ours = {name for name in names if name.startswith(f"{PACKAGE}.")}
    return {name.split(".")[1] for name in ours}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_what_is_below_it(path):
    folder, *rest = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    assert folder in LINE_OF, f"{folder} has no place in LINES"
    package = f"{PACKAGE}.{folder}" if rest else PACKAGE
    imported = _parts(path.read_text(), package) - {folder}
    # What the package itself exports is of a part too: `export` of exporting.
    known = {part for part in imported if _is_module(f"{PACKAGE}.{part}")}
    above = {p for p in known if LINE_OF[p] >= LINE_OF[folder]}
    assert not above, f"{path} imports {sorted(above)}"


@pytest.mark.parametrize(
    "source",
    [
        "from evonorm_tf import layers",
        "import evonorm_tf.layers",
        "def f():\n    from evonorm_tf.layers import NormAct",
        "importlib.import_module('evonorm_tf.layers')",
        "HOME = 'evonorm_tf.layers:NormAct'",
        "import_module(f'evonorm_tf.layers.{name}')",
        "HOMES = {'NormAct': 'layers'}\nimport_module(f'{__name__}.{x}')",
    ],
)
def test_every_way_to_import_is_seen(source):
    assert _parts(source, PACKAGE) == {"layers"}
