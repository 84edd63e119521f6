"""A search full of candidates that raise, hang, crash and take all memory."""

import collections

import pytest

from evonorm_tf.search import worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.worker import LocalPool
from tests.search.fakes import outcome, small
from tests.search.players import KINDS, TIMEOUT, bad, kind_of
from tests.search.test_ray_pool import cluster  # noqa: F401

TRIALS = 10


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
