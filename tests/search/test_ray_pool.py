"""Ray: the same stages on a cluster, here one of two workers."""

import os
import signal
import time

import pytest

from evonorm_tf.search import __main__ as command
from evonorm_tf.search import ray_pool, worker
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.ray_pool import RayPool
from evonorm_tf.search.stages import Outcome, Task
from tests.search.fakes import outcome, small
from tests.search.test_worker import finished


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


def play(task, settings):
    """Does what the stage's name says."""
    if task.stage == "hang":
        time.sleep(600)
    if task.stage == "die" or (
        task.stage == "die once" and not os.path.exists(task.graph)
    ):
        if task.graph:
            open(task.graph, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if task.stage == "no images":
        raise worker.NoProxyError("there is no cifar10")
    return Outcome(task, {"pid": os.getpid()}, "", 0.0)


def finds(task, settings):
    return outcome(task)


@pytest.mark.slow
def test_lost_processes_and_hanging_stages(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "STARTUP", 10.0)
    pool = RayPool(small(timeout=5.0, workers=2), "auto", play)
    tasks = [
        Task(0, "die once", str(tmp_path / "died")),
        Task(1, "die", ""),
        Task(2, "ok", ""),
        Task(3, "hang", ""),
    ]
    for task in tasks:
        pool.submit(task)
    assert pool.free < 0  # More than there are slots: they wait.
    found = {o.task: o.error for o in finished(pool, 4)}
    assert found[tasks[0]] == found[tasks[2]] == ""
    assert "worker died (WorkerCrashedError)" in found[tasks[1]]
    assert found[tasks[3]] == "took longer than 5 s"
    assert pool.free == 2
    pool.submit(Task(4, "no images", ""))
    with pytest.raises(worker.NoProxyError, match="there is no cifar10"):
        finished(pool, 1)
    pool.close()


@pytest.mark.slow
def test_a_search_runs_on_the_cluster(cluster, tmp_path):
    settings = small(trials=30, workers=0)
    journal = Journal(str(tmp_path), settings.identity())
    pool = RayPool(settings, "auto", finds)
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


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "HOST:PORT"),
        ("127.0.0.1:1", "No Ray cluster answers there"),
        ("ray://127.0.0.1:1", "No Ray cluster answers there"),
        ("127.0.0.1:99999", "No Ray cluster answers there"),
    ],
)
def test_an_unreachable_address_is_named(address, message, monkeypatch):
    pytest.importorskip("ray").is_initialized()
    with pytest.raises(ValueError, match=message) as error:
        ray_pool._knock(address)
    assert f"ray={address!r}" in str(error.value)


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(ray_pool.importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r"evonorm-tf\[search\]"):
        ray_pool.connect("auto")


def test_no_cluster_on_this_machine_is_one_line(monkeypatch, tmp_path, capsys):
    class Ray:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**_):
            raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray_pool.importlib, "import_module", lambda _: Ray)
    given = ["--debug", "--ray=auto", f"--output={tmp_path}"]
    assert command.main(given) == 2
    assert "no Ray cluster to connect to" in capsys.readouterr().err
