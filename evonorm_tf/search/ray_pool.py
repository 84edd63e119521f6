"""Workers on a Ray cluster: the same stages, run as Ray tasks.

`pip install evonorm-tf[search]` installs Ray. Every machine of the cluster
needs this package and the images at `data_dir`. The journal stays with the
driver; the stage of a lost machine is retried on another one.

A Ray task supervises a `LocalPool` with one process, so that a candidate that
hangs, dies or exhausts memory is handled as on one machine, and is timed from
its own start and not from when Ray queued it. The task also ends in time if
the driver is gone.
"""

import collections
import dataclasses
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import grpc

from evonorm_tf.search import worker
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task

# The pool of this Ray process, created at its first stage.
_pools: dict[tuple[Settings, Callable], worker.LocalPool] = {}

_PATIENCE = 10.0  # Seconds within which an address must respond.


def stage(task: Task, settings: Settings, main: Callable) -> Outcome:
    """Runs one stage in a child of a Ray process; both are reused.

    Raises:
      NoProxyError: if the machine cannot run any stage.
    """
    settings = dataclasses.replace(settings, workers=1)
    key = settings, main
    if key not in _pools:
        _end_children()  # Those of another search use memory for images.
        _pools[key] = worker.LocalPool(settings, main)
    pool = _pools[key]
    pool.submit(task)
    try:
        while not (outcomes := pool.wait(1.0)):
            pass
    except worker.NoProxyError:
        _end_children()
        raise
    return outcomes[0]


def _end_children() -> None:
    while _pools:
        _pools.popitem()[1].close()


def connect(address: str) -> Any:
    """Returns Ray, connected to a running cluster.

    Args:
      address: "auto" for the cluster on this machine, HOST:PORT, or
        ray://HOST:PORT for Ray's client.

    Raises:
      ValueError: if the address is empty, Ray is not installed, or there is
        no cluster.
    """
    if not address:
        raise ValueError(
            "--ray needs `auto` or an address; leave it out to search on this "
            f"machine. Received: ray={address!r}"
        )
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
        _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            "There is no Ray cluster to connect to; `ray start --head` starts "
            f"one on this machine ({error}). Received: ray={address!r}"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Checks that a gRPC server, which all of Ray's are, responds in seconds.

    Ray itself would try for minutes and then abort the process.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return  # This check does not use TLS.
    channel = grpc.insecure_channel(address.removeprefix("ray://"))
    try:
        grpc.channel_ready_future(channel).result(_PATIENCE)
    except grpc.FutureTimeoutError:
        raise ValueError(
            f"No Ray cluster responds there within {_PATIENCE:g} s. Check that "
            "`ray start --head` runs on that machine, and use the port that "
            "it prints, 6379 by default, or with ray:// that of Ray's client, "
            f"10001; 8265 is the dashboard's. Received: ray={address!r}"
        ) from None
    finally:
        channel.close()


class RayPool:
    """A pool like `worker.LocalPool`, with Ray's processes.

    Args:
      settings: `workers` is the number of concurrent tasks (0: one per CPU of
        the cluster).
      address: of the cluster; see `connect`.
      main: what a worker runs, with its connection and the settings.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        main: Callable[[Any, Settings], None] = worker.work,
    ):
        self._ray = connect(address)
        self._settings, self._main = settings, main
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self._slots = settings.workers or max(1, cpus)
        # Ray would retry indefinitely what it kills to save memory.
        self._remote = self._ray.remote(num_cpus=1, max_retries=0)(stage)
        self._running: dict[Any, tuple[Task, float]] = {}
        self._waiting: list[Task] = []
        self._attempts: collections.Counter[Task] = collections.Counter()
        self._clock = worker.Clock()
        self._heard = self._clock()

    @property
    def free(self) -> int:
        """Returns how many tasks could start now."""
        return self._slots - len(self._running) - len(self._waiting)

    def submit(self, task: Task) -> None:
        """Submits a task, or queues it for the next free slot."""
        if not self._running:
            self._heard = self._clock()
        self._waiting.append(task)
        self._hand_out()

    def wait(self, seconds: float) -> list[Outcome]:
        """Returns finished outcomes, waiting at most this many seconds."""
        if not self._running:
            time.sleep(min(seconds, 0.1))
            return []
        done, _ = self._ray.wait(list(self._running), timeout=seconds)
        outcomes = []
        for reference in done:
            outcomes += self._collect(reference)
        if done:
            self._heard = self._clock()
        silence = self._clock() - self._heard
        limit = worker.ATTEMPTS * (worker.STARTUP + self._settings.timeout)
        if silence > limit:
            raise worker.NoProxyError(
                f"The cluster has finished no stage for {limit:g} s: it has "
                "no free CPU (see `ray status`), or one of its machines "
                f"hangs. Received: workers={self._slots}, running: "
                f"{len(self._running)}"
            )
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """Ends running tasks; the cluster stays up."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}

    def _collect(self, reference: Any) -> list[Outcome]:
        task, since = self._running.pop(reference)
        errors = self._ray.exceptions
        lost = errors.WorkerCrashedError, errors.NodeDiedError
        try:
            outcome = self._ray.get(reference)
        except (*lost, errors.OutOfMemoryError) as error:
            self._attempts[task] += 1
            if self._attempts[task] < worker.ATTEMPTS:
                self._waiting.insert(0, task)
                return []
            reason = f"worker died ({type(error).__name__})"
            took = self._clock() - since
            outcome = Outcome(task, {}, reason, took)
        except errors.RayError as error:
            # A candidate's own errors are outcomes; this is the machine's.
            cause = getattr(error, "cause", None) or error
            raise worker.NoProxyError(str(cause)) from error
        self._attempts.pop(task, None)
        return [outcome]

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            task = self._waiting.pop(0)
            reference = self._remote.remote(task, self._settings, self._main)
            self._running[reference] = task, self._clock()
