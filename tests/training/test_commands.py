"""Errors of the user's input end a command without a traceback."""

import pytest
from absl import flags
from absl.testing import flagsaver

from training import commands


@pytest.mark.parametrize(
    "error", [ValueError, FileNotFoundError, FloatingPointError]
)
def test_the_message_is_what_is_shown(error):
    wanted = pytest.raises(SystemExit, match="ERROR: bad input")
    with wanted as raised, commands.messages():
        raise error("bad input")
    assert raised.value.code != 0


def test_other_errors_and_results_pass():
    with pytest.raises(KeyError), commands.messages():
        raise KeyError("of ours")
    with commands.messages():
        result = 3
    assert result == 3


def test_where_it_was_raised_is_shown_if_asked_for():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    shown, wanted = flagsaver.flagsaver(verbosity=1), pytest.raises(ValueError)
    with shown, wanted, commands.messages():
        raise ValueError("bad input")
