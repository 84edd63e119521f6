"""Worker processes: each runs one stage of one trial at a time.

Workers have no important state. If one dies, its stage is retried once; after
that, it counts against the candidate. A stage that hangs, raises or runs out of
memory is not retried. Until a worker has reported that it is ready, no
candidate is charged. Workers end with their driver.
"""

import collections
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import re
import resource
import threading
import time
from collections.abc import Callable
from typing import Any

from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task, early_exit, seed, steps

ATTEMPTS = 2
# A process that trains candidate after candidate stays as large as it is. A
# new one takes many seconds to start; it ends what might grow after all.
STAGES_A_PROCESS = 2000
# Seconds for importing TensorFlow and reading the images: 14 on an idle core,
# many times that on a busy machine.
STARTUP = 900.0
# Of the seconds between two looks at the workers at most this many count. A
# driver looks about every second; if it was stopped (Ctrl-Z), so were they.
LONGEST_LOOK = 5.0
# What a worker sends before its first outcome.
READY = "ready"
# Lines of an error in a graph that do not say what is wrong.
_STACK = re.compile(
    r"\s*($|File |\[\[|Detected at|Graph execution|\d+ (root|succ|derived))"
)


class NoProxyError(RuntimeError):
    """Workers cannot run their tasks; not charged to any candidate."""


def run(task: Task, proxy, settings: Settings) -> Outcome:
    """Runs one stage; an exception of the candidate becomes a verdict."""
    from evonorm_tf import graphs

    start = time.process_time()
    result, error = {}, ""
    try:
        row = graphs.row(graphs.parse(task.graph))
        if task.stage == "stability":
            result = proxy.stability(row)._asdict()
        else:
            anchor = task.stage.split("/")[1]
            length = steps(task.stage, settings)
            start_from = seed(task.stage, settings)
            ends_early = early_exit(task.stage, settings)
            found = proxy.train(row, anchor, length, start_from, ends_early)
            result = found._asdict()
    except (Exception, MemoryError) as raised:  # Any fault of a candidate.
        error = f"raised {type(raised).__name__}: {_cause(str(raised))[:300]}"
    return Outcome(task, result, error, time.process_time() - start)


def _cause(message: str) -> str:
    """Returns an error's message without TensorFlow's stack of a graph."""
    if not message.startswith("Graph execution error"):
        return message
    told = [x for x in message.splitlines() if not _STACK.match(x)]
    return told[-1].strip() if told else message


def prepare(settings: Settings):
    """Returns the proxy task for a process that only runs stages.

    Raises:
      NoProxyError: if there are no images.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Imported after setting the variables that TensorFlow reads on import.
    from evonorm_tf.search import data
    from evonorm_tf.search.proxy import Proxy, configure_process

    configure_process()
    try:
        images = data.load(settings)
    except (ValueError, OSError) as error:
        raise NoProxyError(str(error)) from error
    if settings.memory:
        limit_memory(settings.memory)
    return Proxy(settings, images)


def limit_memory(gigabytes: float) -> None:
    """Limits the memory of a process, so an excess fails as a verdict.

    Args:
      gigabytes: in addition to what the process already uses.
    """
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[5])  # Data and stack.
    has = pages * resource.getpagesize()
    limit = has + int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def work(connection, settings: Settings) -> None:
    """Runs tasks until the driver is gone."""
    end_with_parent()
    try:
        proxy = prepare(settings)
    except NoProxyError as error:
        connection.send(error)
        return
    connection.send(READY)
    # The graphs of a candidate are cycles of few objects with much memory, so
    # the collector would let dozens of them accumulate, gigabytes in all. It
    # need not walk what stays for good.
    gc.collect()
    gc.freeze()
    while True:
        try:
            task = connection.recv()
            connection.send(run(task, proxy, settings))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        gc.collect()


def end_with_parent() -> None:
    """Ends this process when its parent ends."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Clock:
    """Counts the seconds for which this process was not stopped.

    Call it about every second: of a longer pause `LONGEST_LOOK` counts.
    """

    def __init__(self):
        self._last, self._seconds = time.monotonic(), 0.0

    def __call__(self) -> float:
        """Returns the seconds since its creation."""
        now = time.monotonic()
        self._seconds += min(now - self._last, LONGEST_LOOK)
        self._last = now
        return self._seconds


