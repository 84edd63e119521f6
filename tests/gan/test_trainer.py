"""Real steps: finite, in the order they should be, resumed to the bit."""

import contextlib
import json
import os
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from evonorm_tf.ops import settings
from gan import (
    blocks,
    evaluation,
    restore,
    sample,
    sampling,
    spectral,
    train,
)
from tests.gan import small
from training import config, runs, same_experiment


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Compiling each layer takes longer than these few steps."""
    with settings.using(xla=False):
        yield


def _state(trainer):
    """Everything a run carries on, by name of its part."""
    generator, discriminator = trainer._optimizers
    return {
        "generator": trainer.generator.get_weights(),
        "discriminator": trainer.discriminator.get_weights(),
        "average": [v.numpy() for v in trainer.average.trainable_variables],
        "generator_optimizer": [v.numpy() for v in generator.variables],
        "discriminator_optimizer": [v.numpy() for v in discriminator.variables],
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of two steps with evonorm_b0: its directory and its trainer."""
    folder = tmp_path_factory.mktemp("unbroken")
    with small.eagerly():
        return folder, small.make(folder, small.parameters()).trainer


def test_two_steps_of_evonorm_b0_are_finite(unbroken):
    _check_finite(*unbroken)


def test_a_traced_loop_takes_each_part_of_each_step(unbroken, monkeypatch):
    """Parts are counted: their graphs are those of test_run.py."""
    _, trainer = unbroken
    parts = ("discriminator_step", "generator_step", "average_step")
    counts = tf.Variable(tf.zeros([len(parts)], tf.int32))
    for index, part in enumerate(parts):
        one = tf.one_hot(index, len(parts), dtype=tf.int32)

        def count(*_, one=one):
            counts.assign_add(one)

        monkeypatch.setattr(trainer, part, count)
    before = trainer.global_step.numpy()
    assert not tf.config.functions_run_eagerly()
    trainer.train(tf.constant(3))
    assert counts.numpy().tolist() == [3, 3, 3]
    assert trainer.global_step.numpy() == before + 3
    trainer.global_step.assign(before)


# test_steps.py has a step of this kind, and traced loops are tested above.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, accumulation, eagerly",
    [
        ("evonorm_s0", 2, True),
        ("evonorm_s0", 2, False),
        ("bn_relu", 1, False),
        ("evonorm_b0", 1, False),
    ],
)
def test_two_steps_are_finite_each_with_two_of_the_discriminator(
    name, accumulation, eagerly, tmp_path
):
    task = {"discriminator_steps": 2, "accumulation": accumulation}
    params = small.parameters(name, task)
    with small.eagerly() if eagerly else contextlib.nullcontext():
        trainer = small.make(tmp_path, params).trainer
        _check_finite(tmp_path, trainer)
    generator, discriminator = trainer._optimizers
    assert int(trainer.global_step) == 2
    assert int(generator.iterations) == 2
    assert int(discriminator.iterations) == 4


def _check_finite(folder, trainer):
    lines = runs.Run(folder).metrics()
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert all(np.isfinite(line[key]) for key in line if key != "kind")
    assert lines[0]["generator_loss"] != lines[1]["generator_loss"]
    first = _weights_at(folder, "generator", trainer.generator, 1)
    moved = [
        np.abs(old - new.numpy()).max()
        for old, new in zip(first, trainer.generator.trainable_variables)
    ]
    assert all(np.isfinite(moved))
    # Only the last layer's bias may be where Adam's first step put it.
    assert sum(change > 0 for change in moved) >= len(moved) - 1


def _weights_at(folder, part, network, step):
    """The network's trainable weights in the checkpoint of that step."""
    kept = network.get_weights()
    reader = tf.train.Checkpoint(**{part: network})
    reader.restore(f"{folder}/ckpt-{step}").expect_partial()
    result = [v.numpy() for v in network.trainable_variables]
    network.set_weights(kept)
    return result


