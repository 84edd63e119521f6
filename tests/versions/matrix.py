"""The corners of `evonorm_tf.versions`, tested with the built wheel.

For each corner a virtual environment is made that has the wheel, the
corner's versions and pytest, and nothing of the checkout but a copy of the
layer tests; it is removed afterwards. Results are kept in
docs/runs/versions.json, which docs/versions.md shows.
"""

import dataclasses
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "runs" / "versions.json"
PAGE = ROOT / "docs" / "versions.md"
# What the layer tests need of tests/ beside their own folder.
SHARED = ("__init__", "cases", "conftest", "reference")
_SECONDS = 3600


class Corner(NamedTuple):
    """Versions to test together, and why these.

    Without TensorFlow and tf_keras the layers run on JAX, one of `others`.
    """

    python: str
    tensorflow: str
    keras: str
    tf_keras: str
    why: str
    others: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        return self[:4]

    @property
    def kits(self) -> tuple[str, ...]:
        """What the smoke test is run with, one after the other."""
        return ("keras", "tf_keras") if self.tf_keras else ("jax",)


CORNERS = (
    Corner("3.10", "2.16.2", "3.7.0", "2.16.0", "the oldest of each"),
    Corner("3.10", "2.21.0", "3.12.4", "2.21.0", "the newest for Python 3.10"),
    Corner("3.11", "2.17.1", "3.15.1", "2.17.0", "an older TensorFlow"),
    Corner("3.11", "2.20.0", "3.15.1", "2.20.1", "`make setup`"),
    Corner("3.12", "2.18.1", "3.7.0", "2.18.0", "an older TensorFlow"),
    Corner("3.12", "2.19.1", "3.10.0", "2.19.0", "an older TensorFlow"),
    Corner("3.12", "2.20.0", "3.13.2", "2.20.1", "Kaggle"),
    Corner(
        *("3.13", "2.20.0", "3.13.2", "2.20.1", "Colab"),
        ("numpy==2.1.3", "protobuf==5.29.6"),
    ),
    Corner("3.13", "2.21.0", "3.15.1", "2.21.0", "the newest of each"),
    Corner("3.13", "", "3.13.2", "", "JAX alone", ("jax==0.7.2",)),
)


