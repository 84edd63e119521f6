"""A run: resumed it equals the unbroken one, broken down it says so."""

import json
import operator
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from classification import task, train
from evonorm_tf import commands
from tests import running
from tests.classification import images, small
from tests.detection import small as detection
from training import checkpoints, config, runs


def _weights(result):
    return [weight.numpy() for weight in result.model.weights]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of 12 steps: its directory and its weights."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, _weights(small.run(folder, small.parameters()))


def _saved(folder):
    """Everything in the last checkpoint, by name: slots, averages, steps."""
    path = checkpoints.readable(runs.Run(folder).checkpoint())
    reader = tf.train.load_checkpoint(path)
    names = [k for k in reader.get_variable_to_shape_map() if "/.ATTR" in k]
    # How many checkpoints were saved is not the run's state.
    names = [name for name in names if not name.startswith("save_counter")]
    return {name: reader.get_tensor(name) for name in names}


def _assert_equal_runs(whole, killed, moment):
    one, other = _saved(whole), _saved(killed)
    assert one.keys() == other.keys()
    for name, value in one.items():
        # Bit for bit: the same operations on the same numbers.
        np.testing.assert_array_equal(value, other[name], f"{name} {moment}")
    lines = [runs.Run(folder).metrics() for folder in (whole, killed)]
    steps = [[(x["kind"], x["step"]) for x in found] for found in lines]
    assert steps[0] == steps[1]
    kept = [runs.Run(folder).best() for folder in (whole, killed)]
    assert kept[0] == kept[1]
    return kept[0]


