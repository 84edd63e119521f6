"""The journal: committed means kept, and one driver, one search a file."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from evonorm_tf.search import journal as journal_lib
from evonorm_tf.search.evolution import Evolution
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.stages import Task
from tests.search.fakes import outcome, small

SETTINGS = small()


def begun(folder):
    journal = Journal(str(folder), SETTINGS.identity())
    proposal = Evolution(SETTINGS).ask(0)
    journal.propose(0, proposal)
    return journal, proposal


def test_what_is_written_is_read(tmp_path):
    journal, proposal = begun(tmp_path)
    task = Task(0, "quality/resnet", proposal.graph.text())
    journal.record(outcome(task), "", last=False)
    (trial,) = journal.trials()
    assert trial.verdict is None
    assert trial.graph == proposal.graph.text()
    assert trial.rejected == proposal.rejected
    assert trial.results == {"quality/resnet": outcome(task).result}
    task = task._replace(stage="stability")
    journal.record(outcome(task), "too steep", last=False)
    (trial,) = journal.trials()
    assert (trial.verdict, trial.reason) == ("rejected", "stability: too steep")
    journal.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "s"}, "space='b' there and 's' now"),
        ({"seed": 1}, "seed=0 there and 1 now"),
        ({"decay": 0.5}, "decay=0.0001 there"),
    ],
)
def test_another_searchs_journal_is_refused(tmp_path, change, message):
    journal, proposal = begun(tmp_path)
    task = Task(0, "quality/resnet", proposal.graph.text())
    journal.record(outcome(task), "", last=False)
    journal.close()
    other = small(**change).identity()
    with pytest.raises(ValueError, match=message):
        Journal(str(tmp_path), other)
    # What says how and not what is computed may change.
    same = small(workers=3, timeout=5.0, trials=99).identity()
    Journal(str(tmp_path), same).close()


def test_a_search_that_measured_nothing_does_not_block_its_folder(tmp_path):
    begun(tmp_path)[0].close()
    other = small(space="s")
    journal = Journal(str(tmp_path), other.identity())
    assert journal.settings().identity() == other.identity()
    assert journal.trials() == []
    task = Task(-1, "stability", Evolution(other).ask(0).graph.text())
    journal.record_uncharged(outcome(task), "")
    journal.close()
    with pytest.raises(ValueError, match="space='s' there and 'b' now"):
        Journal(str(tmp_path), SETTINGS.identity())


def test_another_versions_journal_is_refused(tmp_path, monkeypatch):
    begun(tmp_path)[0].close()
    monkeypatch.setattr(journal_lib, "VERSION", 0)
    with pytest.raises(ValueError, match=r"version=4 there and 0 now"):
        Journal(str(tmp_path), SETTINGS.identity())
    with pytest.raises(ValueError, match=r"search of version 4, but this is"):
        Journal(str(tmp_path), None)


def test_two_drivers_do_not_share_a_journal(tmp_path):
    first, _ = begun(tmp_path)
    with pytest.raises(RuntimeError, match="Another search is writing"):
        Journal(str(tmp_path), SETTINGS.identity())
    reader = Journal(str(tmp_path), None)  # Reading is free.
    assert len(reader.trials()) == 1
    first.close()
    reader.close()
    Journal(str(tmp_path), SETTINGS.identity()).close()


def test_a_folder_without_a_search_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="no search in that folder"):
        Journal(str(tmp_path), None)
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_an_error_and_keeps_what_was_written(tmp_path):
    journal, proposal = begun(tmp_path)
    # SQLite's own limit raises what a full disk does.
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count={pages + 2}")
    written = 1
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for number in range(1, 10_000):
            journal.propose(number, proposal)
            written += 1
    journal.close()
    journal = Journal(str(tmp_path), SETTINGS.identity())
    assert 1 < len(journal.trials()) == written
    journal.propose(written, proposal)  # And there is room again.
    journal.close()


_WRITER = """
import sys
from tests.search.test_journal import SETTINGS
from evonorm_tf.search.evolution import Evolution
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.stages import Outcome, Task
journal = Journal(sys.argv[1], SETTINGS.identity())
graph = Evolution(SETTINGS).ask(0)
first = len(journal.trials())
for number in range(first, first + 100_000):
    journal.propose(number, graph)
    task = Task(number, "quality/resnet", "")
    journal.record(Outcome(task, {"n": number}, "", 0.0), "no", last=False)
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path):
    acknowledged = []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        seen = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().split()]
        process.wait()
        acknowledged += seen
    journal = Journal(str(tmp_path), SETTINGS.identity())
    results = {t.number: t.results for t in journal.trials()}
    for number in acknowledged:
        assert results[number] == {"quality/resnet": {"n": number}}
    # And at most the one under way at each kill beyond them.
    assert len(results) - len(acknowledged) <= 6
    journal.close()


