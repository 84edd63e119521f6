"""Errors of the user's input end a command without a traceback."""

import pytest
from absl import flags
from absl.testing import flagsaver

from classification import experiment as _registers  # noqa: F401
from training import commands, config
from training import flags as training_flags


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


def test_words_that_no_flag_takes_are_refused(monkeypatch, capsys):
    given = ["train", "false"]
    monkeypatch.setattr(commands.app, "run", lambda main: main(given))
    with pytest.raises(SystemExit, match=r"only flags.*'false'"):
        commands.run(print)
    commands.run(print, words=True)
    assert capsys.readouterr().out == f"{given}\n"


@pytest.fixture
def parse():
    """Parses a command line of a head with a default experiment and folder."""
    before = set(flags.FLAGS)
    training_flags.define_flags("usual", "runs/usual")
    yield lambda *line: flags.FLAGS(["train", *line])
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def test_overrides_add_up(parse):
    parse("--params_override=task.seed=5", "--params_override=task.name=a")
    params = config.parse(
        "digits_resnet", params_override=flags.FLAGS.params_override
    )
    assert (params.task.seed, params.task.name) == (5, "a")


def test_the_default_folder_is_of_the_default_experiment(parse):
    parse()
    assert flags.FLAGS.model_dir == "runs/usual"
    with pytest.raises(flags.IllegalFlagValueError, match="give one of"):
        parse("--experiment=other")
    parse("--experiment=other", "--model_dir=runs/usual")


@pytest.mark.parametrize(
    "line, folder",
    [
        ([], "runs/usual"),
        (["--debug"], "runs/debug/usual"),
        (["--row=coco/r50_fpn/bn_relu"], "runs/coco/r50_fpn/bn_relu"),
        (["--row=a/b", "--debug"], "runs/debug/a/b"),
        (["--row=a/b", "--debug", "--model_dir=runs/c"], "runs/c"),
        (["--experiment=other", "--model_dir=runs/c"], "runs/c"),
    ],
)
def test_a_debug_run_is_not_in_the_folder_of_the_full_one(parse, line, folder):
    parse(*line)
    assert training_flags.folder() == folder
