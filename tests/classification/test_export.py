"""Exports compute what the model does, from its directory alone."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from classification import export, opening, restore, settings
from classification.data import inputs
from evonorm_tf.training import datasets
from tests.classification import small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with averaged weights and a best checkpoint, and its result."""
    folder = tmp_path_factory.mktemp("run")
    params = small.everything()
    params.trainer.train_steps = 8
    return folder, small.run(folder, params, "train_and_eval")


def test_all_formats_agree_with_the_model(run, tmp_path, monkeypatch):
    folder, result = run
    monkeypatch.chdir(tmp_path)
    differences = export.export(str(folder), "out", list(export.FORMATS))
    assert set(differences) == set(export.FORMATS)
    # Not equal to the last bit: something else than the model computed it.
    assert all(0 <= v <= export.TOLERANCES[k] for k, v in differences.items())
    assert differences["tflite_float16"] > 0
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["step"] == 8
    assert about["weights"] == "averaged"
    assert about["run"]["resized"] is False  # In memory, 8x8.
    assert about["metrics"]["accuracy"] == result.metrics["accuracy"]
    labels = (tmp_path / "out" / "labels.txt").read_text().split()
    assert labels == list("0123456789")
    served = tf.saved_model.load(str(tmp_path / "out" / "saved_model"))
    serve = served.signatures["serving_default"]
    for count in (1, 3):
        images = tf.zeros([count, 8, 8, 1], tf.uint8)
        found = serve(images=images)
        assert found["probabilities"].shape == (count, 10)
        np.testing.assert_allclose(
            tf.reduce_sum(found["probabilities"], -1), 1.0, rtol=1e-5
        )
    size = {
        name: (tmp_path / "out" / f"{name}.tflite").stat().st_size
        for name in ("tflite", "tflite_float16")
    }
    assert size["tflite_float16"] < 0.8 * size["tflite"]


def test_the_accuracy_is_the_run_s(run):
    """Averages and preprocessing: the test set scores as in the run."""
    folder, result = run
    found = restore.restore(str(folder))
    classifier = export.Classifier(
        found.model, found.params.task.validation_data, resized=False
    )
    images, labels = datasets.digits("test")
    right = classifier.images(tf.constant(images))["label"] == labels
    accuracy = np.mean(right)
    # One image of 445 may fall on the other side by rounding.
    assert abs(accuracy - result.metrics["accuracy"]) <= 1 / 445 + 1e-6


def test_best_and_latest(run):
    folder, _ = run
    best = restore.restore(str(folder), "best")
    assert best.path.startswith(str(folder / "best"))
    assert best.metrics["best_ckpt_global_step"] == best.step
    latest = restore.restore(str(folder))
    same = all(
        np.array_equal(a, b)
        for a, b in zip(best.model.get_weights(), latest.model.get_weights())
    )
    assert same == (best.step == latest.step)
    evaluated = small.run(folder, small.everything(), "eval_best")
    assert evaluated.step == best.step
    assert evaluated.metrics["accuracy"] == pytest.approx(
        best.metrics["accuracy"], abs=1e-6
    )


def test_refused(run, tmp_path):
    folder, _ = run
    with pytest.raises(ValueError, match="formats are saved_model"):
        export.export(str(folder), str(tmp_path), ["onnx"])
    with pytest.raises(ValueError, match=r"no params\.yaml"):
        restore.restore(str(tmp_path))
    with pytest.raises(ValueError, match="must be one of"):
        restore.restore(str(folder), "first")


def test_a_wrong_export_is_an_error(run, tmp_path, monkeypatch):
    folder, _ = run

    def wrong(classifier, name, path):
        return lambda images: classifier.images(images)["logits"].numpy() * 1.01

    export.export(str(folder), str(tmp_path), ["tflite"])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write = export._write

    def half_wrong(classifier, name, path):
        serve = write(classifier, name, path)
        return serve if name == "tflite" else wrong(classifier, name, path)

    monkeypatch.setattr(export, "_write", half_wrong)
    with pytest.raises(ValueError, match="is not the model"):
        export.export(str(folder), str(tmp_path), ["tflite", "saved_model"])
    # Neither what was refused nor what was written beside it.
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    monkeypatch.setattr(export, "_write", write)
    for _ in range(2):  # Over what is there.
        export.export(str(folder), str(tmp_path), ["saved_model"])
    assert {*before, "saved_model"} == {p.name for p in tmp_path.iterdir()}


def test_resized_images_have_a_jpeg_signature_at_no_size_as_well():
    data = settings.Data(dataset="jpeg_digits", split="test", image_size=0)
    data = data.replace(is_training=False, global_batch_size=4)
    source = opening.open_source(data, 10)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Input(source.shape),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(10),
        ]
    )
    served = export.Classifier(model, data, resized=True).signatures()
    files, _ = datasets.jpeg_digits("test")
    found = served["jpeg"](tf.constant(files[:4]))["logits"]
    scaled, _ = next(iter(inputs(source, data)))
    # One path decodes part of a JPEG as the other: equal but for rounding.
    np.testing.assert_allclose(found, model(scaled), rtol=1e-5, atol=1e-5)
    plain = export.Classifier(model, data, resized=False).signatures()
    assert list(plain) == ["serving_default"]


def test_what_an_old_config_lacks_is_no_experiments(run, tmp_path):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    del params["task"]["model"]["norm_act"]["groups"]  # The digits' is 8.
    del params["task"]["train_data"]["mean"]
    path.write_text(yaml.safe_dump(params))
    found = restore._read(str(tmp_path / "run"))[0].task
    assert found.model.norm_act.groups is None
    assert found.train_data.mean == settings.Data().mean
