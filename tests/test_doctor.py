"""The doctor finds each known conflict, and none where there is none."""

import dataclasses
import subprocess
import sys

import pytest

from evonorm_tf import doctor, versions

WELL = doctor.Machine(
    python="3.11.7",
    versions={
        "tensorflow": "2.20.0",
        "keras": "3.15.1",
        "tf_keras": "2.20.1",
        "tf-models-official": "2.20.0",
        "numpy": "2.3.5",
        "pillow": "12.3.0",
        "setuptools": "65.5.0",
        "protobuf": "6.33.6",
    },
    environment={},
    devices={"CPU": 1},
)


def _versions(**changes):
    kept = {name: v for name, v in (WELL.versions | changes).items() if v}
    return {"versions": kept}


def test_a_machine_in_order_has_no_findings():
    assert doctor.examine(WELL) == []
    said = doctor.report(WELL, [])
    assert "No known conflict." in said
    assert "1 CPU" in said


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"python": "3.10.13"}, "Python 3.10.13", ">=3.11"),
        ({"python": "3.14.0"}, "Python 3.14.0", "<3.14"),
        (_versions(tensorflow=None), "no tensorflow", "[tensorflow]"),
        ({"environment": {"KERAS_BACKEND": "jax"}}, "no jax", "[jax]"),
        (
            _versions(**{"tensorflow-tpu": "2.20.0"}),
            "tensorflow beside tensorflow-tpu",
            "uninstall -y tensorflow tensorflow-tpu",
        ),
        (_versions(keras=None, tf_keras=None), "no keras", "keras>=3.7"),
        ({"configured": "jax"}, "no jax", "[jax]"),
        (
            {"configured": "torch"},
            "backend torch in keras.json",
            "KERAS_BACKEND=tensorflow",
        ),
        (
            _versions(keras="3.6.0"),
            "keras 3.6.0",
            "keras>=3.7,<3.16",
        ),
        (_versions(setuptools="82.0.1"), "setuptools 82", "setuptools<81"),
        (_versions(numpy="2.4.0"), "numpy 2.4.0", "numpy<2.4"),
        (_versions(pillow="13.0.0"), "pillow 13.0.0", "pillow<13"),
        (_versions(protobuf="7.36.2"), "protobuf 7.36.2", "protobuf<7"),
        (_versions(libtpu="0.0.51"), "libtpu without jax", "[tpu]"),
        (
            {"environment": {"TF_USE_LEGACY_KERAS": "1"}},
            "TF_USE_LEGACY_KERAS",
            "evonorm_tf.legacy",
        ),
        (
            {"environment": {"KERAS_BACKEND": "torch"}},
            "KERAS_BACKEND=torch",
            "KERAS_BACKEND=tensorflow",
        ),
        (
            {"devices": {}, "failure": "exit status 1: undefined symbol"},
            "TensorFlow cannot be imported",
            "reinstall",
        ),
    ],
)
def test_each_conflict_is_found_alone(change, what, fix):
    sick = dataclasses.replace(WELL, **change)
    (found,) = doctor.examine(sick)
    assert what in found.what
    assert fix in found.fix
    said = doctor.report(sick, [found])
    assert f"CONFLICT: {found.what}" in said
    assert found.fix in said


def test_another_tensorflow_fits_the_layers_and_not_the_model_garden():
    newer = _versions(tensorflow="2.21.0", tf_keras="2.21.0")
    found = doctor.examine(dataclasses.replace(WELL, **newer))
    assert [f.what for f in found] == ["tensorflow 2.21.0", "tf_keras 2.21.0"]
    assert found[0].fix == "pip install 'tensorflow>=2.20,<2.21'"
    del newer["versions"]["tf-models-official"]
    alone = dataclasses.replace(WELL, python="3.10.13", **newer)
    assert doctor.examine(alone) == []
    newer["versions"]["tf_keras"] = "2.20.1"
    (found,) = doctor.examine(alone)
    assert found.fix == "pip install 'tf_keras==2.21.*'"


def test_the_layers_on_jax_need_no_tensorflow():
    alone = doctor.Machine(
        python="3.13.1",
        versions={"keras": "3.13.2", "jax": "0.7.2"},
        environment={"KERAS_BACKEND": "jax"},
        devices={"TPU": 4},
    )
    assert doctor.examine(alone) == []
    assert "JAX sees: 4 TPU" in doctor.report(alone, [])
    (found,) = doctor.examine(dataclasses.replace(alone, failure="no jaxlib"))
    assert found.fix.endswith("--force-reinstall jax==0.7.2")
    bare = {"versions": {"jax": "0.7.2", "tf_keras": "2.20.1"}}
    (found,) = doctor.examine(dataclasses.replace(alone, **bare))
    assert found.what == "no keras"


@pytest.mark.parametrize("variable", [None, "", "tensorflow"])
def test_kerases_configuration_file_names_the_backend(
    tmp_path, monkeypatch, variable
):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "_probe", lambda backend: ({}, backend))
    if variable is None:
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
    else:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    seen = doctor.look()
    assert seen.backend == seen.failure == (variable or "jax")
    for content in ("", "[]", "{}"):
        (tmp_path / "keras.json").write_text(content)
        assert doctor.look().backend == "tensorflow"


def test_it_has_a_help(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "look", None)
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--help"])
    assert ended.value.code == 0
    assert "Prints versions" in capsys.readouterr().out


def test_versions_below_the_minimum_are_refused():
    versions.check_minimum("keras", "3.7.0")
    versions.check_minimum("keras", "3.99.0.dev1")
    for name, version in (("keras", "3.6.0"), ("tensorflow", "2.9.1")):
        with pytest.raises(ImportError, match=f"Received: {name} {version}"):
            versions.check_minimum(name, version)


def test_every_checked_package_is_one_that_is_looked_up():
    assert set(WELL.versions) <= set(doctor.PACKAGES)


def test_a_tensorflow_that_breaks_is_told_and_survived(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('symbol xyz')")
    done = subprocess.run(
        [sys.executable, "-m", "evonorm_tf.doctor"],
        capture_output=True,
        text=True,
        env={**doctor.os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "symbol xyz" in done.stdout
    assert "TensorFlow sees: nothing" in done.stdout


def test_here_versions_and_devices_are_found(monkeypatch):
    # Without the other Keras, TensorFlow is imported in three quarters of the
    # time.
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    seen = doctor.look()
    assert not seen.failure
    assert seen.devices["CPU"] == 1
    assert seen.versions["tensorflow"] in versions.GARDEN["tensorflow"][0]
