"""Replicas and workers, through the entrypoint, equal one device.

The layer is EvoNorm-B0 with pooled batch statistics: halves of a batch must
behave as the whole. Without augmentation, which is drawn a replica at a time.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from training import runs

_TIMEOUT = 240  # seconds
_CHANGES = (
    "task.train_data.augmentation=none,task.train_data.global_batch_size=8,"
    "task.validation_data.global_batch_size=256,task.model.width=0.5,"
    "task.model.norm_act.synchronized=true,task.model.max_depth=1,"
    "trainer.steps_per_loop=1,"
    "trainer.checkpoint_interval=2,trainer.validation_interval=4,"
    "trainer.best_checkpoint_export_subdir=best,"
    "trainer.best_checkpoint_eval_metric=accuracy,"
    # A schedule would depend on the run's length.
    "trainer.optimizer_config.learning_rate.type=constant,"
    "trainer.optimizer_config.learning_rate.constant.learning_rate=0.05"
)


def _start(folder, changes="", cluster=None, steps=4):
    """The entrypoint as a process of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("TF_CONFIG", None)
    if cluster:
        environment["TF_CONFIG"] = json.dumps(cluster)
    return subprocess.Popen(
        [sys.executable, "-m", "classification.train"]
        + ["--experiment=digits_resnet", "--norm_act=evonorm_b0"]
        + [f"--model_dir={folder}"]
        + [
            f"--params_override={_CHANGES}{changes},trainer.train_steps={steps}"
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def _finish(*processes):
    """Their output; none is left behind, whatever happens."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        said = [each.communicate(timeout=_TIMEOUT)[0] for each in processes]
    codes = [process.returncode for process in processes]
    assert not any(codes), "\n\n".join(said)
    return said


def _losses(folder):
    lines = runs.Run(folder).metrics()
    return [x["training_loss"] for x in lines if x["kind"] == "train"]


def _weights(folder):
    reader = tf.train.load_checkpoint(str(folder))
    names = reader.get_variable_to_shape_map()
    return {k: reader.get_tensor(k) for k in names if k.startswith("model/")}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Losses, weights and metrics of the run on one device."""
    folder = tmp_path_factory.mktemp("one")
    _finish(_start(folder))
    return folder


def _assert_equal_runs(folder, one_device):
    # Pooled moments are sums in another order: float32, through 8 layers.
    np.testing.assert_allclose(_losses(folder), _losses(one_device), rtol=1e-4)
    weights = _weights(one_device)
    for name, value in _weights(folder).items():
        np.testing.assert_allclose(
            value, weights[name], rtol=1e-3, atol=1e-4, err_msg=name
        )
    ends = [runs.Run(f).metrics()[-1] for f in (folder, one_device)]
    assert ends[0]["kind"] == ends[1]["kind"] == "eval"
    assert ends[0]["cross_entropy"] == pytest.approx(
        ends[1]["cross_entropy"], rel=1e-3
    )


def test_two_logical_cpus(one_device, tmp_path):
    (said,) = _finish(_start(tmp_path, ",runtime.cpu_replicas=2"))
    assert "MirroredStrategy, 2 CPU replica(s), batch 8 (4 a replica)" in said
    _assert_equal_runs(tmp_path, one_device)


def _ports(count):
    """Free ports of this machine, as far as one can know beforehand."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def _two_workers(folder, changes="", steps=4):
    hosts = [f"localhost:{port}" for port in _ports(2)]
    processes = [
        _start(
            folder,
            changes,
            {
                "cluster": {"worker": hosts},
                "task": {"type": "worker", "index": index},
            },
            steps,
        )
        for index in range(2)
    ]
    return _finish(*processes)


def test_two_workers(one_device, tmp_path):
    # In two parts: the second goes on from the chief's checkpoint, on both.
    said = _two_workers(tmp_path, steps=2)
    assert all("2 CPU replica(s), batch 8 (4 a replica)" in x for x in said)
    said = _two_workers(tmp_path)
    assert all("Going on from step 2 of 4" in x for x in said)
    ends = [
        [line for line in text.splitlines() if "step 4: accuracy" in line]
        for text in said
    ]
    assert ends[0] == ends[1] != [], "workers measure different things"
    lines = runs.Run(tmp_path).metrics()
    trained = [x["step"] for x in lines if x["kind"] == "train"]
    assert trained == [1, 2, 3, 4], "written by the chief alone"
    _assert_equal_runs(tmp_path, one_device)
