"""kill -9, many times: of workers, and of the driver with its workers."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from evonorm_tf.search import worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.worker import LocalPool
from tests.search import players
from tests.search.fakes import outcome, small
from tests.search.test_worker import _alive

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
TRIALS = 40


def search(folder, trials=TRIALS):
    """A search on two such workers; says who they are."""
    settings = small(trials=trials, workers=2)
    journal = Journal(str(folder), settings.identity())
    pool = LocalPool(settings, players.quick)
    print(*(w.process.pid for w in pool._workers), flush=True)
    try:
        Driver(settings, journal).run(pool)
    finally:
        pool.close()
        journal.close()


def stages(folder):
    path = os.path.join(folder, "journal.sqlite")
    with sqlite3.connect(f"file:{path}?mode=rw", uri=True) as db:
        return db.execute("SELECT * FROM stage ORDER BY rowid").fetchall()


def ended(folder):
    """What the journal says at the end: everything was tried to its end."""
    journal = Journal(str(folder), None)
    trials = journal.trials()
    journal.close()
    assert [t.number for t in sorted(trials)] == list(range(TRIALS))
    assert all(trial.verdict for trial in trials)
    return trials


class Killer:
    """A pool that loses a worker at every third wait that has one ready."""

    def __init__(self, pool, kills):
        self._pool, self.kills, self._waits = pool, kills, 0
        self.rng = random.Random(0)

    @property
    def free(self):
        return self._pool.free

    def submit(self, task):
        self._pool.submit(task)

    def wait(self, seconds):
        self._waits += 1
        ready = [w for w in self._pool._workers if w.ready]
        if self.kills and self._waits % 3 == 0 and ready:
            self.rng.choice(ready).process.kill()
            self.kills -= 1
        return self._pool.wait(seconds)


def test_workers_that_are_killed_cost_no_finished_stage(tmp_path):
    settings = small(trials=TRIALS, workers=2)
    journal = Journal(str(tmp_path), settings.identity())
    pool = LocalPool(settings, players.quick)
    killer = Killer(pool, kills=6)
    Driver(settings, journal).run(killer)
    pids = [w.process.pid for w in pool._workers]
    pool.close()
    journal.close()
    assert killer.kills == 0
    assert not any(_alive(pid) for pid in pids)
    for trial in ended(tmp_path):
        # A stage may be lost twice, and is then a verdict; all else is what
        # the stage would have been without any kill.
        if "worker died" not in trial.reason:
            for name, result in trial.results.items():
                task = worker.Task(trial.number, name, trial.graph)
                assert result == outcome(task).result


@pytest.mark.slow
def test_drivers_that_are_killed_lose_no_finished_stage(tmp_path):
    code = "from tests.search.test_kills import search; "
    code += f"search({str(tmp_path)!r})"
    script = tmp_path / "driver.py"
    script.write_text(f'if __name__ == "__main__":\n    {code}\n')
    rng, before, kills = random.Random(1), [], 0
    while True:
        driver = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        wanted = len(before) + rng.randrange(8, 14)
        end = time.monotonic() + 120
        while driver.poll() is None and len(stages(tmp_path)) < wanted:
            assert time.monotonic() < end, "the search does not go on"
            time.sleep(0.02)
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            kills += 1
        end = time.monotonic() + 20
        while any(_alive(pid) for pid in pids) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(_alive(pid) for pid in pids)  # No zombie.
        after = stages(tmp_path)
        assert after[: len(before)] == before
        before = after
        if driver.returncode == 0:
            break
        assert kills < 60
    assert kills > 3
    ended(tmp_path)
