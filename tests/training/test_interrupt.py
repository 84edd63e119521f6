"""Ctrl-C ends a run in plain words, with the shell's code for it.

A command is stopped by it in tests/classification/test_driver.py.
"""

import pytest

from tests.classification import small
from training import driver, runs


def test_says_how_to_go_on(tmp_path):
    display = small.Silent()
    stoppable = driver.stoppable(runs.Run(tmp_path), display)
    with pytest.raises(SystemExit) as ended, stoppable:
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "nothing was saved yet" in display.lines[-1]
    assert "The same command resumes" in display.lines[-1]


def test_other_errors_pass(tmp_path):
    stoppable = driver.stoppable(runs.Run(tmp_path), small.Silent())
    with pytest.raises(ZeroDivisionError), stoppable:
        raise ZeroDivisionError
