"""The wheel: light, lazy, typed, and nothing but evonorm_tf in it."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXTRAS = ("tf_keras", "official", "sklearn", "matplotlib", "ray")
# Values, configs, errors and files; the rest runs on the checkout anyway.
SAMPLE = [f"tests/layers/test_{n}.py" for n in ("values", "catalog", "config")]


def _python(code: str) -> str:
    """Runs code in a fresh interpreter, in the checkout; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_lazy():
    heavy = "{'tensorflow', 'keras', 'tf_keras', 'numpy'}"
    code = f"import sys, evonorm_tf; print({heavy} & set(sys.modules))"
    assert _python(code) == "set()"


def test_layers_work_without_the_extras():
    """With TensorFlow alone: the extras are made impossible to import."""
    code = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
import evonorm_tf, tensorflow as tf
x = tf.ones([2, 4, 4, 8])
names = evonorm_tf.names()
for name in names:
    y = evonorm_tf.NormAct(name)(x, training=True)
    assert y.shape == x.shape
print(len(names))
"""
    assert int(_python(code)) == 18


def test_a_saved_model_loads_in_a_new_process(tmp_path):
    """The layers are known to each Keras that was imported before."""
    for name, module in (("keras", "layers"), ("tf_keras", "legacy")):
        code = f"""
import {name} as keras, evonorm_tf.{module} as layers
model = keras.Sequential([keras.Input((4, 4, 8)), layers.NormAct("evonorm_s0")])
model.save({str(tmp_path / name)!r} + ".keras")
"""
        _python(code)
    code = f"""
import keras, tf_keras, evonorm_tf
for one in keras, tf_keras:
    path = {str(tmp_path)!r} + "/" + one.__name__ + ".keras"
    print(one.models.load_model(path).layers[-1].count_params())
"""
    assert _python(code).split() == ["24", "24"]


def test_every_public_name_resolves():
    code = (
        "import evonorm_tf\n"
        "print([n for n in evonorm_tf.__all__ "
        "if getattr(evonorm_tf, n, None) is None])"
    )
    assert _python(code) == "[]"


def test_import_takes_little_beyond_tensorflow():
    """CPU seconds, the least of three: other processes cost none."""
    code = """
import time, tensorflow, keras
start = time.process_time()
import evonorm_tf
evonorm_tf.NormAct
print(time.process_time() - start)
"""
    assert min(float(_python(code)) for _ in range(3)) < 0.5


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # A build leaves files where it is made.
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("evonorm_tf", "classification", "tests"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    command = [sys.executable, "-m", "build", "--wheel"]
    command += ["--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_ships_the_library_alone(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in files}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"evonorm_tf"}
    assert "evonorm_tf/py.typed" in files
    assert "evonorm_tf/ops/gradient.py" in files


def test_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """With TensorFlow alone: what its layers compute is what it should be."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--constraint"]
    install += [ROOT / "constraints.txt", wheel, "pytest"]
    subprocess.run(install, check=True, capture_output=True, timeout=900)
    tests = tmp_path / "tests"
    shutil.copytree(ROOT / "tests" / "layers", tests / "layers")
    for name in ("__init__", "conftest", "cases", "reference"):
        shutil.copy(ROOT / "tests" / f"{name}.py", tests)
    # The checkout must not be what is tested.
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SAMPLE],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
    said = subprocess.run(
        [python, "-c", "import evonorm_tf; print(evonorm_tf.__file__)"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in said.stdout
