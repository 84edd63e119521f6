"""Exports compute what the model does, from its directory alone."""

import dataclasses
import importlib.util
import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from classification import export, settings, task
from classification.datasets import inputs, open_source
from evonorm_tf import legacy
from evonorm_tf.exporting import formats, inference_form
from tests.classification import images, small
from tests.exporting import graphs
from training import saved
from training.images import sources


def _parameters():
    params = small.everything()
    params.trainer.train_steps = 8
    # One block, so wide that its weights are most of a file.
    params.task.model.override({"max_depth": 1, "width": 1.0})
    params.task.model.max_depth = 1
    return params


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with averaged weights and a best checkpoint, and its result."""
    folder = tmp_path_factory.mktemp("run")
    return folder, small.run(folder, _parameters(), "train_and_eval")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The folder of all formats that can be written here, and what is said."""
    names = list(export.FORMATS)
    if importlib.util.find_spec("tf2onnx") is None:
        names.remove("onnx")
    root = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return root / "out", export.export(str(run[0]), "out", names)


def test_all_formats_agree_with_the_model(run, exported):
    pytest.importorskip("tf2onnx")
    (_, result), (folder, done) = run, exported
    assert set(done) == set(export.FORMATS)
    differences = {name: one.difference for name, one in done.items()}
    for name, one in done.items():
        assert 0 <= one.difference <= formats.FORMATS[name].tolerance
        assert one.size > 1000 and one.milliseconds > 0
    # Not equal to the last bit: something else than the model computed it.
    assert differences["tflite_float16"] > differences["tflite"]
    assert differences["tflite_int8"] > differences["tflite_float16"] > 0
    about = json.loads((folder / "export.json").read_text())
    assert about["step"] == 8
    assert about["weights"] == "averaged"
    assert about["run"]["resized"] is False  # In memory, 8x8.
    assert about["metrics"]["accuracy"] == result.metrics["accuracy"]
    assert about["relative_differences"] == differences
    assert about["files"]["onnx"]["size"] == done["onnx"].size
    assert about["not_folded"] == []
    labels = (folder / "labels.txt").read_text().split()
    assert labels == list("0123456789")
    # What stands there takes any number of images.
    for name in done:
        path = folder / formats.FORMATS[name].file
        serve = formats.FORMATS[name].read(path)
        for count in (1, 3):
            found = serve(np.zeros([count, 8, 8, 1], np.uint8))
            assert set(found) == {"logits", "probabilities", "label"}
            # int8 rounds a probability to 1/256.
            np.testing.assert_allclose(
                np.sum(found["probabilities"], -1),
                np.ones(count),
                rtol=0.05 if name == "tflite_int8" else 1e-5,
            )
    size = {name: one.size for name, one in done.items()}
    assert size["tflite_float16"] < 0.8 * size["tflite"]
    assert size["tflite_int8"] < size["tflite_float16"]


def test_the_layers_are_folded(run, exported):
    served = tf.saved_model.load(str(exported[0] / "saved_model"))
    model = task.restore(str(run[0])).model
    graphs.assert_folded(served.signatures["serving_default"], model)


