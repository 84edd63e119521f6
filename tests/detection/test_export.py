"""An export finds what the model finds, or is not kept."""

import dataclasses
import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from detection import detector, export, predict, task
from detection import model as network
from tests.exporting import graphs


@pytest.fixture(scope="module")
def exported(saved_run, restored, tmp_path_factory):
    """Directory of an export, and what was compared."""
    folder = str(tmp_path_factory.mktemp("export"))
    image = predict.read(saved_run.images[0])
    # Of two sizes: one export serves them all.
    images = [image, image[:50]]
    with evonorm_tf.using(xla=False):
        return folder, export.export(restored, folder, images)


@pytest.fixture(scope="module")
def served(exported):
    """The export, read by TensorFlow alone."""
    return tf.saved_model.load(f"{exported[0]}/saved_model")


@pytest.mark.slow
def test_an_export_is_the_model(exported, served, restored, saved_run):
    _, compared = exported
    assert compared["detections"] > 10
    assert compared["difference"] < export.TOLERANCE
    serve = served.signatures
    image = predict.read(saved_run.images[1])
    model = detector.Detector(restored.model, restored.params.task.model)
    wanted = model.images(tf.constant(image[None]))
    # A batch of files of two sizes, each boxes in its own pixels.
    other = tf.image.resize(image, [192, 192], "nearest")
    files = [tf.io.encode_png(image), tf.io.encode_png(tf.cast(other, "uint8"))]
    got = serve["encoded"](encoded=tf.stack(files))
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(
            got[name][0], value[0], rtol=1e-4, atol=1e-2, err_msg=name
        )
    boxes = got["detection_boxes"].numpy()
    assert 96 < boxes[1].max() <= 193
    assert boxes[0].max() <= 97


@pytest.mark.slow
def test_the_layers_are_folded(served, restored):
    """Of both signatures; ROIs themselves are of rank 5, layers are not."""
    for signature in served.signatures.values():
        graphs.assert_folded(signature, restored.model)
    # The kernels and what the heads have besides, no constant twice.
    owned = {
        id(weight)
        for layer in network.norm_sites(restored.model)
        for weight in layer.weights
    }
    kernels = [w for w in restored.model.weights if id(w) not in owned]
    assert owned and len(served.signatures["encoded"].variables) == len(kernels)


def test_an_export_says_where_it_comes_from(exported, saved_run):
    folder, compared = exported
    assert sorted(os.listdir(folder)) == [
        "export.json",
        "labels.json",
        "saved_model",
    ]
    with open(f"{folder}/labels.json", encoding="utf-8") as file:
        assert json.load(file)["3"] == "2"
    with open(f"{folder}/export.json", encoding="utf-8") as file:
        about = json.load(file)
    assert about["checkpoint"] == saved_run.path
    assert (about["step"], about["compared"]) == (7, compared)
    assert about["not_folded"] == []
    assert about["config"]["task"]["model"]["input_size"] == [64, 64, 3]


def test_names_are_those_of_the_run_or_asked_for(
    saved_run, restored, monkeypatch, tmp_path
):
    annotations = restored.params.task.annotation_file
    monkeypatch.setattr(restored.params.task, "annotation_file", "moved.json")
    with pytest.raises(ValueError, match=r"--annotations.*'moved.json'"):
        export.export(restored, str(tmp_path), [])
    given = task.names(restored, annotations)
    assert given == saved_run.task.categories
    recorded = {"categories": {"1": "a", "7": "b"}}
    run = types.SimpleNamespace(facts=lambda: recorded)
    restored = dataclasses.replace(restored, run=run)
    assert task.names(restored) == {1: "a", 7: "b"}
    assert task.names(restored, annotations) == given


def _outputs(**changes):
    """Two detections, padded to three."""
    found = {
        "num_detections": tf.constant([2]),
        "detection_boxes": tf.constant([[[1.0, 2, 3, 4]] * 3]),
        "detection_classes": tf.constant([[1, 2, 0]]),
        "detection_scores": tf.constant([[0.9, 0.5, 0]]),
    }
    return found | {name: tf.constant(v) for name, v in changes.items()}


def _compare(wanted, got):
    signatures = {
        "serving_default": lambda images: got,
        "encoded": lambda encoded: got,
    }
    model = types.SimpleNamespace(images=lambda images: wanted)
    loaded = types.SimpleNamespace(signatures=signatures)
    return export._compare(model, loaded, [np.zeros([8, 10, 3], np.uint8)])


def test_a_difference_of_any_output_is_seen():
    assert _compare(_outputs(), _outputs())["difference"] == 0
    # What only pads is not compared.
    padding = _outputs(detection_classes=[[1, 2, 5]])
    assert _compare(_outputs(), padding)["difference"] == 0
    for change in (
        {"num_detections": [1]},
        {"detection_boxes": [[[1.0, 2, 3, 4.1]] * 3]},
        {"detection_classes": [[2, 1, 0]]},
        {"detection_scores": [[0.9, 0.51, 0]]},
        {"detection_scores": [[0.9, np.nan, 0]]},
        {"detection_masks": [[[[0.0]]] * 3]},
    ):
        with pytest.raises(ValueError, match="differs from the model"):
            _compare(_outputs(), _outputs(**change))


def test_finding_nothing_is_no_check():
    nothing = _outputs(num_detections=[0])
    with pytest.raises(ValueError, match="pass --image"):
        _compare(nothing, nothing)


def test_a_refused_export_leaves_what_was_there(
    restored, tmp_path, monkeypatch
):
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "before").touch()
    monkeypatch.setattr(detector.Detector, "signatures", lambda self: {})
    saved = lambda holder, path, signatures: os.makedirs(path)  # noqa: E731
    monkeypatch.setattr(tf.saved_model, "save", saved)
    monkeypatch.setattr(tf.saved_model, "load", lambda path: None)
    with pytest.raises(ValueError, match="pass --image"):
        export.export(restored, str(tmp_path), [])
    assert os.listdir(tmp_path) == ["saved_model"]
    assert os.listdir(tmp_path / "saved_model") == ["before"]


def test_images_to_compare_on_are_the_runs(restored, saved_run):
    found = export._images(restored, [])
    assert [image.shape for image in found] == [(96, 96, 3)] * 2
    np.testing.assert_array_equal(found[0], predict.read(saved_run.images[0]))
