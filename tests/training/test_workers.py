"""Workers that see different runs stop, all of them, in plain words."""

import json
import os
import socket
import subprocess
import sys

import pytest

from training import workers

_WORKER = """
import sys
import numpy as np
from training import strategy, workers
devices = strategy.build(strategy.Runtime())
share = workers.share(devices)
assert share.pipelines == 2
found = workers.gather(["\u00e4" * (1 + 5 * share.pipeline)], devices)
assert found == [["\u00e4"], ["\u00e4" * 6]], found
joined = workers.join(np.arange(share.pipeline + 1), devices)
assert joined.tolist() == [0, 0, 1], joined
assert workers.is_chief(devices) == (share.pipeline == 0)
workers.require_agreement(devices, lambda: {"step": 4}, "shared")
seen = {"step": int(sys.argv[1])}
workers.require_agreement(devices, lambda: seen, "its-own")
"""


@pytest.mark.slow
def test_workers_that_go_on_from_different_steps_are_refused():
    with socket.socket() as one, socket.socket() as other:
        one.bind(("localhost", 0))
        other.bind(("localhost", 0))
        hosts = [f"localhost:{s.getsockname()[1]}" for s in (one, other)]
    cluster = {"worker": hosts}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(4 * index)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"TF_CPP_MIN_LOG_LEVEL": "2"}
            | {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": cluster,
                        "task": {"type": "worker", "index": index},
                    }
                )
            },
        )
        for index in range(2)
    ]
    try:
        errors = [each.communicate(timeout=120)[1] for each in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for text in errors:
        assert "model_dir='its-own', step by worker=[0, 4]" in text
        assert "storage that they share" in text


@pytest.mark.parametrize(
    "key, one, other, message",
    [
        ("step", 0, 4, "different steps.*one model_dir"),
        ("code", "a1", "b2", "different versions of this project"),
        ("data", ["9 records"], ["8 records"], r"different data.*8 records"),
        (
            "config",
            {"task.seed": 0, "task.same": 1},
            {"task.seed": 1, "task.same": 1},
            r"same flags.*by worker=\[{'task.seed': 0}, {'task.seed': 1}\]",
        ),
    ],
)
def test_workers_must_agree(key, one, other, message):
    same = {"step": 2, "code": "a1", "config": {}, "data": []}
    workers.refuse_differences([same, dict(same)], "runs/x")
    with pytest.raises(ValueError, match=message):
        workers.refuse_differences(
            [same | {key: one}, same | {key: other}], "runs/x"
        )