_KILLED = """
import os, signal, sys
from tests.search import test_journal
journal, proposal = test_journal.begun(sys.argv[1])
for number in range(1, 20):
    journal.propose(number, proposal)
if sys.argv[2] == "within":
    journal._db.execute("PRAGMA cache_size=1")
    journal._db.execute("PRAGMA cache_spill=1")
    journal._db.execute("BEGIN")
    for number in range(20, 4000):
        journal._db.execute(
            "INSERT INTO trial (id, graph, rejected) VALUES (?, ?, '{}')",
            (number, proposal.graph.text()),
        )
os.kill(os.getpid(), int(sys.argv[3]))
"""


def killed(folder, where, number):
    given = [sys.executable, "-c", _KILLED, str(folder), where, str(number)]
    assert subprocess.run(given).returncode == -number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_one_file_of_a_killed_search_is_all_of_it(tmp_path, number):
    killed(tmp_path / "run", "after", int(number))
    assert sorted(os.listdir(tmp_path / "run")) == [
        *(journal_lib.FILE, journal_lib.FILE + ".lock"),
    ]
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / journal_lib.FILE, tmp_path / "copy")
    for identity in (None, SETTINGS.identity()):
        journal = Journal(str(tmp_path / "copy"), identity)
        assert [trial.number for trial in journal.trials()] == [*range(20)]
        journal.close()


@pytest.mark.parametrize("identity", [None, SETTINGS.identity()])
def test_a_transaction_that_a_kill_interrupted_is_undone(tmp_path, identity):
    killed(tmp_path, "within", int(signal.SIGKILL))
    assert (tmp_path / f"{journal_lib.FILE}-journal").exists()
    journal = Journal(str(tmp_path), identity)
    assert [trial.number for trial in journal.trials()] == [*range(20)]
    journal.close()


def with_log(folder):
    """The journal of an older search, whose driver has it open."""
    begun(folder)[0].close()
    db = sqlite3.connect(folder / journal_lib.FILE)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(
        "INSERT INTO trial (id, graph, rejected) VALUES (1, 'n13=x', '{}')"
    )
    db.commit()
    return db


def test_a_journal_with_a_log_is_resumed_in_one_file(tmp_path):
    other = tmp_path / "killed"
    other.mkdir()
    db = with_log(tmp_path)
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"{journal_lib.FILE}{end}", other)
    reader = Journal(str(tmp_path), None)  # While the older search runs.
    assert len(reader.trials()) == 2
    reader.close()
    db.close()
    journal = Journal(str(other), SETTINGS.identity())
    assert len(journal.trials()) == 2
    assert not (other / f"{journal_lib.FILE}-wal").exists()
    journal.close()


@pytest.mark.parametrize("identity", [None, SETTINGS.identity()])
def test_a_journal_that_lost_its_log_is_no_new_search(tmp_path, identity):
    db = sqlite3.connect(tmp_path / journal_lib.FILE)
    db.execute("PRAGMA journal_mode=WAL")
    db.close()
    for _ in range(2):  # Also once the lock's file is there.
        with pytest.raises(ValueError, match=r"has no tables.*-wal beside it"):
            Journal(str(tmp_path), identity)


def test_readers_and_the_driver_do_not_wait_for_each_other(tmp_path):
    driver, proposal = begun(tmp_path)
    reader = Journal(str(tmp_path), None)
    for number in range(1, 6):
        driver._db.execute("PRAGMA busy_timeout=0")
        driver.propose(number, proposal)
        assert len(reader.trials()) == number + 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.propose(6, proposal)
    reader.close()
    driver.close()


def test_an_accepted_trial_is_not_read_without_its_last_stage(
    tmp_path, monkeypatch
):
    driver, proposal = begun(tmp_path)
    reader, rows = Journal(str(tmp_path), None), Journal._rows
    queries = []

    def meanwhile(self, query):
        found = rows(self, query)
        if not queries:
            task = Task(0, "quality/resnet", proposal.graph.text())
            driver.record(outcome(task), "", last=True)
        queries.append(query)
        return found

    monkeypatch.setattr(Journal, "_rows", meanwhile)
    (trial,) = reader.trials()
    assert len(queries) == 2
    assert trial.verdict is None or trial.results
    reader.close()
    driver.close()
