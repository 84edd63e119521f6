"""A bundle trains without TensorFlow as TensorFlow does."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf import preflight
from evonorm_tf.preflight import Feed, pjrt
from evonorm_tf.preflight.__main__ import main
from tests.preflight import small

pytest.importorskip("jax")

STEPS = 20
EVAL_BATCH = 12  # of 40 examples: the last batch is filled up


def _evaluation(model):
    def evaluate(images, labels, count):
        logits = model(tf.cast(images, tf.float32) / 255.0, training=False)
        right = tf.argmax(logits, -1, tf.int32) == labels
        return tf.reduce_sum(count * tf.cast(right, tf.float32))

    shape = (EVAL_BATCH, 8, 8, 3)
    feeds = (
        Feed("data", shape, "uint8", "images"),
        Feed("data", (EVAL_BATCH,), "int32", "labels"),
        Feed("count", (EVAL_BATCH,), "float32"),
    )
    return preflight.Step(evaluate, feeds, EVAL_BATCH, 40, ("accuracy",))


def _run(model, name="run"):
    feeds = (
        Feed("data", (small.BATCH, 8, 8, 3), "uint8", "images"),
        Feed("data", (small.BATCH,), "int32", "labels"),
    )
    step = preflight.Step(small.train_step(model), feeds, small.BATCH, 40)
    return preflight.Run(name, step, STEPS, 3, "a test", _evaluation(model))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of one run, what TensorFlow makes of it, and its results."""
    folder = tmp_path_factory.mktemp("bundle")
    model = small.network()
    run = _run(model)
    preflight.write(folder, run, small.data())
    fed = pjrt.Run(folder, "run")
    function = tf.function(run.train.function)
    losses = [
        float(function(*map(tf.constant, fed.feeds("train", step))))
        for step in range(STEPS)
    ]
    data = small.data()
    logits = model(tf.cast(data["images"], tf.float32) / 255.0, training=False)
    right = np.argmax(logits, -1) == data["labels"]
    # A folder that holds no evonorm_tf, and no TensorFlow is imported.
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, losses, right.mean()


def test_losses_are_tensorflows(bundle):
    folder, losses, _ = bundle
    (results,) = preflight.collect(folder)
    np.testing.assert_allclose(results["losses"], losses, rtol=1e-4)
    assert losses[-1] < losses[0]


def test_evaluation_counts_every_example_once(bundle):
    folder, _, accuracy = bundle
    (results,) = preflight.collect(folder)
    assert results["eval_examples"] == 40
    assert results["evaluation"]["accuracy"] == pytest.approx(accuracy)


def test_every_epoch_has_every_example_in_a_new_order(bundle):
    run = pjrt.Run(bundle[0], "run")
    epochs = [
        np.concatenate(
            [run._rows(run.plan["train"], step, True) for step in steps]
        )
        for steps in (range(5), range(5, 10))
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(40))
    assert not np.array_equal(*epochs)


def test_runner_imports_neither_tensorflow_nor_this_package(bundle):
    code = "import sys, run; print([m for m in sys.modules if m[:4] in "
    code += "('tens', 'evon')])"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bundle[0],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"


def test_collect_prints_and_writes(bundle, capsys, monkeypatch, tmp_path):
    target = tmp_path / "all.json"
    line = ["preflight", "collect", str(bundle[0]), f"--json={target}"]
    monkeypatch.setattr(sys, "argv", line)
    main()
    assert "20 steps" in capsys.readouterr().out
    assert json.loads(target.read_text())[0]["run"] == "run"


def test_other_data_in_one_bundle_are_refused(tmp_path):
    preflight.write(tmp_path, _run(small.network()), small.data())
    other = small.data() | {"labels": np.zeros(40, np.int32)}
    with pytest.raises(ValueError, match="other data"):
        preflight.write(tmp_path, _run(small.network(), "second"), other)


@pytest.mark.parametrize("name", ["a/b", "/tmp/x", "..", ""])
def test_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="a folder's"):
        preflight.write(tmp_path, _run(small.network(), name), small.data())
    assert not list(tmp_path.iterdir())


def test_another_run_of_the_same_name_is_refused(bundle):
    run = dataclasses.replace(_run(small.network()), about="another")
    with pytest.raises(ValueError, match="another run"):
        preflight.write(bundle[0], run, small.data())


def test_evaluation_of_another_model_is_refused(tmp_path):
    run = dataclasses.replace(
        _run(small.network()), evaluate=_evaluation(small.network())
    )
    with pytest.raises(ValueError, match="neither reads nor"):
        preflight.write(tmp_path, run, small.data())
    assert not list(tmp_path.iterdir())


def test_collect_without_results_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"run\.py"):
        preflight.collect(tmp_path)


def test_bfloat16_state_survives_the_folder(tmp_path):
    variable = tf.Variable(tf.constant([1.5, -2.25], tf.bfloat16))

    def step(number):
        variable.assign_add(tf.cast(number, tf.bfloat16) * variable)
        return tf.reduce_sum(variable)

    one = preflight.Step(step, (Feed("step", (), "int32"),), 1)
    preflight.write(tmp_path, preflight.Run("r", one, 1, 0, "bits"))
    (value,) = pjrt.Run(tmp_path, "r")._state
    assert value.astype(np.float32).tolist() == [1.5, -2.25]
