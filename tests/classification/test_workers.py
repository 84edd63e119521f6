"""Replicas and workers equal one device.

`python -m tests.classification.test_workers MODEL_DIR CLUSTER CLUSTER` is two
of the workers, of which one is forked when all is imported: it takes as long as
the run.

The layer is EvoNorm-B0 with pooled batch statistics: halves of a batch must
behave as the whole. Without augmentation, which is drawn a replica at a time.
"""

import json
import os
import pathlib
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import running
from tests.classification import small
from training import config, runs
from training.images import sources

_CHANGES = (
    "task.train_data.augmentation=none,task.train_data.global_batch_size=8,"
    "task.validation_data.global_batch_size=256,task.model.width=0.5,"
    "task.model.norm_act.synchronized=true,"
    "trainer.steps_per_loop=1,"
    "trainer.checkpoint_interval=2,trainer.validation_interval=4,"
    "trainer.best_checkpoint_export_subdir=best,"
    "trainer.best_checkpoint_eval_metric=accuracy,"
    # A schedule would depend on the run's length.
    "trainer.optimizer_config.learning_rate.type=constant,"
    "trainer.optimizer_config.learning_rate.constant.learning_rate=0.05"
)


def _arguments(folder, changes="", steps=4):
    return (
        "classification.train",
        "--experiment=digits_resnet",
        "--norm_act=evonorm_b0",
        f"--model_dir={folder}",
        f"--params_override={_CHANGES},trainer.train_steps={steps}{changes}",
    )


def _run(folder, changes="", steps=4, mode="train_and_eval", whole=False):
    changes = f",trainer.train_steps={steps},runtime.compile='off'{changes}"
    if not whole:
        changes += f",task.model.network={small.network()}"
        changes += ",task.model.max_depth=1"
    params = config.parse(
        "digits_resnet",
        norm_act="evonorm_b0",
        params_override=_CHANGES + changes,
    )
    display = small.Silent()
    small.run(folder, params, mode, display)
    return "\n".join(display.lines)


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
    _run(folder)
    return folder


def _assert_equal_runs(folder, one_device):
    # Pooled moments are sums in another order: float32, through the layers.
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


@pytest.mark.slow
def test_two_logical_cpus(one_device, tmp_path):
    said = _run(tmp_path, ",runtime.cpu_replicas=2")
    assert "MirroredStrategy, 2 CPU replica(s), batch 8 (4 a replica)" in said
    _assert_equal_runs(tmp_path, one_device)


@pytest.mark.slow
def test_two_workers_by_the_command(tmp_path):
    said = running.two_workers(*_arguments(tmp_path / "two"))
    assert all("2 CPU replica(s), batch 8 (4 a replica)" in x for x in said)
    _run(tmp_path / "one", whole=True)
    _assert_equal_runs(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize(
    "begun_by_one", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_two_workers(begun_by_one, one_device, tmp_path):
    # In two parts: the second resumes from the chief's checkpoint, on both.
    folder = tmp_path / "run"
    if begun_by_one:
        _run(folder, steps=2, mode="train")
    running.finish(
        running.start(
            "tests.classification.test_workers",
            str(folder),
            *map(json.dumps, running.clusters()),
        )
    )
    said = [_said(folder, index).read_text() for index in range(2)]
    assert all("2 CPU replica(s), batch 8 (4 a replica)" in x for x in said)
    assert all("Resuming from step 2 of 4" in x for x in said)
    ends = [
        [line for line in text.splitlines() if "step 4: accuracy" in line]
        for text in said
    ]
    assert ends[0] == ends[1] != [], "workers measure different things"
    lines = runs.Run(folder).metrics()
    trained = [x["step"] for x in lines if x["kind"] == "train"]
    assert trained == [1, 2, 3, 4], "written by the chief alone"
    _assert_equal_runs(folder, one_device)


@pytest.mark.slow  # Fewer replicas are in tests/training/test_accumulation.py.
@pytest.mark.parametrize("spread", ["replicas", "workers"])
def test_compiled_steps_equal_those_that_are_not(spread, tmp_path):
    def weights(kind):
        *arguments, changes = _arguments(tmp_path / kind, steps=3)
        changes = changes.replace("synchronized=true", "synchronized=false")
        changes += f",runtime.compile={kind}"
        if spread == "workers":
            said = running.two_workers(*arguments, changes)[0]
        else:
            changes += ",runtime.cpu_replicas=4"
            (said,) = running.finish(running.start(*arguments, changes))
        whole = "XLA compiles forward and backward pass as one"
        assert (whole in said) == (kind == "step")
        return _weights(tmp_path / kind)

    compiled = weights("step")
    for name, value in weights("layers").items():
        # Gradients, in the momentum too, are sums in another order.
        np.testing.assert_allclose(
            compiled[name],
            value,
            rtol=0,
            atol=1e-5 * np.abs(value).max(),
            err_msg=name,
        )


def _said(folder, index):
    """The file of what that worker says."""
    return pathlib.Path(folder).with_name(f"said-by-{index}.txt")


def _end_after(parent):
    """Ends this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(folder, *clusters):
    """One worker, whose child is the other: before TensorFlow has threads."""
    # As in the process of the tests.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    sources.digits("train")  # Imports scikit-learn.
    parent = os.getpid()
    child = os.fork()
    index = 0 if child else 1
    if not child:
        # A test whose time is up kills the first alone.
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()
    os.environ["TF_CONFIG"] = clusters[index]
    said = [_run(folder, steps=2, mode="train")]
    while running.saved(folder) < 2:  # The chief saves, and ends later.
        time.sleep(0.01)
    _said(folder, index).write_text("\n".join([*said, _run(folder)]))
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _work(*sys.argv[1:])
