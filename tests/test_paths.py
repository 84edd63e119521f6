"""No path of a user's goes past `evonorm_tf.files`; read from the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("training", "classification", "detection", "gan", "configs")
PACKAGES += ("evonorm_tf/search",)
FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]
# Modules of which nothing may be used, but for what is named.
FORBIDDEN = {
    "os": {"environ", "cpu_count", "path"},
    "os.path": set(),
    "pathlib": set(),
    "shutil": set(),
    "glob": set(),
    "tensorflow.io.gfile": set(),
    # In a folder of the system's, whatever the user names.
    "tempfile": {"TemporaryFile", "TemporaryDirectory", "mkdtemp"},
}
# Functions of libraries that take a path for a pattern, or leave half a file.
NAMES = {
    *("latest_checkpoint", "CheckpointManager", "list_files", "match_files"),
    *("get_matching_files", "write_file"),
}
# Where a rule does not hold, and why.
ALLOWED = {
    # The one subclass, which takes no path for a pattern.
    ("training/checkpoints.py", "CheckpointManager"),
    # Files of this project, beside the source.
    ("training/report/tables.py", "pathlib"),
    ("training/report/tables.py", "open"),
    ("training/report/page.py", "pathlib"),
    ("training/report/measured.py", "pathlib"),
    ("training/report/claims.py", "pathlib"),
    ("training/workers.py", "pathlib"),
    ("evonorm_tf/search/settings.py", "pathlib"),
    # A locked database, in a folder that `files` says is local.
    ("evonorm_tf/search/journal.py", "os"),
    ("evonorm_tf/search/journal.py", "os.path"),
    # The system's own: processes, their memory, and a pipe that was closed.
    ("evonorm_tf/search/worker.py", "os"),
    ("evonorm_tf/search/worker.py", "open"),
    ("evonorm_tf/search/command_line.py", "os"),
    # Inside a folder that `files.staging` made.
    ("classification/export.py", "pathlib"),
    ("gan/export.py", "pathlib"),
}


TF = "import tensorflow as tf\n"


def _aliases(tree):
    """What each name of a file stands for, as dotted modules."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                found[one.asname or one.name.split(".")[0]] = one.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                found[one.asname or one.name] = f"{node.module}.{one.name}"
    return found


def _dotted(node, aliases):
    """`tf.io.gfile.glob` as "tensorflow.io.gfile.glob"; None for no name."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        above = _dotted(node.value, aliases)
        return above and f"{above}.{node.attr}"
    return None


def problems(source):
    """What a file uses that it must not: (name, line)."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    local = _local_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            name = _dotted(node, aliases) or ""
            module, _, last = name.rpartition(".")
            if module in FORBIDDEN and last not in FORBIDDEN[module]:
                yield module, node.lineno
            if last in NAMES and not name.startswith("self."):
                yield last, node.lineno
        elif _opens(node, aliases) and not _is_local(node.args[0], local):
            yield "open", node.lineno


def _opens(node, aliases):
    return isinstance(node, ast.Call) and _dotted(node.func, aliases) == "open"


def _local_names(tree):
    """Names that `with files.local(...) as NAME` or `writing` binds."""
    return {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name)
        and isinstance(item.context_expr, ast.Call)
        and ast.unparse(item.context_expr.func)
        in ("files.local", "files.writing", "files.staging")
    }


def _is_local(argument, local):
    return isinstance(argument, ast.Name) and argument.id in local


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_go_through_one_module(path):
    here = path.relative_to(ROOT).as_posix()
    found = [
        f"{here}:{line} uses {name}; use evonorm_tf.files or training.runs"
        for name, line in problems(path.read_text())
        if (here, name) not in ALLOWED
    ]
    assert not found


@pytest.mark.parametrize(
    "source, name",
    [
        ("import os\nos.path.join('a', 'b')", "os.path"),
        ("import os\nos.remove('a')", "os"),
        ("import os.path as p\np.exists('a')", "os.path"),
        ("from os import path\npath.exists('a')", "os.path"),
        ("import pathlib\npathlib.Path('a')", "pathlib"),
        ("from pathlib import Path\nPath('a')", "pathlib"),
        ("import shutil\nshutil.rmtree('a')", "shutil"),
        ("import glob\nglob.glob('a')", "glob"),
        (f"{TF}tf.io.gfile.exists('a')", "tensorflow.io.gfile"),
        (f"{TF}tf.train.latest_checkpoint('a')", "latest_checkpoint"),
        (f"{TF}tf.data.Dataset.list_files('a')", "list_files"),
        (f"{TF}tf.io.write_file('a', 'b')", "write_file"),
        ("open('a')", "open"),
        ("with open(path) as file:\n    pass", "open"),
    ],
)
def test_the_walk_finds_what_it_looks_for(source, name):
    assert [found for found, _ in problems(source)] == [name]


def test_the_walk_lets_pass_what_is_fine():
    source = (
        f"import os\n{TF}from evonorm_tf import files\n"
        "os.environ['a']\ntf.io.read_file('a')\n"
        "with files.writing('a') as place, open(place) as file:\n    pass\n"
    )
    assert not list(problems(source))
