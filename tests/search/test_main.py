"""The command line: a real run killed and resumed, show, export, errors."""

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from evonorm_tf import catalog, graphs
from evonorm_tf.search import __main__ as command
from evonorm_tf.search import commands, stages
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.anchors import ANCHORS
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from tests.search.fakes import SMALL, FakePool, small

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture
def finished(tmp_path):
    """A finished search, with made-up numbers."""
    settings = small()
    journal = Journal(str(tmp_path), settings.identity())
    Driver(settings, journal).run(FakePool())
    journal.close()
    return tmp_path


def accepted(folder):
    journal = Journal(str(folder), None)
    trials = [t for t in journal.trials() if t.verdict == "accepted"]
    journal.close()
    return trials


def test_status_adds_up(finished, capsys):
    assert command.main(["status", f"--output={finished}"]) == 0
    shown = capsys.readouterr().out
    rows = dict(re.findall(r"│ ([\w/ ]+?) +│.*│ +([\d,]+) │", shown))
    counts = {k: int(v.replace(",", "")) for k, v in rows.items()}
    assert counts["same training"] == 40  # What was left is what was tried.
    assert counts["quality/efficientnet"] == len(accepted(finished)) > 0
    assert counts["drawn"] > counts["ancestor"] > counts["axes"]
    journal = Journal(str(finished), None)
    spent = sum(stage.cpu for stage in journal.stages())
    journal.close()
    assert f"{spent:,.0f} CPU seconds" in shown


def test_show_prints_a_layer(finished, capsys):
    trial = accepted(finished)[0]
    assert (
        command.main(["show", str(trial.number), f"--output={finished}"]) == 0
    )
    shown = capsys.readouterr().out
    graph = graphs.parse(trial.graph)
    for text in (graph.text(), graphs.formula(graph), graphs.latex(graph)):
        assert text in shown
    for anchor in settings_lib.ANCHORS:
        accuracy = trial.results[f"quality/{anchor}"]["accuracy"]
        assert f"accuracy {accuracy:.4g}" in shown


