"""Exports compute what the model does, from its directory alone."""

import json

import numpy as np
import pytest
import tensorflow as tf

from classification import export, restore
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
        found.model, found.params.task.validation_data
    )
    from evonorm_tf.training import datasets

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

    monkeypatch.setattr(export, "_write", wrong)
    with pytest.raises(ValueError, match="is not the model"):
        export.export(str(folder), str(tmp_path), ["saved_model"])
