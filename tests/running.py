"""Runs in other processes: watched, or several as the workers of one."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import tensorflow as tf

from training import runs

# For processes of a head, which use one Keras of two: without the other one,
# the import of TensorFlow takes three quarters of the time.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1"}


def wait_for_step(
    process: subprocess.Popen, folder: pathlib.Path, step: int, seconds: float
) -> None:
    """Returns when the run in `folder` has saved that step.

    A running run removes its older checkpoints, now and then between the
    moment when one is found and the moment when it is read.
    """
    deadline = time.monotonic() + seconds
    while (found := saved(folder)) < step:
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "the run saved too little"
        # Until it has saved anything, most of the time is that of imports.
        time.sleep(0.01 if found else 0.05)


def saved(folder: pathlib.Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    try:
        return runs.Run(folder).step()
    except tf.errors.NotFoundError:
        return 0


def start(
    module: str, *arguments: str, cluster: dict | None = None
) -> subprocess.Popen:
    """Starts `python -m module`, as one of a cluster's workers or alone."""
    environment = os.environ | ENVIRONMENT
    environment.pop("TF_CONFIG", None)
    if cluster:
        environment["TF_CONFIG"] = json.dumps(cluster)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(*processes: subprocess.Popen, seconds: float = 240) -> list[str]:
    """Their output; none is left behind, whatever happens."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        said = [each.communicate(timeout=seconds)[0] for each in processes]
    codes = [process.returncode for process in processes]
    assert not any(codes), "\n\n".join(said)
    return said


def require_same_end(said: list[str], step: int) -> None:
    """Asserts that all workers printed the same figures at the last step."""
    ends = [
        [line for line in text.splitlines() if f"step {step}: " in line]
        for text in said
    ]
    assert ends[0] and all(end == ends[0] for end in ends)


def clusters() -> list[dict]:
    """What the first and the second of two workers are told of both."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:  # Free ports, as far as one can know beforehand.
            each.bind(("localhost", 0))
        hosts = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    return [
        {
            "cluster": {"worker": hosts},
            "task": {"type": "worker", "index": index},
        }
        for index in range(2)
    ]


def two_workers(
    module: str, *arguments: str, seconds: float = 240
) -> list[str]:
    """The output of two processes that train together."""
    processes = [
        start(module, *arguments, cluster=cluster) for cluster in clusters()
    ]
    return finish(*processes, seconds=seconds)