def test_export_writes_a_layer_that_works_everywhere(finished, capsys):
    trial = accepted(finished)[0]
    assert (
        command.main(["export", str(trial.number), f"--output={finished}"]) == 0
    )
    path = capsys.readouterr().out.split("\n")[0]
    row = catalog.get(path)
    assert row.name == f"searched_b0_{trial.number}"
    assert row.formula == graphs.formula(graphs.parse(trial.graph))
    with open(path) as file:
        about = json.load(file)["about"]
    assert about["results"] == trial.results
    assert settings_lib.make(about["search"]).identity() == small().identity()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--space=c"], "space='c'"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
        (["--config=smal"], "Did you mean small"),
        (["--set=populaton=3"], "Did you mean population"),
        (["--set=population=many"], "population.*an int"),
        (["--set=population=0"], "population.*at least 1"),
        (["--set=population"], "NAME=VALUE"),
        (["--set=anchors=[vgg]"], r"anchors=\['vgg'\]"),
        (["--set=references=[vgg]"], r"bn_relu.*references=\['vgg'\]"),
        (["--set=anchors=[resnet, resnet]"], "each once"),
        (["--set=tournament=1.5"], "tournament=1.5"),
        (["--set=quality=20"], "quality=20"),
        (["--set=criterion=best"], "criterion='best'"),
        (["--ray="], "leave it out.*ray=''"),
        (["show", "0"], "no search in that folder"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    tmp_path, capsys, given, message
):
    assert command.main([*given, f"--output={tmp_path}"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not os.listdir(tmp_path)


def test_an_error_of_the_code_has_its_traceback(tmp_path, capsys, monkeypatch):
    given = [f"--output={tmp_path}", "--set=population=0"]
    assert command.main([*given, "--verbose"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "__post_init__" in shown
    assert "Traceback" not in shown.splitlines()[-1]
    monkeypatch.setattr(commands, "search", None)  # Not callable.
    with pytest.raises(TypeError, match="not callable"):
        command.main([f"--output={tmp_path}"])


def test_an_unknown_trial_and_a_foreign_journal(finished, capsys):
    assert command.main(["show", "4000", f"--output={finished}"]) == 2
    assert "no such trial" in capsys.readouterr().err
    given = [f"--output={finished}", "--debug", "--set=workers=1"]
    assert command.main([*given, "--space=s"]) == 2
    assert "space='b' there and 's' now" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_with_the_way_out(
    tmp_path, capsys, monkeypatch
):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(commands, "LocalPool", lambda settings: FakePool())
    monkeypatch.setattr(Journal, "record", full)
    assert command.main(["--debug", f"--output={tmp_path}"]) == 1
    assert "disk is full. All finished stages are saved" in (
        capsys.readouterr().err
    )


def test_a_disk_that_fills_up_keeps_all_and_room_lets_it_go_on(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(commands, "LocalPool", lambda settings: FakePool())
    given = ["--debug", "--set=workers=1", f"--output={tmp_path}"]
    # The kernel refuses what is written beyond it, as where a disk is full.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        assert command.main(given) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "All finished stages are saved" in capsys.readouterr().err
    kept = rows(tmp_path)
    assert kept
    assert command.main(given) == 0
    after = rows(tmp_path)
    assert len(after) > len(kept)
    assert after[: len(kept)] == kept


def test_a_journal_that_is_none_is_said_so(tmp_path, capsys):
    (tmp_path / "journal.sqlite").write_text("no database\n" * 100)
    for given in (["status"], ["--debug"]):
        assert command.main([*given, f"--output={tmp_path}"]) == 1
        assert "damaged, or not a journal" in capsys.readouterr().err


def test_a_journals_trial_that_is_no_graph_is_named(finished, capsys):
    with sqlite3.connect(finished / "journal.sqlite") as db:
        db.execute("UPDATE trial SET graph = 'n13=tan(x)' WHERE id = 7")
    settings = [f"--set={k}={v}" for k, v in SMALL.items()]
    assert command.main([*settings, f"--output={finished}"]) == 2
    assert re.search(
        "Trial 7 of the journal is not a graph.*Node n13.*Did you mean tanh",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE stage SET result = '{' WHERE trial = 7",
            "stage quality/resnet of trial 7 is not JSON",
        ),
        (
            "UPDATE trial SET rejected = X'00ff' WHERE id = 7",
            "trial 7, rejected is not JSON",
        ),
        (
            "UPDATE run SET value = 'no' WHERE name = 'seed'",
            "setting seed is not JSON.*Received: 'no'",
        ),
        (
            "INSERT INTO uncharged VALUES ('n13=x', 'stability', '', '')",
            "stage stability of layer 'n13=x' beside the search",
        ),
    ],
)
def test_a_damaged_value_of_a_journal_is_named(
    finished, capsys, change, message
):
    with sqlite3.connect(finished / "journal.sqlite") as db:
        db.execute(change)
    assert command.main(["status", f"--output={finished}"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_without_arguments_the_output_is_what_is_missing(capsys):
    with pytest.raises(SystemExit):
        command.main([])
    shown = capsys.readouterr().err
    assert "required: --output" in shown and "COMMAND" not in shown


def test_an_output_that_cannot_be_a_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["--debug", f"--output={tmp_path / 'file' / 'run'}"]
    assert command.main(given) == 1
    assert "cannot be read or written" in capsys.readouterr().err


def test_the_settings_name_the_anchors_that_there_are():
    assert tuple(ANCHORS) == settings_lib.ANCHORS


@pytest.mark.parametrize("name", settings_lib.configs())
def test_the_configs_are_valid(name):
    settings = settings_lib.make(settings_lib.read(name))
    assert stages.names(settings)
    path = settings_lib.configs()[name]
    assert settings_lib.read(str(path)) == settings_lib.read(name)
    assert f"--config={name} " in path.read_text()


# -- the real thing -----------------------------------------------------------


def start(folder):
    """A debug run of two trials on one worker."""
    given = ["--debug", "--set=trials=2", "--set=workers=1", "--set=seconds=0"]
    # One stage each: 10 steps are enough to have something to lose.
    given += ["--set=quality_steps=10", "--set=fitness_steps=10"]
    given += ["--set=quality=0.0", "--set=anchors=[mobilenet]"]
    given += ["--set=stability_steps=2", "--set=nodes=2"]
    return subprocess.Popen(
        [
            sys.executable,
            *("-m", "evonorm_tf.search", f"--output={folder}", *given),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(folder):
    path = folder / "journal.sqlite"
    if not path.exists():
        return []
    with sqlite3.connect(f"file:{path}?mode=rw", uri=True) as db:
        try:
            return db.execute("SELECT * FROM stage").fetchall()
        except sqlite3.OperationalError:  # It has no tables yet.
            return []


def test_a_real_run_killed_goes_on_and_ends(tmp_path):
    process = start(tmp_path)
    end = time.monotonic() + 120
    while not rows(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows(tmp_path)
    assert before
    process = start(tmp_path)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert rows(tmp_path)[: len(before)] == before
    journal = Journal(str(tmp_path), None)
    trials = journal.trials()
    journal.close()
    assert [t.number for t in sorted(trials)] == [0, 1]
    assert all(trial.verdict for trial in trials)
    assert "Funnel" in output
    assert "Best layers" in output