@pytest.mark.parametrize("name", ["evonorm_b0", "bn_relu"])
def test_moving_statistics_are_constants_of_both_signatures(name, tmp_path):
    """Folded after a trace of the usual form, and as it is after the block."""
    data = settings.Data(dataset="jpeg_digits", image_size=0)
    images = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(8, 3)(images)
    x = legacy.NormAct(name)(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(images, tf_keras.layers.Dense(10)(x))
    usual = export.Classifier(model, data, resized=True)
    zeros = np.zeros([2, 8, 8, 3], np.uint8)
    before = usual.images(zeros)["logits"]
    served = export.Classifier(model, data, resized=True)
    with inference_form(model):
        served.images.get_concrete_function()
        others = served.others()
    model.layers[2].gamma.assign(np.full(8, 3.0))
    with pytest.raises(AssertionError):
        graphs.assert_folded(usual.images.get_concrete_function(), model)
    assert not np.allclose(usual.images(zeros)["logits"], before)
    np.testing.assert_allclose(served.images(zeros)["logits"], before, 1e-4)
    path = tmp_path / "saved"
    one = served.images.get_concrete_function()
    formats.save({"serving_default": one, **others}, path)
    loaded = tf.saved_model.load(str(path))  # It keeps the variables.
    assert set(loaded.signatures) == {"serving_default", "jpeg"}
    for signature in loaded.signatures.values():
        graphs.assert_folded(signature, model)


def test_the_accuracy_is_the_run_s(run):
    """Averages and preprocessing: the test set scores as in the run."""
    folder, result = run
    found = task.restore(str(folder))
    classifier = export.Classifier(
        found.model, found.params.task.validation_data, resized=False
    )
    images, labels = sources.digits("test")
    right = classifier.images(tf.constant(images))["label"] == labels
    accuracy = np.mean(right)
    # One image of 445 may fall on the other side by rounding.
    assert abs(accuracy - result.metrics["accuracy"]) <= 1 / 445 + 1e-6


def test_best_and_latest(run):
    folder, _ = run
    best = task.restore(str(folder), "best")
    assert best.path.startswith(str(folder / "best"))
    assert best.metrics["best_ckpt_global_step"] == best.step
    latest = task.restore(str(folder))
    same = all(
        np.array_equal(a, b)
        for a, b in zip(best.model.get_weights(), latest.model.get_weights())
    )
    assert same == (best.step == latest.step)
    evaluated = small.run(folder, _parameters(), "eval_best")
    assert evaluated.step == best.step
    assert evaluated.metrics["accuracy"] == pytest.approx(
        best.metrics["accuracy"], abs=1e-6
    )


def test_refused(run, tmp_path):
    folder, _ = run
    with pytest.raises(ValueError, match="some of saved_model"):
        export.export(str(folder), str(tmp_path), ["keras"])
    with pytest.raises(ValueError, match=r"no params\.yaml"):
        task.restore(str(tmp_path))
    with pytest.raises(ValueError, match="no such checkpoint"):
        task.restore(str(folder), "first")


@pytest.mark.slow
def test_a_wrong_export_is_an_error(run, tmp_path, monkeypatch):
    folder, _ = run

    export.export(str(folder), str(tmp_path), ["tflite"])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    right = formats.FORMATS["saved_model"]

    def read(path):
        serve = right.read(path)
        return lambda x: {k: v * 1.01 for k, v in serve(x).items()}

    wrong = dataclasses.replace(right, read=read)
    monkeypatch.setitem(formats.FORMATS, "saved_model", wrong)
    with pytest.raises(ValueError, match="differs from the model"):
        export.export(str(folder), str(tmp_path), ["tflite", "saved_model"])
    # Neither what was refused nor what was written beside it.
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    done = export.export(
        str(folder), str(tmp_path), ["saved_model"], tolerance=0.1
    )
    assert (
        0.005 < done["saved_model"].difference < done["saved_model"].tolerance
    )
    monkeypatch.setitem(formats.FORMATS, "saved_model", right)
    # Over what is there.
    export.export(str(folder), str(tmp_path), ["saved_model"])
    assert {*before, "saved_model"} == {p.name for p in tmp_path.iterdir()}


def test_resized_images_have_a_jpeg_signature_at_no_size_as_well():
    data = settings.Data(dataset="jpeg_digits", split="test", image_size=0)
    data = data.replace(is_training=False, global_batch_size=4)
    source = open_source(data, 10)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Input(source.shape),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(10),
        ]
    )
    served = export.Classifier(model, data, resized=True).others()
    files, _ = sources.jpeg_digits("test")
    found = served["jpeg"](tf.constant(files[:4]))["logits"]
    scaled, _ = next(iter(inputs(source, data)))
    # One path decodes part of a JPEG as the other: equal but for rounding.
    np.testing.assert_allclose(found, model(scaled), rtol=1e-5, atol=1e-5)
    assert export.Classifier(model, data, resized=False).others() == {}


def test_what_an_old_config_lacks_is_no_experiments(run, tmp_path):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    del params["task"]["model"]["norm_act"]["groups"]  # The digits' is 8.
    del params["task"]["train_data"]["mean"]
    path.write_text(yaml.safe_dump(params))
    found = saved.parameters(str(tmp_path / "run"), settings.Task()).task
    assert found.model.norm_act.groups is None
    assert found.train_data.mean == settings.Data().mean


def test_images_of_an_int8_export_that_cannot_be_read_are_named(tmp_path):
    images.write_tfrecords(tmp_path, counts=(40,))
    (path,) = tmp_path.glob("train-*")
    images.damage(path)
    params = small.parameters()
    params.task.train_data.override(
        {"dataset": "tfrecords", "path": str(path), "image_size": 16}
    )
    with pytest.raises(
        ValueError, match=r"classification.data check.*dataset='tfrecords'"
    ):
        export._real(types.SimpleNamespace(params=params))