def build_wheel(folder: pathlib.Path) -> pathlib.Path:
    """Builds the wheel from a copy of the sources: a build leaves files."""
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # Others than the library, which must not get into the wheel.
    for name in ("evonorm_tf", "training", "configs"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    command = [sys.executable, "-m", "build", "--wheel"]
    command += ["--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def copy_tests(folder: pathlib.Path) -> None:
    """The layer tests and the smoke test, apart from the checkout."""
    for name in ("layers", "versions"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name)
    for name in SHARED:
        shutil.copy(ROOT / "tests" / f"{name}.py", folder / "tests")


def interpreter(version: str) -> str | None:
    """An interpreter of that version that can make environments."""
    home = os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python")
    for python in (f"python{version}", *sorted(glob.glob(home))):
        try:
            command = [python, "-c", "import ensurepip"]
            done = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return python
    return None


@dataclasses.dataclass
class Environment:
    """A virtual environment in `folder`, whose `cwd` holds the tests."""

    folder: pathlib.Path
    cwd: pathlib.Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Runs `python -m command`, without the checkout on its path."""
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [self.python, "-m", *command],
            cwd=self.cwd,
            env=variables | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )

    def install(self, *packages: str) -> None:
        """Installs with pip.

        Raises:
          RuntimeError: pip failed; with what it printed last.
        """
        done = self.run(
            *("pip", "install", "--quiet", "--disable-pip-version-check"),
            "--no-compile",  # Most of it is never imported.
            *packages,
        )
        if done.returncode:
            raise RuntimeError(f"pip: {_tail(done.stdout)}")


def _tail(printed: str, lines: int = 30) -> str:
    return "\n".join(printed.strip().splitlines()[-lines:])


def run_corner(
    corner: Corner, wheel: pathlib.Path, folder: pathlib.Path, layers: bool
) -> dict[str, Any]:
    """Installs a corner and runs its tests.

    Args:
      corner: the versions.
      wheel: to install.
      folder: an empty one to work in.
      layers: whether to run the layer tests after the smoke tests.

    Returns:
      Its versions, "layers" (what pytest counted) and "smoke" by kit.
    """
    found = {**corner._asdict(), "layers": "not run", "smoke": {}}
    python = interpreter(corner.python)
    if python is None:
        return found | {"layers": f"not run: no python{corner.python} here"}
    begin = time.monotonic()
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    copy_tests(folder)
    env = Environment(folder / "env", folder)
    try:
        packages = [str(wheel), f"keras=={corner.keras}", *corner.others]
        if corner.tensorflow:
            packages.append(f"tensorflow-cpu=={corner.tensorflow}")
        env.install("pytest", *packages)
        if corner.tf_keras:  # It would install tensorflow as well.
            env.install("--no-deps", f"tf_keras=={corner.tf_keras}")
        show = "import numpy; print(numpy.__version__)"
        found["numpy"] = subprocess.check_output(
            [env.python, "-c", show], text=True
        ).strip()
        for name in corner.kits:
            found["smoke"][name] = _smoke(env, name)
            print(f"  smoke test, {name}: {found['smoke'][name]}", flush=True)
        if layers and corner.tensorflow:
            found["layers"] = _layer_tests(env)
            print(f"  layer tests: {found['layers']}", flush=True)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(error, flush=True)
        found["layers"] = f"FAILED: {str(error).splitlines()[-1][:80]}"
    finally:
        shutil.rmtree(folder / "env")
    found["minutes"] = round((time.monotonic() - begin) / 60, 1)
    return found


def _commit() -> str:
    """The commit that is tested, with "+" for changes on top of it."""

    def git(*given: str) -> str:
        command = ["git", "-C", str(ROOT), *given]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip()

    sources = ("setup.py", "evonorm_tf", "tests")
    changed = git("status", "--porcelain", "--", *sources)
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _smoke(env: Environment, name: str) -> str:
    done = env.run("tests.versions.smoke", name)
    if done.returncode == 0:
        return "passed"
    print(_tail(done.stdout, 60), flush=True)
    steps = re.findall(r"^(\w+): FAILED$", done.stdout, re.M)
    return f"FAILED: {', '.join(steps) or 'import'}"


def _layer_tests(env: Environment) -> str:
    done = env.run(
        *("pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"),
        *("--override-ini=markers=slow", "tests/layers"),
    )
    (last,) = done.stdout.strip().splitlines()[-1:] or [""]
    counted = ", ".join(
        f"{int(count):,} {word}"
        for count, word in re.findall(
            r"(\d+) (failed|error|passed|skipped)", last
        )
    )
    if done.returncode == 0:
        return counted
    print(_tail(done.stdout, 60), flush=True)
    return f"FAILED: {counted or last[:80]}"


def read() -> list[dict[str, Any]]:
    """The results kept, in the order of CORNERS."""
    if not RESULTS.exists():
        return []
    return json.loads(RESULTS.read_text())["corners"]


def write(results: list[dict[str, Any]]) -> None:
    """Keeps results over the earlier ones of the same corners."""
    keys = [corner.key for corner in CORNERS]
    kept = {_key(found): found for found in [*read(), *results]}
    ordered = [kept[key] for key in keys if key in kept]
    document = {"command": "make test-versions", "corners": ordered}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(page(ordered))


def _key(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(found[name] for name in Corner._fields[:4])


def passed(found: dict[str, Any]) -> bool:
    """Whether a corner was run, its layer tests perhaps not, and passed."""
    words = [found["layers"], *found["smoke"].values()]
    return bool(found["smoke"]) and "FAILED" not in " ".join(words)


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    head = ["Python", "TensorFlow", "Keras", "tf_keras", "NumPy", "why"]
    head += ["smoke test, Keras 3", "smoke test, tf_keras", "layer tests"]
    head += ["commit"]
    rows = [
        [
            *(word or "none" for word in _key(found)),
            *(found.get("numpy", ""), found["why"]),
            *(_shown(found["smoke"], kits) for kits in _COLUMNS),
            *(found["layers"], found["commit"]),
        ]
        for found in results
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Which results of the smoke test a column shows.
_COLUMNS = (("keras", "jax"), ("tf_keras",))


def _shown(smoke: dict[str, str], kits: tuple[str, ...]) -> str:
    found = [smoke[kit] for kit in kits if kit in smoke]
    return found[0] if found else "not run"


def page(results: list[dict[str, Any]]) -> str:
    """docs/versions.md."""
    return _PAGE.format(table=table(results))


_PAGE = """# Versions

The layers need Keras 3.7 or newer, or tf_keras, and TensorFlow 2.16 or newer.
TensorFlow is not installed by default, so an existing installation is kept:

```sh needs=install
pip install .                  # keeps the TensorFlow that is installed
pip install '.[tensorflow]'    # installs TensorFlow too
```

The training code (classification, detection, image synthesis) uses the Model
Garden, which needs TensorFlow 2.20 and Python 3.11 to 3.13. `make setup` uses
the first of these Pythons that it finds; constraints.txt pins all packages for
all three. `python -m evonorm_tf.doctor` compares an installation with the
versions below.

The table lists tests of the built wheel, each row in its own environment with
`tensorflow-cpu`. The layer tests are those of `tests/layers` for both Kerases.
The smoke test imports every module; builds, trains, saves and loads all six
EvoNorms; trains without XLA and in mixed precision; converts a MobileNetV2;
builds a network by name; and exports TFLite and SavedModel files.

{table}

Written by `make test-versions`.
"""


def run(chosen: list[Corner], layers: bool) -> bool:
    """Runs corners, one environment at a time; whether all passed."""
    commit, results = _commit(), []
    with tempfile.TemporaryDirectory() as top:
        build = pathlib.Path(top) / "build"
        build.mkdir()
        wheel = build_wheel(build)
        for number, corner in enumerate(chosen):
            print(
                f"Python {corner.python}, TensorFlow "
                f"{corner.tensorflow or 'none'}, Keras {corner.keras}: "
                f"{corner.why}",
                flush=True,
            )
            folder = pathlib.Path(top) / str(number)
            folder.mkdir()
            found = run_corner(corner, wheel, folder, layers)
            results.append(found | {"commit": commit})
            write(results)
    print(table(results))
    return all(map(passed, results))
