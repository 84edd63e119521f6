"""Ray: the same stages on a cluster, here one of two workers."""

import contextlib
import os
import pathlib
import signal
import time

import numpy
import pytest

from evonorm_tf.search import __main__ as command
from evonorm_tf.search import worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.stages import Outcome, Task
from tests.search.fakes import outcome, small
from tests.search.test_worker import _alive, finished


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


def play(connection, settings):
    """A worker, child of one of Ray's, that does what a stage's name says."""
    worker.end_with_parent()
    if settings.data_dir == "none":
        connection.send(worker.NoProxyError("there is no cifar10"))
        return
    connection.send(worker.READY)
    while True:
        task = connection.recv()
        kind, mark = task.stage, task.graph
        if mark and os.path.exists(mark):
            kind = "ok"  # The second try.
        elif mark:
            pathlib.Path(mark).write_text(str(os.getpid()))
        if kind == "hang":
            time.sleep(600)
        if kind == "die":
            os._exit(9)
        if kind == "lose":  # As a machine that is switched off.
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        if kind == "grow":
            worker.limit_memory(0.2)
            numpy.ones(10**9)
        if kind == "second":
            time.sleep(1.0)
        found = {"pid": os.getpid(), "parent": os.getppid()}
        connection.send(Outcome(task, found, "", 0.0))


def instant(connection, settings):
    """A worker with numbers made up."""
    worker.end_with_parent()
    connection.send(worker.READY)
    while True:
        connection.send(outcome(connection.recv()))


def gone(pids, seconds=30):
    """Whether these processes end in that time."""
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(_alive(pid) for pid in pids)


@pytest.fixture
def opened(cluster):
    """Opens pools of such workers, and closes them however a test ends."""
    with contextlib.ExitStack() as stack:

        def open_(main=play, **changes):
            pool = RayPool(small(**changes), "auto", main)
            stack.callback(pool.close)
            return pool

        yield open_


@pytest.mark.slow
def test_what_a_candidate_does_is_a_verdict_as_on_one_machine(opened, tmp_path):
    pool = opened(timeout=5.0, workers=2)
    tasks = [
        Task(0, "die", str(tmp_path / "died")),
        Task(1, "die", ""),
        Task(2, "grow", ""),
        Task(3, "hang", ""),
        Task(4, "ok", ""),
    ]
    for task in tasks:
        pool.submit(task)
    assert pool.free < 0  # More than there are slots: they wait.
    found = {o.task: o for o in finished(pool, 5)}
    assert [found[task].error for task in tasks] == [
        "",
        "worker died (exit 9)",
        "worker died (exit 1)",
        "took longer than 5 s",
        "",
    ]
    assert 5 <= found[tasks[3]].cpu < 30  # A hang is not for free.
    assert pool.free == 2


@pytest.mark.slow
def test_a_lost_machine_costs_a_try(opened, tmp_path):
    pool = opened(workers=2)
    mark = str(tmp_path / "lost")
    tasks = [Task(0, "lose", mark), Task(1, "lose", ""), Task(2, "ok", "")]
    for task in tasks:
        pool.submit(task)
    found = {o.task: o.error for o in finished(pool, 3)}
    assert found[tasks[0]] == found[tasks[2]] == ""
    assert found[tasks[1]] == "worker died (WorkerCrashedError)"
    pid = int((tmp_path / "lost").read_text())
    assert gone([pid])  # A child ends with its parent.


@pytest.mark.slow
def test_a_hang_ends_in_time_though_nobody_asks(opened, tmp_path):
    mark = tmp_path / "hung"
    pool = opened(workers=1, timeout=3.0)
    pool.submit(Task(0, "hang", str(mark)))
    end = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    # A driver that is stopped, or killed, does not call `wait`.
    assert gone([int(mark.read_text())])
    assert [o.error for o in finished(pool, 1)] == ["took longer than 3 s"]


@pytest.mark.slow
def test_time_in_the_queue_is_no_candidates_fault(opened):
    pool = opened(workers=6, timeout=1.9)  # And two CPUs.
    for number in range(6):
        pool.submit(Task(number, "second", ""))
    assert [o.error for o in finished(pool, 6)] == [""] * 6


@pytest.mark.slow
def test_a_cluster_that_finishes_nothing_ends_the_run(opened, monkeypatch):
    monkeypatch.setattr(worker, "STARTUP", 2.0)  # The driver's alone.
    pool = opened(workers=1, timeout=0.5)
    monkeypatch.setattr(pool, "_remote", pool._remote.options(num_cpus=64))
    pool.submit(Task(0, "ok", ""))
    with pytest.raises(worker.NoProxyError, match=r"no stage for 5 s.*CPU"):
        finished(pool, 1)


@pytest.mark.slow
def test_images_that_are_not_there_end_the_run(opened):
    pool = opened(workers=2, data_dir="none")
    pool.submit(Task(4, "ok", ""))
    with pytest.raises(worker.NoProxyError, match="there is no cifar10"):
        finished(pool, 1)


@pytest.mark.slow
def test_another_searchs_workers_end(opened):
    first, second = opened(workers=1), opened(workers=1, seed=1)
    pids = []
    for pool in (first, second):
        pool.submit(Task(0, "ok", ""))
        pids += [o.result for o in finished(pool, 1)]
    if pids[0]["parent"] == pids[1]["parent"]:
        assert gone([pids[0]["pid"]])
    assert _alive(pids[1]["pid"])


@pytest.mark.slow
def test_a_search_runs_on_the_cluster(opened, tmp_path):
    settings = small(trials=30, workers=0)
    journal = Journal(str(tmp_path), settings.identity())
    pool = opened(instant, trials=30, workers=0)
    assert pool.free == 2  # One a CPU of the cluster.
    Driver(settings, journal).run(pool)
    pool.close()
    trials = journal.trials()
    journal.close()
    assert len(trials) == 30
    assert all(trial.verdict for trial in trials)


@pytest.mark.slow
def test_real_stages_run_on_the_cluster(cluster, tmp_path):
    given = ["--ray=auto", "--debug", f"--output={tmp_path}"]
    given += ["--set=trials=3", "--set=quality_steps=10"]
    given += ["--set=fitness_steps=10", "--set=quality=0.0"]
    given += ["--set=anchors=[mobilenet]", "--set=stability_steps=2"]
    assert command.main([*given, "--set=seconds=0"]) == 0
    journal = Journal(str(tmp_path), None)
    trials = journal.trials()
    journal.close()
    assert len(trials) == 3
    assert all(trial.verdict for trial in trials)
    assert not any("raised" in trial.reason for trial in trials)
