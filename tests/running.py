"""Watching a run in another process."""

import pathlib
import subprocess
import time

import tensorflow as tf

from training import runs


def wait_for_step(
    process: subprocess.Popen, folder: pathlib.Path, step: int, seconds: float
) -> None:
    """Returns when the run in `folder` has saved that step.

    A running run removes its older checkpoints, now and then between the
    moment when one is found and the moment when it is read.
    """
    deadline = time.monotonic() + seconds
    while _saved(folder) < step:
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "the run saved too little"
        time.sleep(0.01)


def _saved(folder: pathlib.Path) -> int:
    try:
        return runs.Run(folder).step()
    except tf.errors.NotFoundError:
        return 0
