"""Workers that play a part, for pools under test.

Each new process imports this file, so nothing here needs TensorFlow, whose
import takes longer than all that these workers do.
"""

import gc
import os
import signal
import time
import types
import weakref

import numpy

from evonorm_tf import graphs
from evonorm_tf.search import worker
from evonorm_tf.search.stages import Outcome
from tests.search.fakes import outcome

# What a trial's first stage does with `bad`, by its number, and what is said of
# it. Above the stage's milliseconds, on a machine that runs other tests too.
TIMEOUT = 4.0
KINDS = {
    "behaves": "",
    "raises": "raised ZeroDivisionError: on purpose",
    "hangs": f"took longer than {TIMEOUT:g} s",
    "crashes": "worker died (exit -11)",
    "grows": "raised MemoryError",
}


def play(connection, settings):
    """A worker that does what the stage's name says."""
    connection.send(worker.READY)
    while True:
        task = connection.recv()
        if task.stage == "hang":
            time.sleep(600)
        if task.stage == "die":
            os._exit(9)
        if task.stage == "die once" and not os.path.exists(task.graph):
            open(task.graph, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if task.stage == "grow":
            worker.limit_memory(0.2)
            numpy.ones(10**9)
        result = {"pid": os.getpid()}
        connection.send(Outcome(task, result, "", 0.0))


def slow(connection, settings):
    """A worker that starts for longer than a stage may take."""
    time.sleep(2 * settings.timeout)
    play(connection, settings)


def never(connection, settings):
    """A worker that ends while it starts."""
    os._exit(3)


def idle(connection, settings):
    """What every worker does first, and then nothing."""
    worker.end_with_parent()
    print("ready", flush=True)
    connection.recv()
    time.sleep(600)


def quick(connection, settings):
    """A worker whose stages take a twentieth of a second."""
    worker.end_with_parent()
    connection.send(worker.READY)
    while True:
        try:
            task = connection.recv()
            time.sleep(0.05)
            connection.send(outcome(task))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _no_images(settings):
    raise worker.NoProxyError("no images")


def blind(connection, settings):
    """`worker.work` without images."""
    worker.prepare = _no_images
    worker.work(connection, settings)


class _Cycle:
    def __init__(self):
        self.itself = self


class _Leaving:
    """A proxy whose norms are how many earlier cycles are still alive."""

    def __init__(self):
        gc.disable()  # Only what the worker does itself counts.
        self._left = weakref.WeakSet()

    def stability(self, row):
        result = {"norm": len(self._left), "steps": 1}
        self._left.add(_Cycle())
        return types.SimpleNamespace(_asdict=lambda: result)


def leave(connection, settings):
    """`worker.work` with such a proxy."""
    worker.prepare = lambda settings: _Leaving()
    graphs.row = lambda graph: graph
    worker.work(connection, settings)


def kind_of(trial):
    return list(KINDS)[trial % len(KINDS)]


class _Bad:
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
    """`worker.work` with such a proxy."""
    worker.end_with_parent()
    graphs.row = lambda graph: graph
    worker.limit_memory(1.0)
    proxy = _Bad()
    connection.send(worker.READY)
    while True:
        try:
            proxy.task = connection.recv()
            connection.send(worker.run(proxy.task, proxy, settings))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
