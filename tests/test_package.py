"""The wheel: light, lazy, typed, and all of it works without the checkout."""

import email
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import pytest
import tf_keras

from evonorm_tf import layers, legacy
from tests.versions import matrix

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXTRAS = ("tf_keras", "official", "sklearn", "matplotlib", "ray", "yaml")
STANDARD = sys.stdlib_module_names
# Other packages of the checkout; whoever installs the wheel has none of them.
CHECKOUT = ("training", "classification", "detection", "gan", "configs")


def _python(code: str, *flags: str, path: str = str(ROOT)) -> str:
    """What code prints in a fresh interpreter with that PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=path.split(os.pathsep)[0],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_lazy():
    """In modules, not in time: 36 of them, of Python's own, take 20 ms."""
    code = """
import sys
before = set(sys.modules)
import evonorm_tf
print(*sorted(set(sys.modules) - before))
"""
    imported = set(_python(code, "-S").split())
    others = {m for m in imported if m.split(".")[0] not in STANDARD}
    assert others == {"evonorm_tf", "evonorm_tf.commands"}
    assert len(imported) < 60


_WITHOUT_EXTRAS = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
before = len(sys.modules)
import evonorm_tf
evonorm_tf.NormAct
assert len(sys.modules) - before < 60, len(sys.modules) - before
for name in evonorm_tf.__all__:
    assert getattr(evonorm_tf, name) is not None, name
x = tf.ones([2, 4, 4, 8])
for name in evonorm_tf.names():
    y = evonorm_tf.NormAct(name)(x, training=True)
    assert y.shape == x.shape
print(len(evonorm_tf.names()))
"""


def test_what_is_missing_or_too_old_is_named():
    code = """
import importlib, sys, types
for name, user in (("keras", "layers"), ("tensorflow", "legacy")):
    sys.modules[name] = None
    try:
        importlib.import_module("evonorm_tf." + user)
    except ImportError as error:
        print(error)
sys.modules["keras"] = types.ModuleType("keras")
sys.modules["keras"].__version__ = "3.6.0"
try:
    import evonorm_tf.layers
except ImportError as error:
    print(error)
"""
    no_keras, no_tensorflow, old = _python(code).splitlines()
    assert "keras, which is not installed" in no_keras
    assert "tensorflow, which is not installed" in no_tensorflow
    assert "keras 3.7 or newer" in old and "Received: keras 3.6.0" in old


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The built wheel."""
    return matrix.build_wheel(tmp_path_factory.mktemp("wheel"))


def test_wheel_ships_the_library_alone(wheel):
    archive = zipfile.ZipFile(wheel)
    files = archive.namelist()
    tops = {name.split("/")[0] for name in files}
    (info,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"evonorm_tf", info}
    assert "evonorm_tf/py.typed" in files
    assert "evonorm_tf/search/configs/small.yaml" in files
    assert any(f.startswith(info) and f.endswith("/LICENSE") for f in files)
    about = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    assert about["License"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.10"
    needed = [r for r in about.get_all("Requires-Dist") if "extra" not in r]
    assert needed == ["keras>=3.7", "numpy"]
    assert about["Project-URL"] is None and about["Home-Page"] is None


def test_wheel_needs_nothing_of_the_checkout_nor_the_extras(wheel, tmp_path):
    """Every module of it imported, where only the packages of pip are.

    A process that is forked where TensorFlow is imported makes the extras
    impossible to import, and uses all layers. The other one first loads saved
    models: the layers are known to each Keras that was imported. -S keeps the
    editable installation of the checkout from being found.
    """
    for kit, ours in ((keras, layers), (tf_keras, legacy)):
        inputs = kit.Input((4, 4, 8))
        model = kit.Model(inputs, ours.NormAct("evonorm_s0")(inputs))
        model.save(tmp_path / f"{kit.__name__}.keras")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = f"""
import os, pkgutil, sys
import keras, tensorflow as tf
if not os.fork():
    exec({_WITHOUT_EXTRAS!r})
    sys.exit()
assert not os.wait()[1], "without the extras"
for name in {CHECKOUT!r}:
    sys.modules[name] = None
import tf_keras, evonorm_tf
for one in keras, tf_keras:
    path = {str(tmp_path)!r} + "/" + one.__name__ + ".keras"
    print(one.models.load_model(path).layers[-1].count_params())
for found in pkgutil.walk_packages(evonorm_tf.__path__, "evonorm_tf."):
    __import__(found.name)
from evonorm_tf.search import settings
for name in settings.configs():
    settings.make(settings.read(name))
print(evonorm_tf.__file__, len(settings.configs()))
"""
    packages = pathlib.Path(pytest.__file__).parents[1]
    path = os.pathsep.join(map(str, (tmp_path, packages)))
    names, *parameters, file, count = _python(code, "-S", path=path).split()
    assert int(names) >= 18
    assert parameters == ["24", "24"]
    assert file == str(tmp_path / "evonorm_tf" / "__init__.py")
    configs = ROOT / "evonorm_tf" / "search" / "configs"
    assert int(count) == len(list(configs.glob("*.yaml"))) > 0


@pytest.mark.slow
def test_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """With all of its extras: layers, convert, export, search, preflight."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    env = matrix.Environment(tmp_path / "env", tmp_path)
    env.install(
        *("--constraint", str(ROOT / "constraints.txt"), "pytest"),
        f"{wheel}[tensorflow,search,export,tpu]",
    )
    matrix.copy_tests(tmp_path)
    for name in ("keras", "tf_keras"):
        done = env.run("tests.versions.smoke", name, "--extras")
        assert done.returncode == 0, done.stdout[-5000:]