def test_a_command_stopped_by_ctrl_c_ends_as_the_unbroken_one(tmp_path):
    """Says so, and nothing of TensorFlow before its first line or after.

    It looks for devices, of which TensorFlow has most to say.
    """
    whole, stopped = tmp_path / "whole", tmp_path / "stopped, [0.1] *?ü"
    changes = small.everything_by_name()
    params = config.parse("digits_resnet", params_override=changes)
    first = small.run(whole, params, "train_and_eval")
    moment = random.SystemRandom().choice([2, 4, 6])
    environment = os.environ | running.ENVIRONMENT
    del environment[commands.LOG_LEVEL]
    process = subprocess.Popen(
        [sys.executable, "-m", "classification.train"]
        + ["--experiment=digits_resnet", f"--model_dir={stopped}"]
        + [f"--params_override={changes}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job is started deaf to it, and its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        running.wait_for_step(process, stopped, moment, seconds=120)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, (said, errors)
    assert not errors, errors
    start = runs.Run(stopped).step()
    assert moment <= start < 16
    assert f"saved up to step {start}" in said.splitlines()[-1]
    assert runs.Run(stopped).metrics()[-1]["step"] >= start
    display = small.Silent()
    params = config.parse("digits_resnet", params_override=changes)
    resumed = small.run(stopped, params, "train_and_eval", display)
    assert f"Resuming from step {start} of 16" in display.lines[0]
    assert first.metrics == resumed.metrics
    assert _assert_equal_runs(whole, stopped, moment) is not None


@pytest.mark.slow  # Stopped by Ctrl-C above; what it may leave half is below.
@pytest.mark.parametrize(
    "variant, mode",
    [
        ("plain", "train"),
        ("everything", "train_and_eval"),
    ],
)
def test_run_killed_without_warning_ends_as_the_unbroken_one(
    variant, mode, tmp_path
):
    whole, killed = tmp_path / "whole", tmp_path / "killed, [0.1] *?ü"
    params = small.VARIANTS[variant]
    first = small.run(whole, params(), mode)
    command = [sys.executable, "-m", "tests.classification.small"]
    moment = random.SystemRandom().choice([2, 4, 6, 8])
    command += [str(killed), variant, mode]
    environment = os.environ | running.ENVIRONMENT
    with subprocess.Popen(command, env=environment) as process:
        running.wait_for_step(process, killed, moment, seconds=240)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    start = runs.Run(killed).step()
    assert moment <= start < 12
    display = small.Silent()
    resumed = small.run(killed, params(), mode, display)
    assert f"Resuming from step {start} of 12" in display.lines[0]
    assert first.metrics == resumed.metrics
    kept = _assert_equal_runs(whole, killed, moment)
    assert (kept is not None) == (variant == "everything")


@pytest.mark.slow
def test_another_seed_is_another_run(unbroken, tmp_path):
    params = small.parameters(train_steps=12)
    params.task.train_data.seed = 1
    other = _weights(small.run(tmp_path, params))
    differs = [
        not np.allclose(a, b) for a, b in zip(unbroken[1], other, strict=True)
    ]
    assert any(differs)


def test_config_versions_and_metrics_are_recorded(unbroken):
    folder, _ = unbroken
    recorded = (folder / "params.yaml").read_text()
    assert recorded == runs.as_yaml(_resolved())
    about = json.loads((folder / "run.json").read_text())
    assert about["tensorflow"] == tf.__version__
    assert "batch 8" in about["devices"]
    last = runs.Run(folder).metrics()[-1]
    assert last["kind"] == "train"
    assert last["training_loss"] > 0
    assert last["images_per_second"] > 0


def _resolved():
    params = small.parameters()
    task.prepare(params)
    return params


def test_evaluation_alone_reads_the_checkpoint(unbroken, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(unbroken[0], folder)
    result = small.run(folder, small.parameters(), "eval")
    assert result.step == 12
    assert 0 <= result.metrics["accuracy"] <= 1
    with pytest.raises(ValueError, match="train first"):
        small.run(tmp_path / "empty", small.parameters(), "eval")


def test_model_dir_of_another_model_is_refused(unbroken, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(unbroken[0], folder)
    with pytest.raises(ValueError, match=r"(another|different) model"):
        small.run(folder, small.parameters("bn_relu"))


def _copied(unbroken, folder, step=12):
    """A copy of the unbroken run, as it was at `step`."""
    shutil.copytree(unbroken[0], folder)
    tf.compat.v1.train.update_checkpoint_state(
        str(folder), str(folder / f"ckpt-{step}")
    )
    return folder


def _record(folder):
    names = ("metrics.jsonl", "params.yaml", "run.json")
    return {name: (folder / name).read_text() for name in names}


def _recorded(folder, step):
    """A record of a run of two steps, without a checkpoint."""
    params = small.parameters(train_steps=2)
    task.prepare(params)
    runs.Run(folder).record(params, "one")
    runs.Run(folder).add_metrics("eval", step, {"accuracy": 0.5})
    return _record(folder)


def test_a_record_without_a_checkpoint_is_not_replaced(tmp_path):
    before = _recorded(tmp_path, 2)
    with pytest.raises(ValueError, match="record of a finished run, but no"):
        small.run(tmp_path, small.parameters(train_steps=2))
    assert _record(tmp_path) == before
    os.remove(tmp_path / "params.yaml")
    with pytest.raises(ValueError, match=r"no params.yaml next to the metrics"):
        small.run(tmp_path, small.parameters(train_steps=2))
    assert runs.Run(tmp_path).metrics_at(2)


def test_a_run_without_a_checkpoint_begins_again_if_nothing_is_wrong(tmp_path):
    before = _recorded(tmp_path, 1)
    for changes, words in (
        ({"task": {"seed": 7}}, r"seed=7 \(recorded: 0\)"),
        ({"runtime": {"compile": "foo"}}, "compile='foo'"),
    ):
        params = small.parameters(train_steps=2)
        config.override(params, changes)
        with pytest.raises(ValueError, match=words):
            small.run(tmp_path, params)
        assert _record(tmp_path) == before
    small.run(tmp_path, small.parameters(train_steps=2))
    assert [x["kind"] for x in runs.Run(tmp_path).metrics()] == ["train"]


@pytest.mark.slow  # The record itself is in tests/training/test_runs.py.
def test_a_run_records_all_devices_it_had(unbroken, tmp_path):
    folder = _copied(unbroken, tmp_path / "copy", step=10)
    params = small.parameters()
    params.runtime.cpu_replicas = 2
    small.run(folder, params)
    one, two = runs.Run(folder).facts()["devices"].split(", then ")
    assert "(8 a replica)" in one and "(4 a replica)" in two


def test_what_follows_the_checkpoint_is_kept_until_it_is_read(
    unbroken, tmp_path
):
    folder = _copied(unbroken, tmp_path / "copy", step=6)
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("width: 0.5", "width: 0.25"))
    before = _record(folder)
    params = small.parameters()
    params.task.model.width = 0.25
    with pytest.raises(ValueError, match="different model"):
        small.run(folder, params)
    assert _record(folder) == before


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        *(
            ("runtime", key, value, "no effect; keep it at")
            for key, value in (
                ("worker_hosts", "a:1,b:2"),
                ("all_reduce_alg", "ring"),
                ("num_packs", 2),
                ("gpu_thread_mode", "gpu_private"),
                ("run_eagerly", True),
                ("num_cores_per_replica", 2),
            )
        ),
        ("trainer", "continuous_eval_timeout", 1, "no effect; keep it at 3600"),
        ("trainer", "steps_per_loop", 0, "at least 1"),
        ("trainer", "max_to_keep", 0, "at least 1"),
        ("trainer", "validation_steps", 0, "at least 1"),
        ("trainer", "validation_steps", -2, "at least 1"),
        ("trainer", "validation_interval", -3, "at least 0"),
        ("trainer", "checkpoint_interval", 0, "at least 1"),
        ("trainer", "checkpoint_interval", -7, "at least 1"),
        ("trainer", "best_checkpoint_export_subdir", ".", "folder of its own"),
        ("task", "seed", 2**32, "at least 0 and below"),
        ("task", "seed", -1, "at least 0 and below"),
        ("task.train_data", "seed", 2**50, "at least 0 and below"),
        ("runtime", "num_gpus", -1, "at least 0"),
        ("runtime", "cpu_replicas", -1, "at least 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    section, key, value, words, tmp_path
):
    params = small.parameters()
    setattr(operator.attrgetter(section)(params), key, value)
    with pytest.raises(ValueError, match=f"{words}.*{section}.{key}="):
        small.run(tmp_path / "run", params)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key, words",
    [
        ("eval_metric", "Did you mean accuracy"),
        ("metric_comp", "higher or lower"),
    ],
)
def test_an_unknown_best_is_refused_before_training(key, words, tmp_path):
    params = small.parameters()
    setattr(params.trainer, f"best_checkpoint_{key}", "accurac")
    with pytest.raises(ValueError, match=f"{words}.*trainer.*{key}='accurac'"):
        small.run(tmp_path, params)
    assert not list(tmp_path.iterdir())


def test_a_detector_needs_a_step(tmp_path):
    params = detection.parameters(trainer={"train_steps": 0})
    with pytest.raises(ValueError, match=r"trainer.train_steps=0"):
        detection.run(tmp_path, params)


def test_nothing_to_evaluate_is_said_before_data_are_written(tmp_path):
    with pytest.raises(ValueError, match="train first"):
        detection.run(tmp_path / "mistyped", mode="eval")
    assert not list(tmp_path.iterdir())


def test_an_evaluation_leaves_the_record_as_it_is(unbroken, tmp_path):
    # Of a run that still trains: its lines are ahead of its checkpoint.
    folder = _copied(unbroken, tmp_path / "copy", step=6)
    before = _record(folder)
    assert runs.Run(folder).metrics()[-1]["step"] == 12
    params = small.parameters(validation_steps=1)
    params.task.validation_data.split = "train"
    assert small.run(folder, params, "eval").step == 6
    assert _record(folder) == before
    assert not list((folder / "validation").glob("events*"))


def test_a_finished_run_is_evaluated_once_and_not_relabelled(
    unbroken, tmp_path
):
    folder = _copied(unbroken, tmp_path / "copy")
    before = _record(folder)
    result = small.run(folder, small.parameters(), "train_and_eval")
    after = _record(folder)
    assert after["metrics.jsonl"].count('"eval"') == 1
    again = small.parameters(validation_steps=1, validation_interval=6)
    again.task.schedule.validation_epochs = 1.0
    again.runtime.cpu_replicas = 2
    assert small.run(folder, again, "train_and_eval").step == result.step
    assert _record(folder) == after
    for name in ("params.yaml", "run.json"):
        assert after[name] == before[name]
    again.task.seed = 7
    with pytest.raises(ValueError, match=r"task\.seed=7 \(recorded: 0\)"):
        small.run(folder, again, "train_and_eval")
    assert _record(folder) == after


@pytest.mark.slow
def test_bfloat16_ends_with_its_run(tmp_path):
    policy = tf_keras.mixed_precision.global_policy
    params = small.parameters(train_steps=2)
    params.runtime.mixed_precision_dtype = "bfloat16"
    try:
        small.run(tmp_path / "bfloat16", params)
        assert policy().name == "mixed_bfloat16"
        display = small.Silent()
        params = small.parameters(train_steps=2)
        small.run(tmp_path / "float32", params, display=display)
        assert policy().name == "float32"
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    # What was resolved is said before the first step.
    said = "\n".join(display.lines[:4])
    for words in (
        f"{params.task.model.network}, evonorm_s0, batch 8, 2 steps, sgd, ",
        "cosine learning rate",
        "XLA compiles the norm-act layers",
        f"tensorflow {tf.__version__}",
        os.path.join(str(tmp_path / "float32"), "params.yaml"),
    ):
        assert words in said


@pytest.mark.parametrize("checkpoint", ["", "ckpt-12", "ckpt-6"])
def test_a_model_starts_from_a_folder_or_a_checkpoint(
    unbroken, tmp_path, checkpoint, capsys
):
    folder = shutil.copytree(unbroken[0], tmp_path / "[1] *ü")
    params = small.parameters()
    params.task.init_checkpoint = os.path.join(folder, checkpoint)
    prepared = task.prepare(params)
    model = prepared.build_model()
    prepared.initialize(model)
    pairs = zip(model.get_weights(), unbroken[1], strict=True)
    same = all(np.array_equal(*pair) for pair in pairs)
    assert same == (checkpoint != "ckpt-6")
    name = checkpoint or "ckpt-12"
    assert f"Loaded from {folder / name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, words",
    [
        ("missing", r"no checkpoint to start from.*checkpoint='.*missing'"),
        ("empty", r"no checkpoint to start from.*checkpoint='.*empty'"),
        ("ckpt-7", r"no checkpoint to start from.*checkpoint='.*ckpt-7'"),
        ("", r"another model than task.model.*task.init_checkpoint='"),
    ],
)
def test_what_a_run_cannot_start_from_is_refused(
    unbroken, tmp_path, name, words
):
    (tmp_path / "empty").mkdir()
    folder = tmp_path if name == "empty" else unbroken[0]
    params = small.parameters("evonorm_b0" if not name else "evonorm_s0")
    params.task.init_checkpoint = os.path.join(folder, name)
    if name:
        with pytest.raises(ValueError, match=words):
            task.Task(params.task).initialize(tf_keras.Sequential())
        return
    # A run ends there and records nothing.
    with pytest.raises(ValueError, match=words):
        small.run(tmp_path / "run", params)
    assert not runs.Run(tmp_path / "run").has(runs.CONFIG_FILE)


def test_nan_loss_stops_and_names_the_last_good_checkpoint(
    unbroken, tmp_path, monkeypatch
):
    folder = _copied(unbroken, tmp_path / "copy", step=6)
    whole = task.Task.build_losses
    monkeypatch.setattr(
        task.Task,
        "build_losses",
        lambda *given, **named: np.nan * whole(*given, **named),
    )
    with pytest.raises(FloatingPointError, match=r"ckpt-6\b"):
        small.run(folder, small.parameters())
    assert runs.Run(folder).step() == 6, "saved a broken model"


@pytest.mark.slow  # As above, but for the message.
def test_nan_before_any_checkpoint(tmp_path):
    params = small.parameters(steps_per_loop=1)
    for data in (params.task.train_data, params.task.validation_data):
        data.std = [1e-38]  # Images of 1e38: inf inside.
    with pytest.raises(FloatingPointError, match="none was saved yet"):
        small.run(tmp_path, params)


def test_data_that_cannot_be_read_name_the_command_that_looks(tmp_path):
    images.write_tfrecords(tmp_path, counts=(40,))
    (path,) = tmp_path.glob("train-*")
    images.damage(path)
    params = small.parameters()
    data = {"dataset": "tfrecords", "image_size": 16, "shuffle_buffer_size": 1}
    data["path"] = f"{tmp_path}/train-*"
    for part in (params.task.train_data, params.task.validation_data):
        part.override(data)
    with pytest.raises(
        ValueError,
        match=r"cannot be read: corrupted record at \d+\. `python -m "
        r"classification.data check --all`.*saved step=4",
    ):
        small.run(tmp_path / "run", params)


def test_metrics_beyond_the_checkpoint_are_dropped(tmp_path):
    run = runs.Run(tmp_path)
    for step in (1, 2, 3):
        run.add_metrics("train", step, {"loss": float(step)})
    with open(tmp_path / runs.METRICS_FILE, "a") as half:
        half.write('{"kind": "tr')
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    run.cut_metrics(2)
    assert [line["step"] for line in runs.Run(tmp_path).metrics()] == [1, 2]


@pytest.mark.slow  # With pooled batch statistics in test_workers.py.
def test_two_replicas_of_half_a_batch_learn_what_one_device_does(tmp_path):
    def loss(name, **runtime):
        params = small.parameters(train_steps=2, steps_per_loop=2)
        params.task.train_data.augmentation = "none"
        params.runtime.override(runtime)
        return _weights(small.run(tmp_path / name, params))

    # S0 has no batch statistics, so halves and whole differ by rounding.
    # Without augmentation, which is drawn a replica's batch at a time.
    two_replicas = loss("2", cpu_replicas=2, compile="step")
    for one, two in zip(loss("1"), two_replicas, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_debug_shrinks_the_model_and_the_run():
    """What it then trains is in test_recipes.py."""
    params = config.parse("digits_resnet")
    whole = task.Task(params.task).build_model().count_params()
    train.HEAD.shrink(params)
    assert params.trainer.train_steps == 2
    assert task.Task(params.task).build_model().count_params() < whole / 3


@pytest.mark.slow  # tests/training/test_commands.py, in this process.
def test_entrypoint_refuses_in_one_line_of_plain_words(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "classification.train"]
        + [f"--model_dir={tmp_path}", "--experiment=cifar10_resnet"]
        + [f"--params_override=task.train_data.tfds_data_dir={tmp_path}"],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    assert done.returncode != 0
    assert "tfds build cifar10" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
