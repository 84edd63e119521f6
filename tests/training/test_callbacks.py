"""What a run shows and records, for one loss or several."""

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.classification import small
from training import callbacks, driver, progress, runs


def _model():
    layers = [tf_keras.layers.Input([2]), tf_keras.layers.Dense(1)]
    return tf_keras.Sequential(layers)


def _seen(folder, display, *names, losses=None, **keywords):
    trainer = types.SimpleNamespace(global_step=tf.Variable(5, dtype=tf.int64))
    built = driver.Built(trainer, None, {n: _model() for n in names}, images=8)
    if losses:
        built = dataclasses.replace(built, losses=losses)
    found = callbacks.Callbacks(
        built, display, runs.Run(folder), (0, 10), **keywords
    )
    return found, built


def test_one_loss(tmp_path):
    display = small.Silent()
    seen, _ = _seen(tmp_path, display, "model")
    output = {"training_loss": tf.constant(1.25)}
    seen.trained(output)
    assert display.lines[-1].startswith("step 5/10, loss 1.250, ")
    (line,) = runs.Run(tmp_path).metrics()
    assert line["training_loss"] == 1.25
    # Orbit writes what is in the dictionary to TensorBoard.
    assert output["images_per_second"] == line["images_per_second"] > 0


def test_several_losses_and_models(tmp_path):
    display = small.Silent()
    losses = {"loss of D": ["a", "b"], "of G": ["c"]}
    seen, built = _seen(tmp_path, display, "one", "two", losses=losses)
    output = {"a": 1.0, "b": 0.5, "c": 2.0}
    seen.trained(dict(output))
    assert "loss of D 1.500, of G 2.000" in display.lines[-1]
    built.models["two"].weights[0].assign([[np.nan], [0.0]])
    with pytest.raises(FloatingPointError, match="of the two's 2 weights"):
        seen.trained(dict(output))


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path):
    display = small.Silent()
    seen, _ = _seen(tmp_path, display, "model", writes=False)
    seen.trained({"training_loss": 1.0})
    seen.evaluated({"accuracy": 0.5})
    assert display.lines[-1] == "step 5: accuracy 0.5000"
    assert not list(tmp_path.iterdir())


def test_scalars_keep_their_digits():
    found = progress.scalars({"a": 0.1, "b": np.float64(0.1), "c": 2**40 + 1})
    assert found == {"a": 0.1, "b": 0.1, "c": 2.0**40 + 1}
    assert progress.scalars({"a": tf.constant(0.5)}) == {"a": 0.5}


def test_tensorboard_has_what_one_looks_for(tmp_path):
    params = small.parameters(train_steps=4, validation_interval=4)
    small.run(tmp_path, params, "train_and_eval")
    wanted = {
        "train": {"training_loss", "accuracy", "learning_rate"}
        | {"images_per_second"},
        "validation": {"accuracy", "cross_entropy"},
    }
    for folder, tags in wanted.items():
        found = {}
        for path in (tmp_path / folder).glob("events*"):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    number = float(tf.make_ndarray(value.tensor))
                    found.setdefault(value.tag, []).append((event.step, number))
        assert tags <= set(found), folder
        kind = {"train": "train", "validation": "eval"}[folder]
        lines = runs.Run(tmp_path).metrics()
        lines = [line for line in lines if line["kind"] == kind]
        for tag in tags:
            recorded = [(line["step"], line[tag]) for line in lines]
            # Summaries are float32.
            np.testing.assert_allclose(found[tag], recorded, rtol=1e-6)
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["input_shape"] == [8, 8, 1]
    assert runs.Run(tmp_path).step() == 4
