"""Worker processes that die, hang, raise or outlive their driver."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from evonorm_tf import graphs
from evonorm_tf.search import proxy, worker
from evonorm_tf.search.stages import Task
from evonorm_tf.search.worker import LocalPool
from tests.search import players
from tests.search.fakes import small

S0 = graphs.NAMED["evonorm_s0"].text()


@pytest.fixture
def opened():
    """Opens pools of such workers, and closes them however a test ends."""
    with contextlib.ExitStack() as stack:

        def open_(settings):
            pool = LocalPool(settings, players.play)
            stack.callback(pool.close)
            return pool

        yield open_


def finished(pool, count):
    outcomes = []
    end = time.monotonic() + 240  # Of a machine that is busy otherwise.
    while len(outcomes) < count and time.monotonic() < end:
        outcomes += pool.wait(0.2)
    return outcomes


def test_a_dead_worker_is_replaced_and_its_stage_tried_again(opened, tmp_path):
    pool = opened(small(workers=2))
    mark = str(tmp_path / "died")
    tasks = [Task(0, "die once", mark), Task(1, "die", ""), Task(2, "ok", "")]
    for task in tasks:
        pool.submit(task)
    found = {o.task: o for o in finished(pool, 3)}
    assert set(found) == set(tasks)
    assert found[tasks[0]].error == found[tasks[2]].error == ""
    assert "worker died (exit 9)" in found[tasks[1]].error
    assert pool.free == 2


def test_a_stage_that_hangs_is_given_up(opened, monkeypatch):
    pool = opened(small(workers=1, timeout=1.5))
    pool.submit(Task(0, "hang", ""))
    while not pool._workers[0].ready:
        pool.wait(0.2)
    # All are stopped for an hour and continued, which is no stage's fault.
    monkeypatch.setattr(worker, "LONGEST_LOOK", 0.3)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: 3600.0 + now())
    assert not pool.wait(0.0)
    (outcome,) = finished(pool, 1)
    assert outcome.error == "took longer than 1.5 s"
    assert 1.5 <= outcome.cpu < 60  # A hang is not for free.
    pool.submit(Task(1, "ok", ""))
    assert finished(pool, 1)[0].error == ""


def test_a_worker_is_renewed_before_it_grows(opened, monkeypatch):
    monkeypatch.setattr(worker, "STAGES_A_PROCESS", 2)
    pool = opened(small(workers=1))
    pids = []
    for number in range(4):
        pool.submit(Task(number, "ok", ""))
        pids += [o.result["pid"] for o in finished(pool, 1)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_candidate_that_takes_all_memory_is_a_verdict(opened):
    pool = opened(small(workers=1))
    pool.submit(Task(0, "grow", ""))
    (outcome,) = finished(pool, 1)
    assert "worker died" in outcome.error
    pool.submit(Task(1, "ok", ""))
    assert finished(pool, 1)[0].error == ""


def test_images_that_are_not_there_are_no_candidates_fault(
    tmp_path, monkeypatch
):
    # This process has its threads already.
    monkeypatch.setattr(proxy, "configure_process", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    missing = {"dataset": "cifar10", "data_dir": str(tmp_path)}
    with pytest.raises(worker.NoProxyError, match="tfds build cifar10"):
        worker.prepare(small(**missing))


def test_workers_without_images_end_the_run():
    pool = LocalPool(small(workers=1), players.blind)
    with contextlib.closing(pool):
        pool.submit(Task(0, "quality/resnet", S0))
        with pytest.raises(worker.NoProxyError, match="no images"):
            finished(pool, 1)


def test_a_slow_start_is_no_candidates_fault():
    pool = LocalPool(small(workers=1, timeout=1.0), players.slow)
    try:
        pool.submit(Task(0, "ok", ""))
        assert [o.error for o in finished(pool, 1)] == [""]
    finally:
        pool.close()


def test_workers_that_cannot_start_end_the_run_and_blame_no_candidate():
    pool = LocalPool(small(workers=1), players.never)
    try:
        pool.submit(Task(0, "ok", ""))
        with pytest.raises(worker.NoProxyError, match=r"before.*exit 3.*mem"):
            assert not finished(pool, 1)
    finally:
        pool.close()


def test_a_start_that_hangs_ends_the_run(opened, monkeypatch):
    monkeypatch.setattr(worker, "STARTUP", 0.0)
    pool = opened(small(workers=1))
    with pytest.raises(worker.NoProxyError, match=r"not ready.*data_dir="):
        pool.wait(0.0)


def test_what_a_candidate_raises_is_a_verdict():
    class Broken:
        def stability(self, row):
            raise MemoryError("no room")

    outcome = worker.run(Task(0, "stability", S0), Broken(), small())
    assert outcome.error == "raised MemoryError: no room"
    assert outcome.result == {}


def test_what_a_graph_raises_is_its_cause_without_the_stack():
    class Broken:
        @tf.function
        def _take(self, index):
            return tf.while_loop(
                lambda i: i < 3, lambda i: tf.gather([0, 1], index), [index]
            )

        def stability(self, row):
            self._take(tf.constant(-7))

    error = worker.run(Task(0, "stability", S0), Broken(), small()).error
    assert error == (
        "raised InvalidArgumentError: indices = -7 is not in [0, 2)"
    )


def test_what_a_candidate_leaves_is_gone_before_the_next_one():
    with contextlib.closing(LocalPool(small(workers=1), players.leave)) as pool:
        for number in range(3):
            pool.submit(Task(number, "stability", S0))
            (outcome,) = finished(pool, 1)
            assert outcome.result["norm"] == 0


_DRIVER = """
import sys, time
from evonorm_tf.search import worker
from evonorm_tf.search.stages import Task
from tests.search.fakes import small
from tests.search.players import idle
if __name__ == "__main__":
    pool = worker.LocalPool(small(workers=2), idle)
    pool.submit(Task(0, "hang", ""))
    print(*(w.process.pid for w in pool._workers), flush=True)
    time.sleep(600)
"""


def test_workers_end_with_a_driver_that_was_killed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    driver = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    pids, ready = [], 0
    while ready < 2:
        words = driver.stdout.readline().split()
        ready += words == ["ready"]
        pids += [int(word) for word in words if word != "ready"]
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    end = time.monotonic() + 20
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid):
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
