"""Commands: silent before their first line, listed, and found by old names."""

import os
import subprocess
import sys

import pytest

import classification
import detection
import evonorm_tf
import gan
from evonorm_tf import commands
from training.commands import dispatch


def _run(*arguments):
    environment = os.environ.copy()
    environment.pop(commands.LOG_LEVEL, None)
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


# A run is watched in tests/classification/test_driver.py.
@pytest.mark.slow
def test_a_command_says_nothing_of_tensorflow_before_its_first_line():
    # It looks for devices, of which TensorFlow has most to say.
    found = _run("-m", "classification.export", "--model_dir=x",
                 "--output_dir=y", "--format=z")  # fmt: skip
    assert "must be some of" in found.stderr
    assert found.stderr.startswith("ERROR: "), found.stderr[:300]
    assert not found.stdout


@pytest.mark.parametrize(
    "line, level",
    [
        (["-m", "gan.train", "--debug"], "3"),
        (["-m", "gan.train", "--verbosity=0"], None),
        (["script.py"], None),
        (["-m"], None),
    ],
)
def test_verbosity_leaves_the_log_level_alone(line, level, monkeypatch):
    monkeypatch.delenv(commands.LOG_LEVEL, raising=False)
    commands.start(line=["python", *line])
    assert os.environ.get(commands.LOG_LEVEL) == level
    monkeypatch.setenv(commands.LOG_LEVEL, "0")
    commands.start(line=["python", *line])
    assert os.environ[commands.LOG_LEVEL] == "0", "the requested level"


@pytest.mark.slow
def test_help_lists_the_flags_that_heads_share():
    found = _run("-m", "classification.train", "--help")
    for flag in ("--row", "--experiment", "--model_dir", "--params_override"):
        assert f"\n  {flag}:" in found.stdout
    assert "--[no]debug" in found.stdout


def test_a_renamed_command_is_named():
    with pytest.raises(SystemExit, match=r"-m new check.*Received.*-m old"):
        commands.start({"old": "new check"}, ["python", "-m", "old"])
    found = _run("-m", "detection.count", "coco/")
    assert found.returncode == 1
    assert "renamed: python -m detection.model_cost" in found.stderr


@pytest.mark.parametrize(
    "package, known",
    [
        (evonorm_tf, {"search", "doctor", "preflight", "exporting"}),
        (classification, {"train", "data", "export", "demo", "plot"}),
        (detection, {"train", "data", "export", "predict", "evaluate"}),
        (gan, {"train", "data", "sample", "fid", "evaluate", "plot"}),
    ],
)
def test_a_package_lists_its_commands(package, known):
    text = commands.overview(package)
    for name in known:
        assert f"python -m {package.__name__}.{name} " in text
    assert "python -m evonorm_tf.commands" not in text


def test_python_m_package_lists_them():
    found = _run("-m", "classification")
    assert found.stdout.strip() == commands.overview(classification)
    assert not found.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("module", ["evonorm_tf", "evonorm_tf.search"])
def test_a_reader_that_stops_ends_a_command_without_a_traceback(
    module, unbuffered
):
    read, write = os.pipe()
    os.close(read)  # As `head` does when it has its lines.
    try:
        found = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(write)
    assert not found.stderr


def test_another_broken_pipe_is_reported(capsys):
    error = BrokenPipeError("of a worker")
    commands._report(BrokenPipeError, error, None)
    assert "BrokenPipeError: of a worker" in capsys.readouterr().err


@pytest.mark.parametrize("package", [evonorm_tf, classification, gan])
def test_a_word_after_a_package_is_no_command(package, monkeypatch, capsys):
    name = package.__name__
    known = "search" if package is evonorm_tf else "export"
    monkeypatch.setattr(sys, "argv", ["python", known[:-1]])
    said = rf"mean {name}\.{known}.*Received: python -m {name} {known[:-1]}$"
    with pytest.raises(SystemExit, match=said):
        commands.list_commands(package)
    assert not capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["python", "--help"])
    commands.list_commands(package)
    assert f"{name}.{known}" in capsys.readouterr().out


def test_unknown_subcommands_are_listed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["data", "chek"])
    said = r"(?s)check .*Did you mean check\? Received: chek"
    with pytest.raises(SystemExit, match=said):
        dispatch("gan.data", {"check": commands})