class _Worker:
    def __init__(self, context, main, settings: Settings, since: float):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=main, args=(theirs, settings), daemon=True
        )
        self.process.start()
        theirs.close()
        self.ready = False
        # When it began its current activity: starting, or a task.
        self.since = since
        self.task: Task | None = None
        self.stages = 0

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalPool:
    """Workers on this machine.

    Args:
      settings: `workers` processes (0: one per core), `timeout` per stage.
      main: what a worker runs, with its connection and the settings.
    """

    def __init__(
        self,
        settings: Settings,
        main: Callable[[Any, Settings], None] = work,
    ):
        self._settings, self._main = settings, main
        self._context = multiprocessing.get_context("spawn")
        self._clock = Clock()
        count = settings.workers or os.cpu_count() or 1
        self._workers = [self._start() for _ in range(count)]
        self._attempts: collections.Counter[Task] = collections.Counter()
        self._failures = 0  # Consecutive workers that ended before READY.
        self._waiting: list[Task] = []

    @property
    def free(self) -> int:
        """Returns how many tasks could start now."""
        busy = sum(w.task is not None for w in self._workers)
        return len(self._workers) - busy - len(self._waiting)

    def submit(self, task: Task) -> None:
        """Submits a task, or queues it for the next free worker."""
        self._waiting.append(task)
        self._hand_out()

    def wait(self, seconds: float) -> list[Outcome]:
        """Returns finished outcomes, waiting at most this many seconds."""
        watched = {}
        for worker in self._workers:
            watched[worker.connection] = worker
            watched[worker.process.sentinel] = worker
        ready = multiprocessing.connection.wait(list(watched), seconds)
        outcomes = []
        for worker in {id(watched[r]): watched[r] for r in ready}.values():
            outcomes += self._collect(worker)
        for worker in list(self._workers):
            took = self._clock() - worker.since
            if not worker.ready and took > STARTUP:
                raise NoProxyError(
                    f"A worker was not ready after {STARTUP:g} s: the machine "
                    "is too busy, or reading the images hangs. "
                    f"Received: data_dir={self._settings.data_dir!r}"
                )
            if worker.ready and worker.task and took > self._settings.timeout:
                limit = f"{self._settings.timeout:g} s"
                outcomes += self._lose(worker, f"took longer than {limit}", 1)
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """Ends all workers; their running tasks are lost."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _start(self) -> _Worker:
        since = self._clock()
        return _Worker(self._context, self._main, self._settings, since)

    def _replace(self, worker: _Worker) -> None:
        worker.end()
        self._workers[self._workers.index(worker)] = self._start()

    def _collect(self, worker: _Worker) -> list[Outcome]:
        try:
            outcome = (
                worker.connection.recv() if worker.connection.poll() else None
            )
        except (EOFError, OSError):
            outcome = None
        if outcome is None:
            worker.process.join(5.0)  # The pipe closes before the process.
            code = worker.process.exitcode
            return self._lose(worker, f"worker died (exit {code})", ATTEMPTS)
        if isinstance(outcome, NoProxyError):
            raise outcome
        if outcome == READY:
            worker.ready, worker.since = True, self._clock()
            self._failures = 0
            return []
        worker.task = None
        worker.stages += 1
        self._attempts.pop(outcome.task, None)
        if worker.stages >= STAGES_A_PROCESS:
            self._replace(worker)
        return [outcome]

    def _lose(
        self, worker: _Worker, reason: str, attempts: int
    ) -> list[Outcome]:
        """Handles a lost worker: retries its task or gives it up."""
        task, took = worker.task, self._clock() - worker.since
        if not worker.ready:
            self._failures += 1
            if self._failures > ATTEMPTS * len(self._workers):
                raise NoProxyError(
                    f"Workers end before they are ready: {reason}. Their "
                    "output is above; `memory` may be too small. "
                    f"Received: memory={self._settings.memory:g}"
                )
        self._replace(worker)
        if task is None:
            return []
        self._attempts[task] += worker.ready
        if self._attempts[task] < attempts:
            self._waiting.insert(0, task)
            return []
        del self._attempts[task]
        # Its CPU time is lost with it. With one thread the elapsed time is an
        # upper bound, so a hang is charged.
        return [Outcome(task, {}, reason, took)]

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.task is None and self._waiting:
                task = self._waiting.pop(0)
                worker.task = task
                if worker.ready:
                    worker.since = self._clock()
                # If it died, `wait` notices and retries its task.
                dead = BrokenPipeError, ConnectionResetError
                with contextlib.suppress(*dead):
                    worker.connection.send(task)
