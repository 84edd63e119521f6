"""Iterators of a run end without keeping it waiting.

`test_iterators` runs this file in a process of its own: where an iterator of
another test is being ended, for up to a minute, nothing else is collected.
"""

import gc
import threading
import time
import weakref

import pytest

from training import iterators


class _Slow:
    """An iterator whose end takes its time, as one of tf.data may."""

    def __init__(self, may_end, ended):
        self._may_end, self._ended = may_end, ended
        self.cycle = self  # As a strategy's: only the collector ends it.

    def __next__(self):
        return 1

    def __del__(self):
        self._may_end.wait(30)
        self._ended.set()


class _Dataset:
    def __init__(self):
        self.may_end, self.ended = threading.Event(), []

    def __iter__(self):
        self.ended.append(threading.Event())
        return _Slow(self.may_end, self.ended[-1])


class _Runner:
    def __init__(self, train):
        self.train_dataset = train

    @property
    def eval_dataset(self):
        raise AttributeError("trains only")


def test_the_next_iterator_does_not_wait_for_the_end_of_the_last():
    gc.collect()
    dataset = _Dataset()
    released = iterators.Released(dataset)
    assert next(iter(released)) == 1
    gc.disable()
    try:
        iter(released)
    finally:
        gc.enable()
    assert not dataset.ended[0].is_set(), "waited for the old iterator"
    dataset.may_end.set()
    assert dataset.ended[0].wait(30)


def test_the_next_run_ends_what_the_last_one_left():
    dataset = _Dataset()
    runner = _Runner(dataset)
    with iterators.released(runner):
        iter(runner.train_dataset)
    assert not dataset.ended[0].is_set()
    dataset.may_end.set()
    with iterators.released(runner):
        assert dataset.ended[0].wait(30)


@pytest.mark.slow  # It imports TensorFlow; the others' iterators are as it.
def test_a_strategy_s_iterator_ends():
    import tensorflow as tf

    device = tf.distribute.OneDeviceStrategy("CPU:0")
    numbers = tf.data.Dataset.range(4)
    distributed = device.distribute_datasets_from_function(lambda _: numbers)
    released = iterators.Released(distributed)
    iterator = iter(released)
    assert int(next(iterator)) == 0
    gone = weakref.ref(iterator)
    del iterator
    assert int(next(iter(released))) == 0
    deadline = time.monotonic() + 30
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone() is None
