"""Datasets whose iterators end without delaying the run.

The end of a tf.data iterator waits for its tuner's thread, sometimes for as
long as the iterator has existed, at most 60 s: TensorFlow 2.20 wakes that
thread before it marks the iterator as cancelled, so the thread may find nothing
to do and sleep until its next period (`CancellationManager::StartCancel`,
`Model::OptimizeLoop`). The options of a dataset do not reach the tuners of the
iterators that a strategy creates, one per device. Old iterators are therefore
ended in a separate thread.
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
_left: list[Any] = []  # Iterators of finished runs, ended by the next run.


class Released:
    """A (distributed) dataset, iterated over by one iterator at a time.

    The previous iterator is released when the next one is created. All other
    references to it must be gone by then.
    """

    def __init__(self, dataset: Iterable[Any]):
        """Args: the dataset."""
        self._dataset = dataset
        self._held: list[Iterator[Any]] = []

    def __iter__(self) -> Iterator[Any]:
        self.release()
        self._held = [iter(self._dataset)]
        return self._held[0]

    def release(self) -> None:
        """Releases the last iterator without waiting for its end."""
        held, self._held = self._held, []
        _end_aside(held)

    def leave(self) -> None:
        """Leaves the last iterator to the next run, or to the process."""
        _left.extend(self._held)
        self._held.clear()


@contextlib.contextmanager
def released(runner: Any) -> Iterator[None]:
    """Ends the iterators of an Orbit trainer and evaluator without waiting.

    Its datasets are wrapped in `Released` inside.

    Args:
      runner: has `train_dataset`, `eval_dataset` or both.
    """
    left = list(_left)
    _left.clear()  # First, so that the thread has the last references.
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
            setattr(runner, name, dataset)  # Drops the iterator.
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
        # A strategy's iterator is part of reference cycles, which only the
        # collector breaks, and not while another thread collects.
        while not _collected():
            time.sleep(0.05)


def _collected() -> bool:
    before = gc.get_stats()[2]["collections"]
    gc.collect()
    return gc.get_stats()[2]["collections"] > before


@atexit.register
def _at_exit() -> None:
    """Keeps iterators alive at exit, because threads must not outlive it."""
    for thread in _threads:
        thread.join()
    for iterator in _left:
        # An additional reference: the process exits without ending it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(iterator))
