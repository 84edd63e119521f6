"""kill -9 of the driver, many times, with a Ray cluster that stays."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from evonorm_tf.search import worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.ray_pool import RayPool
from tests.search.fakes import outcome, small
from tests.search.test_kills import ROOT, TRIALS, ended, stages
from tests.search.test_ray_pool import cluster, gone  # noqa: F401

# Trials whose first stage hangs, far longer than the test takes, when it is
# first tried: what is under way when a driver is killed.
HANGS = (7, 19)


def noted(connection, settings):
    """A worker that leaves a file with its name, and one when it hangs."""
    worker.end_with_parent()
    folder = settings.data_dir
    open(f"{folder}/pid-{os.getpid()}-{os.getppid()}", "w").close()
    connection.send(worker.READY)
    while True:
        task = connection.recv()
        mark = f"{folder}/hung-{task.trial}"
        if task.trial in HANGS and not os.path.exists(mark):
            open(mark, "w").close()
            time.sleep(3000)
        time.sleep(0.05)
        connection.send(outcome(task))


def search(folder, address):
    """A search on such workers."""
    settings = small(trials=TRIALS, workers=2, data_dir=folder, timeout=900)
    pool = RayPool(settings, address, noted)
    journal = Journal(folder, settings.identity())
    try:
        Driver(settings, journal).run(pool)
    finally:
        pool.close()
        journal.close()


def processes(folder):
    """All workers that ever were, and the processes of Ray that had them."""
    names = [name for name in os.listdir(folder) if name.startswith("pid-")]
    return {int(pid) for name in names for pid in name.split("-")[1:]}


def hung(folder):
    return {name for name in os.listdir(folder) if name.startswith("hung-")}


def life(folder, address, wanted):
    """A driver until it ends, hangs anew, or has so many stages; its code."""
    known = hung(folder)
    code = "from tests.search.test_ray_kills import search; "
    code += f"search({folder!r}, {address!r})"
    driver = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    try:
        end = time.monotonic() + 180
        while driver.poll() is None and len(written(folder)) < wanted:
            if hung(folder) != known:
                time.sleep(1.0)  # The other worker goes on meanwhile.
                break
            assert time.monotonic() < end, "the search does not go on"
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
    return driver.wait()


def written(folder):
    # A worker begins when there are tables to read.
    return stages(folder) if processes(folder) else []


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_no_finished_stage(
    cluster,  # noqa: F811
    tmp_path,
):
    address = cluster.get_runtime_context().gcs_address
    folder, rng = str(tmp_path), random.Random(2)
    before, kills, code = [], 0, None
    while code != 0:
        wanted = len(before) + rng.randrange(10, 20)
        code = life(folder, address, wanted)
        kills += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        # Not by their timeout, which is 900 s: with the driver.
        assert gone(processes(folder))
        after = written(folder)
        assert after[: len(before)] == before
        before = after
        assert kills < 20
    assert kills > 3
    assert len(hung(folder)) == len(HANGS)
    for trial in ended(folder):
        # Nobody is blamed for a driver's end: all is as without a kill.
        for name, result in trial.results.items():
            task = worker.Task(trial.number, name, trial.graph)
            assert result == outcome(task).result