def test_average_is_a_copy_before_its_start_and_a_mean_after(unbroken):
    folder, trainer = unbroken
    first = _weights_at(folder, "generator", trainer.generator, 1)
    for old, average in zip(
        first, _weights_at(folder, "average", trainer.average, 1)
    ):
        np.testing.assert_array_equal(old, average)
    for old, new, average in zip(
        first,
        trainer.generator.trainable_variables,
        trainer.average.trainable_variables,
    ):
        np.testing.assert_allclose(
            average, 0.5 * old + 0.5 * new.numpy(), rtol=1e-6, atol=1e-8
        )


def test_resumed_run_equals_the_unbroken_one(unbroken, tmp_path):
    folder, trainer = unbroken
    for name in os.listdir(folder):
        if name.startswith("ckpt-1.") or name.endswith((".jsonl", ".yaml")):
            shutil.copy(folder / name, tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    assert runs.Run(tmp_path).step() == 1
    # As other models in the process do, with layers of these names.
    tf_keras.backend.reset_uids()
    for _ in range(9):
        blocks.ConditionalNormAct(tf_keras.layers.ReLU(), tf_keras.layers.ReLU)
    for _ in range(6):
        tf_keras.layers.Dense(1)
    display = small.Silent()
    with small.eagerly():
        resumed = small.make(tmp_path, small.parameters(), display=display)
    assert "Resuming from step 1 of 2" in display.lines[0]
    expected, found = _state(trainer), _state(resumed.trainer)
    for part, weights in expected.items():
        for one, other in zip(weights, found[part], strict=True):
            np.testing.assert_array_equal(other, one, err_msg=part)
    one, other = runs.Run(folder).metrics(), runs.Run(tmp_path).metrics()
    for line in one + other:
        del line["images_per_second"]
    for line, same in zip(one, other, strict=True):
        assert same.pop("kind") == line.pop("kind")
        assert same == pytest.approx(line, rel=1e-5)


def test_evaluation_is_a_function_of_the_weights(unbroken, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(unbroken[0], folder)
    with small.eagerly():
        result = small.make(folder, small.parameters(), "eval")
    assert result.metrics["classifier_distance"] > 0
    assert 1 <= result.metrics["classifier_score"] <= 10
    assert not any("fid" in name for name in result.metrics)
    picture = tf.io.read_file(str(folder / "samples" / "step-0000002.png"))
    assert tf.io.decode_png(picture).shape == [8 * 8, 10 * 8, 3]
    # As the first left `u` and statistics behind, so must another find them.
    found = restore.restore(str(folder))
    task, average = found.params.task, result.trainer.average
    grids = []
    for generator in (found.generator, average, average):
        sampler = sampling.Sampler(generator, task, found.strategy)
        with small.eagerly():
            sampler.settle()
        grids.append(sampler.grid(2))
    assert sum(len(b) for b in sampler.images(30)) == 30
    np.testing.assert_array_equal(grids[0], grids[1])
    np.testing.assert_array_equal(grids[0], grids[2])
    # Every sample is counted, whatever the classifier; and how, beside it.
    with open(folder / evaluation.RESULT_FILE, encoding="utf-8") as file:
        written = json.load(file)
    assert written["facts"]["made"]["count"] == "100"
    assert written["facts"]["real"]["count"] == "1352"
    for kind in ("truncation", "interpolation"):
        assert (folder / "samples" / f"{kind}-0000002.png").exists()
    task.evaluation.samples = 64
    few = evaluation.Evaluator(
        found.params, average, found.strategy, runs.Run(folder), lambda: 2
    )
    with pytest.raises(ValueError, match=r"samples above 64.*samples=64"):
        few.evaluate(-1)


@pytest.mark.slow  # What tells them apart is tested below and in test_run.py.
def test_evaluations_with_other_settings_have_files_of_their_own(
    unbroken, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(unbroken[0], folder)
    result = small.make(folder, small.parameters(), "eval")
    with open(folder / evaluation.RESULT_FILE, encoding="utf-8") as file:
        written = json.load(file)
    found = restore.restore(str(folder))
    task = found.params.task
    apart = evaluation.Evaluator(
        found.params,
        result.trainer.average,
        found.strategy,
        runs.Run(folder),
        lambda: 2,
        apart=True,
    )
    pictures = {p: p.read_bytes() for p in (folder / "samples").iterdir()}
    places = set()
    for key, value, message in (
        ("samples", 120, "120 images"),
        ("standing_batches", 1, "batches of 20, 5 power iterations, float32"),
        ("settle_iterations", 3, ", 3 power iterations"),
    ):
        setattr(task.evaluation, key, value)
        apart.evaluate(-1)
        assert message in apart.about
        places.add(apart.result_file)
    assert ", 1 standing batches" in apart.about
    assert len(places) == 3
    with open(apart.result_file, encoding="utf-8") as file:
        assert json.load(file)["facts"]["made"]["count"] == "120"
    assert len(list((folder / "samples").iterdir())) == len(pictures) + 9
    # The run's own evaluation is still what its curves are of.
    for path, content in pictures.items():
        assert path.read_bytes() == content
    with open(folder / evaluation.RESULT_FILE, encoding="utf-8") as file:
        assert json.load(file) == written
    # Nor is it replaced by an evaluation alone with other settings.
    other = small.parameters()
    other.task.evaluation.samples = 140
    small.make(folder, other, "eval")
    with open(folder / evaluation.RESULT_FILE, encoding="utf-8") as file:
        assert json.load(file) == written
    for path, content in pictures.items():
        assert path.read_bytes() == content
    assert len(list(folder.glob("evaluation-*.json"))) == 4


@pytest.mark.parametrize(
    "key, value, otherwise",
    [
        ("task.seed", 0, False),
        ("task.evaluation.reference", "kept.npz", True),
        ("task.evaluation.truncations", [0.5], True),
        ("task.train_data.tfds_data_dir", "moved", False),
        ("task.train_data.split", "test", True),
        ("runtime.mixed_precision_dtype", "bfloat16", True),
    ],
)
def test_evaluations_with_other_settings_are_told_apart(
    key, value, otherwise, unbroken
):
    params = small.parameters()
    config.override(params, same_experiment.nested({key: value}))
    session = types.SimpleNamespace(params=params, run=runs.Run(unbroken[0]))
    assert train._measures_otherwise(session) == otherwise


def _blank(sampler, rows=10, truncation=0.0):
    return np.zeros([8 * rows, 8, 3], np.uint8)


def test_samples_with_other_settings_have_other_names(
    unbroken, tmp_path, monkeypatch
):
    """The names alone: a generator would be traced for each picture."""
    monkeypatch.setattr(sampling.Sampler, "settle", lambda sampler: None)
    monkeypatch.setattr(sampling.Sampler, "grid", _blank)
    monkeypatch.setattr(sampling.Sampler, "interpolation", _blank)
    folder = tmp_path / "copy"
    shutil.copytree(unbroken[0], folder)
    found = restore.restore(str(folder))
    paths = [sample.draw(found, "grid", *few) for few in ((), (1,), (1, 0.5))]
    paths += [sample.draw(found, "interpolation")]
    found.params.task.evaluation.seed = 5
    paths += [sample.draw(found, "grid", 1)]
    assert len(set(paths)) == 5
    for path in paths:
        assert os.path.dirname(path) == str(folder / "samples")
    assert sample.draw(found, "grid", 1) == paths[-1]
    heights = [
        tf.io.decode_png(tf.io.read_file(path)).shape[0] for path in paths
    ]
    assert heights == [64, 8, 8, 80, 8]
    for given in ((2,), (None, 0.5)):
        with pytest.raises(ValueError, match=r"of a grid.*kind='truncation'"):
            sample.draw(found, "truncation", *given)


def test_a_run_of_other_devices_is_restored_on_those_that_are_there(
    unbroken, tmp_path
):
    folder = tmp_path / "tpu"
    shutil.copytree(unbroken[0], folder)
    path = folder / "params.yaml"
    text = path.read_text()
    for old, new in (
        ("distribution_strategy: auto", "distribution_strategy: tpu"),
        ("  tpu: null", "  tpu: somewhere"),
        ("cpu_replicas: 0", "cpu_replicas: 5"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    found = restore.restore(str(folder))
    assert found.strategy.num_replicas_in_sync == 1
    with pytest.raises(ValueError, match=r"distribution_strategy='nowhere'"):
        override = "runtime.distribution_strategy=nowhere"
        restore.restore(str(folder), override)


def test_model_dir_of_another_model_is_refused(unbroken):
    params = small.parameters("bn_relu")
    before = sorted(os.listdir(unbroken[0]))
    with pytest.raises(ValueError, match=r"(another|different) model"):
        small.make(unbroken[0], params)
    with pytest.raises(ValueError, match="cannot be overridden"):
        restore.restore(str(unbroken[0]), "task.model.norm_act.name=evonorm_s0")
    assert sorted(os.listdir(unbroken[0])) == before


def test_checkpoints_that_are_not_there(unbroken, tmp_path):
    with pytest.raises(ValueError, match="train first"):
        small.make(tmp_path, small.parameters(), "eval")
    with pytest.raises(ValueError, match="no checkpoint"):
        restore.restore(str(tmp_path))
    for name in ("ckpt-2.index", "ckpt-2.data-00000-of-00001"):
        shutil.copy(unbroken[0] / name, tmp_path)
    with pytest.raises(ValueError, match=r"params\.yaml"):
        restore.restore(str(tmp_path / "ckpt-2"))


def test_checkpoint_of_another_network_is_refused(unbroken, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(unbroken[0], folder)
    path = folder / "params.yaml"
    text = path.read_text()
    for old, new, message in (
        # Its moving mean was never saved.
        ("name: evonorm_b0", "name: bn_relu", "not bound"),
        # Has all it needs there, and leaves v and the variance over.
        ("name: evonorm_b0", "name: gn_relu", "41 weights, not 35"),
        ("generator_width: 4", "generator_width: 8", "shape"),
    ):
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=f"different model.*{message}"):
            restore.restore(str(folder))


def test_run_does_not_go_on_from_another_networks_checkpoint(
    unbroken, tmp_path
):
    for name in os.listdir(unbroken[0]):
        if name.startswith("ckpt-2.") or name == "checkpoint":
            shutil.copy(unbroken[0] / name, tmp_path)
    params = small.parameters("gn_relu", train_steps=3)
    with pytest.raises(ValueError, match=r"no params\.yaml next to"):
        small.make(tmp_path, params)
    (tmp_path / "params.yaml").write_text(runs.as_yaml(params))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match="different model than the config"):
        small.make(tmp_path, params)
    assert sorted(os.listdir(tmp_path)) == before


def test_sigma_above_its_limit_stops_and_names_the_kernel(unbroken):
    _, trainer = unbroken
    logs = trainer.train_loop_end()
    assert 0.5 < float(logs["generator_sigma"]) < 10
    layer = spectral.layers(trainer.discriminator)[2]
    kernel, u = layer.kernel.numpy(), layer.u.numpy()
    try:
        layer.kernel.assign(kernel * 1e5)
        layer.settle(20)
        with pytest.raises(FloatingPointError, match="discriminator") as caught:
            trainer.train_loop_end()
    finally:
        layer.kernel.assign(kernel)
        layer.u.assign(u)
    assert layer.kernel.name in str(caught.value)
    assert "sigma_limit=1000" in str(caught.value)


@pytest.mark.slow
def test_two_replicas_hold_one_state(tmp_path):
    params = small.parameters("bn_relu", {"discriminator_steps": 1})
    params.runtime.cpu_replicas = 2
    result = small.make(tmp_path, params, "train_and_eval")
    trainer = result.trainer
    for network in (trainer.generator, trainer.discriminator, trainer.average):
        for weight in network.weights:
            one, other = (value.numpy() for value in weight.values)
            np.testing.assert_array_equal(one, other)
    assert result.metrics["classifier_distance"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [0, 2])
def test_a_compiled_step_equals_one_that_is_not(replicas, tmp_path):
    """Forward and backward passes of both networks, each as one program."""

    def weights(kind):
        params = small.parameters("bn_relu", train_steps=1)
        params.task.model.norm_act.synchronized = False
        params.runtime.compile = kind
        params.runtime.cpu_replicas = replicas
        made = small.make(tmp_path / kind, params)
        return [
            w.numpy()
            for net in made.trainer.models.values()
            for w in net.weights
        ]

    for one, other in zip(weights("off"), weights("step"), strict=True):
        # Adam divides by a root: where a gradient is near 0, not by much.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
