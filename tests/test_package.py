"""The wheel: light, lazy, typed, and nothing but evonorm_tf in it."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXTRAS = ("tf_keras", "official", "sklearn", "matplotlib", "ray")


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


def test_every_public_name_resolves():
    code = (
        "import evonorm_tf\n"
        "print([n for n in evonorm_tf.__all__ "
        "if getattr(evonorm_tf, n, None) is None])"
    )
    assert _python(code) == "[]"


def test_wheel_ships_the_library_alone(tmp_path):
    source = tmp_path / "source"  # A build leaves files where it is made.
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("evonorm_tf", "classification", "tests"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in files}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"evonorm_tf"}
    assert "evonorm_tf/py.typed" in files
    assert "evonorm_tf/ops/gradient.py" in files
