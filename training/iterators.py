"""Data sets whose iterators end without keeping the run waiting.

The end of a tf.data iterator waits for its tuner's thread, and now and then
for as long as the iterator has lived, 60 s at most: TensorFlow 2.20 wakes
that thread before it marks the iterator as cancelled, so a thread that is
quick to wake sees nothing to do and sleeps out its period
(`CancellationManager::StartCancel`, `Model::OptimizeLoop`). The options of a
data set do not reach the tuners of the iterators that a strategy wraps around
it, one a device. So the old iterators are left to a thread of their own.
"""

import atexit
import contextlib
import ctypes
import gc
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

_ENDING = threading.Lock()
_threads: list[threading.Thread] = []
_left: list[Any] = []  # By finished runs, to be ended by the next.


class Released:
    """A (distributed) data set, iterated over by one iterator at a time.

    The iterator before is given up when the next is made. What else holds it
    must have let go of it by then.
    """

    def __init__(self, dataset: Iterable[Any]):
        """Args: the data set."""
        self._dataset = dataset
        self._held: list[Iterator[Any]] = []

    def __iter__(self) -> Iterator[Any]:
        self.release()
        self._held = [iter(self._dataset)]
        return self._held[0]

    def release(self) -> None:
        """Gives the last iterator up; at once, whatever its end waits for."""
        held, self._held = self._held, []
        _end_aside(held)

    def leave(self) -> None:
        """Leaves the last iterator to the next run, or to the process."""
        _left.extend(self._held)
        self._held.clear()


@contextlib.contextmanager
def released(runner: Any) -> Iterator[None]:
    """Ends the iterators of an Orbit trainer and evaluator without waiting.

    Its data sets are `Released` ones inside.

    Args:
      runner: has `train_dataset`, `eval_dataset` or both.
    """
    left = list(_left)
    _left.clear()  # First: the thread must find the last references.
    _end_aside(left)
    held = {}
    for name in ("train_dataset", "eval_dataset"):
        dataset = getattr(runner, name, None)
        if dataset is not None:
            held[name] = Released(dataset)
            setattr(runner, name, held[name])
    try:
        yield
    finally:
        for name, dataset in held.items():
            setattr(runner, name, dataset)  # Lets go of the iterator.
            dataset.leave()


def _end_aside(held: list[Any]) -> None:
    if held:
        _threads[:] = [each for each in _threads if each.is_alive()]
        thread = threading.Thread(target=_end, args=(held,), daemon=True)
        _threads.append(thread)
        thread.start()


def _end(held: list[Any]) -> None:
    with _ENDING:
        held.clear()
        # A strategy's iterator is part of cycles, which only this breaks. It
        # does nothing while another thread collects.
        while not _collected():
            time.sleep(0.05)


def _collected() -> bool:
    before = gc.get_stats()[2]["collections"]
    gc.collect()
    return gc.get_stats()[2]["collections"] > before


@atexit.register
def _at_exit() -> None:
    """A thread may not outlive the interpreter; an iterator may."""
    for thread in _threads:
        thread.join()
    for iterator in _left:
        # One reference too many: the process ends without ending it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(iterator))
