"""Runs the tests of `iterators_alone`, in a process without other iterators."""

import pathlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)]
)
def test_iterators_in_a_process_of_their_own(which):
    file = pathlib.Path(__file__).with_name("iterators_alone.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        # Without the settings of other tests: they import TensorFlow.
        [*command, "--noconftest", "-m", which, str(file)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout
