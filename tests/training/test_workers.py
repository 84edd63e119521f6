"""Workers that see different runs stop, all of them, in plain words."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.classification import images, small
from training import config, workers

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


def _compared(monkeypatch, folder, mode, changes):
    """Returns what a run compares with the other workers."""
    found = []

    def stop(devices, values, folder):
        del devices, folder
        found.append(values())
        raise InterruptedError

    monkeypatch.setattr(workers, "require_agreement", stop)
    params = small.parameters()
    config.override(params, changes)
    with pytest.raises(InterruptedError):
        small.run(folder, params, mode)
    return found[0] | {"code": "a1"}


@pytest.mark.parametrize(
    "mode, changes",
    [
        ("train", {}),
        ("train_and_eval", {"trainer": {"train_steps": 11}}),
        ("train_and_eval", {"trainer": {"validation_interval": 6}}),
        ("train_and_eval", {"trainer": {"validation_steps": 1}}),
        ("train_and_eval", {"trainer": {"steps_per_loop": 1}}),
        ("train_and_eval", {"runtime": {"accumulation_steps": 2}}),
        (
            "train_and_eval",
            {"task": {"validation_data": {"global_batch_size": 128}}},
        ),
    ],
)
def test_what_makes_a_worker_wait_is_compared(
    mode, changes, tmp_path, monkeypatch
):
    usual = _compared(monkeypatch, tmp_path, "train_and_eval", {})
    other = _compared(monkeypatch, tmp_path, mode, changes)
    workers.refuse_differences([usual, usual], "x")
    with pytest.raises(ValueError, match="different settings"):
        workers.refuse_differences([usual, other], "x")


def test_data_may_be_elsewhere_on_each_host(tmp_path, monkeypatch):
    found = []
    for place in ("one", "other"):
        for split in ("train", "test"):
            images.write_folder(tmp_path / place / split)
        data = {"dataset": "folder", "image_size": 16}
        path = {"path": str(tmp_path / place / "{split}")}
        changes = {"train_data": data | path, "validation_data": data}
        found.append(
            _compared(monkeypatch, tmp_path / "run", "train", {"task": changes})
        )
    workers.refuse_differences(found, "x")


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
