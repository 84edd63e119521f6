"""A whole run: trains, evaluates, draws, and resumes."""

import glob
import signal
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from detection import evaluate, task, train
from tests import running
from tests.detection import small
from training import checkpoints, config, runs, strategy


def _metrics(directory):
    lines = runs.Run(directory).metrics()
    trained = [line for line in lines if line["kind"] == "train"]
    return trained, next(line for line in lines if line["kind"] == "eval")


@pytest.fixture
def eagerly(request):
    """Graphs of the training step and of an export are others' tests."""
    tf.config.run_functions_eagerly(request.param)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    "eagerly",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    indirect=True,
)
def test_a_run_trains_evaluates_and_draws(eagerly, tmp_path):
    # An evaluation of two batches, the last of them filled up.
    params = small.parameters(task={"scenes": {"validation": 3}})
    display = small.Silent()
    result = small.run(tmp_path, params, "train_and_eval", display)
    assert result.step == 2
    trained, evaluated = _metrics(tmp_path)
    assert [line["step"] for line in trained] == [1, 2]
    named = {str(digit + 1): str(digit) for digit in range(10)}
    assert runs.Run(tmp_path).facts()["categories"] == named
    # The Model Garden reports a validation loss, and it is always 0.
    assert "validation_loss" not in evaluated
    figures = evaluate.score_file(
        str(tmp_path / "results.json"), params.task.annotation_file, "empty"
    )
    for name in evaluate.FIGURES:
        # Orbit's logs are float32.
        assert evaluated[name] == pytest.approx(figures[name], abs=1e-6)
        assert evaluated[f"mask_{name}"] == pytest.approx(
            figures[f"mask_{name}"], abs=1e-6
        )
    assert cv2.imread(str(tmp_path / train.PICTURE)).shape[2] == 3
    assert "Picture:" in display.lines[-1]
    (events,) = glob.glob(str(tmp_path / train.PICTURES / "events*"))
    drawn = [
        (event.step, value.tag)
        for event in tf.compat.v1.train.summary_iterator(events)
        for value in event.summary.value
    ]
    assert drawn and all(step == 2 for step, _ in drawn)


def _saved(folder):
    """Everything in the last checkpoint, by name: slots and steps as well."""
    path = checkpoints.readable(runs.Run(folder).checkpoint())
    reader = tf.train.load_checkpoint(path)
    names = [k for k in reader.get_variable_to_shape_map() if "/.ATTR" in k]
    # How many checkpoints were saved is not the run's state.
    names = [name for name in names if not name.startswith("save_counter")]
    return {name: reader.get_tensor(name) for name in names}


@pytest.mark.slow  # The classifier's, on the same path, runs every time.
def test_run_killed_without_warning_ends_as_the_unbroken_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed, [0.1] *?ü"
    about = {"text": True, "stdout": subprocess.PIPE}

    def command(folder):
        return [sys.executable, "-m", "tests.detection.small", str(folder)]

    with (
        subprocess.Popen(command(whole), **about) as unbroken,
        subprocess.Popen(command(killed), **about) as process,
    ):
        running.wait_for_step(process, killed, 2, seconds=400)
        process.send_signal(signal.SIGKILL)
        unbroken.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL
    assert unbroken.returncode == 0
    start = runs.Run(killed).step()
    assert 2 <= start < 6
    resumed = subprocess.run(command(killed), check=True, **about)
    assert f"Resuming from step {start} of 6" in resumed.stdout
    one, other = _saved(whole), _saved(killed)
    assert one.keys() == other.keys()
    for name, value in one.items():
        # The same examples, anchors and boxes were drawn: any other makes a
        # difference of 1e-2. Threads decide the order of some gradients' sums,
        # which makes one of 1e-7 a step.
        np.testing.assert_allclose(
            value, other[name], rtol=1e-3, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("experiment", ["coco_maskrcnn", "scenes_maskrcnn"])
def test_debug_makes_any_experiment_small(experiment):
    params = config.parse(experiment)
    classes = params.task.model.num_classes
    said = train.HEAD.shrink(params, replicas=3)
    assert params.task.model.num_classes == classes
    assert params.task.model.input_size == [128, 128, 3]
    # Scenes are there for either, and those of the one are its own.
    assert params.task.scenes.train == {"c": 16, "s": 512}[experiment[0]]
    steps = {"c": 4, "s": 200}[experiment[0]]
    assert params.trainer.train_steps == steps
    assert f"DEBUG: {steps} steps" in said and "digits" in said
    batch = {"c": 6, "s": 8}[experiment[0]]
    assert params.task.train_data.global_batch_size == batch


def test_debug_evaluates_a_few_batches_of_data_of_ones_own():
    params = config.parse(
        "coco_maskrcnn",
        params_override="task.train_data.input_path=train,"
        "task.validation_data.input_path=val,task.annotation_file=val.json,"
        "trainer.best_checkpoint_export_subdir=best,"
        "trainer.best_checkpoint_eval_metric=AP",
    )
    said = train.HEAD.shrink(params)
    assert "on train, evaluated on at most 8 images" in said
    assert params.trainer.validation_steps == 4
    # The metrics have other names, and a folder alone would be refused.
    assert not params.trainer.best_checkpoint_eval_metric
    assert not params.trainer.best_checkpoint_export_subdir
    assert params.task.validation_data.global_batch_size == 2


@pytest.mark.parametrize("batch", [0, 3])
def test_a_validation_batch_that_replicas_cannot_share_is_named(batch):
    params = small.parameters()
    params.task.validation_data.global_batch_size = batch
    session = types.SimpleNamespace(
        params=params,
        prepared=None,
        devices=types.SimpleNamespace(num_replicas_in_sync=2),
        mode="eval",
    )
    with pytest.raises(ValueError, match=r"task\.validation_data\.global_ba"):
        train.HEAD.build(session)


# The trainer's replicas are tested in tests/training, the layers' in
# tests/layers, and that a model's layers have the setting in test_model.py.
@pytest.mark.slow
def test_two_replicas_stay_in_step_with_each_other(tmp_path):
    params = small.parameters("bn_relu")
    params.runtime.cpu_replicas = 2
    params.task.train_data.global_batch_size = 4
    devices = strategy.build(params.runtime)
    assert devices.num_replicas_in_sync == 2
    prepared = task.prepare(params, str(tmp_path))
    data = params.task.train_data
    batches = devices.distribute_datasets_from_function(
        lambda context: prepared.build_inputs(data, context)
    )
    with devices.scope():
        built = prepared.build_model()
        optimizer = tf_keras.optimizers.Adam(1e-2)
        optimizer.build(built.trainable_variables)
    batch = next(iter(batches))
    images = devices.experimental_local_results(batch[0])
    assert [image.shape for image in images] == [(2, 64, 64, 3)] * 2
    assert not np.array_equal(*images)
    kernel = built.backbone.trainable_weights[0]
    before = kernel.numpy()
    # Eagerly: a graph of two replicas takes minutes to trace.
    with evonorm_tf.using(xla=False):
        logs = devices.run(prepared.train_step, (batch, built, optimizer))
    losses = devices.experimental_local_results(logs[prepared.loss])
    assert all(np.isfinite(loss) for loss in losses)
    assert not np.array_equal(before, kernel.numpy())
    for weight in built.weights:
        one, two = (value.numpy() for value in weight.values)
        assert np.isfinite(one).all(), weight.name
        # Parameters by the summed gradient, statistics by their mean.
        np.testing.assert_array_equal(one, two, weight.name)
