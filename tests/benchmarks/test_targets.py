"""Time and memory of commands: those of the processes that they start too."""

import subprocess
import sys

import pytest

from benchmarks import targets

_CHILD = """
import time
kept, start = bytearray(200_000_000), time.process_time()
kept[::4096] = b"x" * len(range(0, 200_000_000, 4096))  # Every page.
while time.process_time() < start + 0.5:
    pass
time.sleep(1)
"""
_PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, '-c', {_CHILD!r}], check=True)
"""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(targets, "INTERVAL", 0.1)


def test_child_processes_are_counted():
    row = targets.measure("child", [sys.executable, "-c", _PARENT])
    assert 0.2 < row["gigabytes"] < 0.4
    assert 0.5 / 60 < row["processor_minutes"] < row["minutes"]


def test_an_empty_folder_is_given_and_a_failure_is_an_error():
    code = "import os, sys; sys.exit(os.listdir(sys.argv[1]) != [])"
    targets.measure("folder", [sys.executable, "-c", code, "{}"])
    with pytest.raises(subprocess.CalledProcessError):
        targets.measure("fails", [sys.executable, "-c", "raise SystemExit(3)"])
