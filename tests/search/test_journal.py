"""The journal: committed means kept, and one driver, one search a file."""

import os
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
