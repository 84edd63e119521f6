"""A search full of candidates that raise, hang, crash and take all memory."""

import collections
import os
import signal
import time
import types

import numpy
import pytest

from evonorm_tf import graphs
from evonorm_tf.search import worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.worker import LocalPool
from tests.search.fakes import outcome, small
from tests.search.test_ray_pool import cluster  # noqa: F401

# Enough for a stage of milliseconds on a machine that runs other tests too.
TIMEOUT = 4.0
# What a trial's first stage does, by its number, and what is said of it.
KINDS = {
    "behaves": "",
    "raises": "raised ZeroDivisionError: on purpose",
    "hangs": f"took longer than {TIMEOUT:g} s",
    "crashes": "worker died (exit -11)",
    "grows": "raised MemoryError",
}
TRIALS = 10


def kind_of(trial):
    return list(KINDS)[trial % len(KINDS)]


class Bad:
    """A proxy task: its trainings do to a worker what a candidate might."""

    def __init__(self):
        self.task = None

    def stability(self, row):
        return self.train(row, "", 0, None)

    def train(self, row, anchor, steps, seed=None, early_exit=None):
        kind = kind_of(self.task.trial)
        if kind == "raises":
            raise ZeroDivisionError("on purpose")
        if kind == "hangs":
            time.sleep(600)
        if kind == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "grows":
            numpy.ones(10**9)
        result = outcome(self.task).result
        return types.SimpleNamespace(_asdict=lambda: result)


def bad(connection, settings):
    """`worker.work` with such a proxy, and without TensorFlow's start."""
    worker.end_with_parent()
    graphs.row = lambda graph: graph
    worker.limit_memory(1.0)
    proxy = Bad()
    connection.send(worker.READY)
    while True:
        try:
            proxy.task = connection.recv()
            connection.send(worker.run(proxy.task, proxy, settings))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def check(folder, settings, pool):
    """Runs a search, and that every candidate got what it deserves."""
    journal = Journal(folder, settings.identity())
    try:
        Driver(settings, journal).run(pool)
        trials = journal.trials()
        spent = {s.trial: s.cpu for s in journal.stages()}
    finally:
        pool.close()
        journal.close()
    assert [t.number for t in sorted(trials)] == list(range(TRIALS))
    seen = collections.Counter()
    for trial in trials:
        kind = kind_of(trial.number)
        seen[kind] += 1
        if kind == "behaves":
            assert trial.verdict in ("accepted", "rejected")
            assert trial.results
            for name, result in trial.results.items():
                task = worker.Task(trial.number, name, trial.graph)
                assert result == outcome(task).result
        else:
            assert trial.verdict == "rejected"
            assert trial.reason.startswith(f"quality/resnet: {KINDS[kind]}")
        if kind == "hangs":
            assert spent[trial.number] >= TIMEOUT
    assert seen == dict.fromkeys(KINDS, TRIALS // len(KINDS))


def test_on_this_machine(tmp_path):
    settings = small(trials=TRIALS, workers=2, timeout=TIMEOUT)
    check(str(tmp_path), settings, LocalPool(settings, bad))


@pytest.mark.slow
def test_on_a_cluster(cluster, tmp_path):  # noqa: F811
    settings = small(trials=TRIALS, workers=2, timeout=TIMEOUT)
    check(str(tmp_path), settings, RayPool(settings, "auto", bad))
