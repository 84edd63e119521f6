"""Workers on a Ray cluster: the same stages, run as Ray tasks.

`pip install evonorm-tf[search]` brings Ray; every machine of the cluster
needs this package and the images at `data_dir`. The journal stays with the
driver: what a lost machine was at is tried once more elsewhere.
"""

import importlib
import socket
import time
from typing import Any

from evonorm_tf.search import worker
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task

# Of this process, when it is one of Ray's: made at its first stage.
_prepared: dict[Settings, Any] = {}


def stage(task: Task, settings: Settings) -> Outcome:
    """One stage, in one of Ray's processes, which keep the proxy task."""
    if settings not in _prepared:
        _prepared[settings] = worker.prepare(settings)
    return worker.run(task, _prepared[settings], settings)


def connect(address: str) -> Any:
    """Ray, connected to a running cluster.

    Args:
      address: "auto" for the one that runs on this machine, or HOST:PORT, or
        ray://HOST:PORT for Ray's client.

    Raises:
      ValueError: Ray is not installed, or there is no cluster.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray: pip install 'evonorm-tf[search]'. "
            f"Received: ray={address!r}"
        ) from error
    if ray.is_initialized():
        return ray
    if address != "auto":
        _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            "There is no Ray cluster to connect to; `ray start --head` starts "
            f"one on this machine ({error}). Received: ray={address!r}"
        ) from error
    return ray


def _knock(address: str) -> None:
    # Ray itself would try for minutes, and then abort the process.
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(
            "A Ray address is `auto`, HOST:PORT or ray://HOST:PORT. "
            f"Received: ray={address!r}"
        )
    try:
        socket.create_connection((host, int(port)), 10.0).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"No Ray cluster answers there ({error}). Check the address, and "
            "that `ray start --head` runs on that machine. "
            f"Received: ray={address!r}"
        ) from error


class RayPool:
    """As `worker.LocalPool`, with Ray's processes.

    Args:
      settings: `workers` tasks at a time (0: one a CPU of the cluster).
      address: of the cluster; see `connect`.
      function: what a task runs.
    """

    def __init__(self, settings: Settings, address: str, function=stage):
        self._ray = connect(address)
        self._settings = settings
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self._slots = settings.workers or cpus
        # One more try is Ray's, if the process or its machine is lost.
        self._remote = self._ray.remote(
            num_cpus=1,
            max_calls=worker.STAGES_A_PROCESS,
            max_retries=worker.ATTEMPTS - 1,
        )(function)
        self._running: dict[Any, tuple[Task, float]] = {}
        self._waiting: list[Task] = []

    @property
    def free(self) -> int:
        """How many tasks could begin now."""
        return self._slots - len(self._running) - len(self._waiting)

    def submit(self, task: Task) -> None:
        """Hands out a task, or keeps it for the next slot that is free."""
        self._waiting.append(task)
        self._hand_out()

    def wait(self, seconds: float) -> list[Outcome]:
        """What was finished, after at most so many seconds of waiting."""
        if not self._running:
            time.sleep(min(seconds, 0.1))
            return []
        done, _ = self._ray.wait(list(self._running), timeout=seconds)
        outcomes = [self._collect(reference) for reference in done]
        for reference, (task, deadline) in list(self._running.items()):
            if time.monotonic() > deadline:
                self._ray.cancel(reference, force=True)
                del self._running[reference]
                limit = f"{self._settings.timeout:g} s"
                reason = f"took longer than {limit}"
                outcomes.append(Outcome(task, {}, reason, 0.0))
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """Ends what is under way; the cluster goes on without us."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}

    def _collect(self, reference: Any) -> Outcome:
        task, _ = self._running.pop(reference)
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # A candidate's own errors are outcomes: this is the machine's.
            raise worker.NoProxyError(str(error.cause or error)) from error
        except self._ray.exceptions.RayError as error:
            reason = f"worker died ({type(error).__name__})"
            return Outcome(task, {}, reason, 0.0)

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            task = self._waiting.pop(0)
            # Any task may meet a new process, which must import TensorFlow.
            limit = self._settings.timeout + worker.STARTUP
            reference = self._remote.remote(task, self._settings)
            self._running[reference] = task, time.monotonic() + limit
