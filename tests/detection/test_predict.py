"""What is drawn is what an evaluation of the checkpoint would find."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from detection import detector, predict, results, task
from training import saved


@pytest.fixture(scope="module")
def found(saved_run, restored):
    """What is predicted in the run's images, a list for each."""
    pixels = {path: predict.read(path) for path in saved_run.images}
    return list(predict.predict(restored, pixels).values())


def test_a_run_is_restored_from_its_directory(saved_run, restored):
    assert (restored.path, restored.step) == (saved_run.path, 7)
    # Of its annotations, as it records nothing.
    assert task.names(restored) == {k + 1: str(k) for k in range(10)}
    assert restored.metrics == {}
    assert len(restored.model.weights) == len(saved_run.model.weights)
    for one, other in zip(restored.model.weights, saved_run.model.weights):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_checkpoint_finds_its_run(saved_run, restored, monkeypatch):
    model = restored.model  # Its weights are read anew.
    monkeypatch.setattr(task.Task, "build_model", lambda self: model)
    checkpoint = f"{saved_run.path}.index"
    found = task.restore(None, checkpoint)
    assert (found.path, found.step) == (saved_run.path, 7)
    assert saved.directory(None, checkpoint) == saved_run.folder
    assert not saved.find(found.params, saved_run.folder, checkpoint).swapped


@pytest.mark.parametrize(
    ("model_dir", "checkpoint", "message"),
    [
        (None, "latest", "Give model_dir"),
        (None, "/nowhere/ckpt-1", "Give model_dir"),
        ("", "best", "Give model_dir"),
        ("{run}", "best", "no such checkpoint"),
        ("{run}", "{run}/ckpt-8", "no such checkpoint"),
        ("{run}/train", "latest", r"no params\.yaml"),
    ],
)
def test_what_is_no_run_is_refused(model_dir, checkpoint, message, saved_run):
    with pytest.raises(ValueError, match=message):
        task.restore(
            model_dir and model_dir.format(run=saved_run.folder),
            checkpoint.format(run=saved_run.folder),
        )


def test_predictions_are_the_evaluations(saved_run, found, monkeypatch):
    # The scenes' labels, which a model of 4 classes may not be trained on.
    model = saved_run.task.task_config.model
    monkeypatch.setattr(model, "num_classes", 11)
    data = saved_run.task.task_config.validation_data
    images, labels = next(iter(saved_run.task.build_inputs(data)))
    info = labels["image_info"]
    outputs = saved_run.model(images, info[:, 1, :], training=False)
    arrays = {
        name: outputs[name].numpy()
        for name in outputs
        if name.startswith(("detection_", "num_"))
    } | {"image_info": info.numpy()}
    ids = labels["groundtruths"]["source_id"].numpy().tolist()
    assert ids == [1, 2]
    for index, mine in enumerate(found):
        one = {name: array[index] for name, array in arrays.items()}
        wanted = results.to_coco(one, index)
        wanted.sort(key=lambda entry: -entry["score"])
        assert len(mine) == len(wanted) > 0
        for a, b in zip(mine, wanted):
            # A batch of one sums in another order than a batch of two.
            assert a["category_id"] == b["category_id"]
            assert a["score"] == pytest.approx(b["score"], abs=1e-5)
            assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-2)
        assert {tuple(a["segmentation"]["size"]) for a in mine} == {(96, 96)}


def test_boxes_are_in_the_images_own_pixels(saved_run, restored):
    image = predict.read(saved_run.images[0])
    wide = np.concatenate([image, image[:, :48]], axis=1)
    found = detector.Detector(restored.model, restored.params.task.model)
    outputs = found.images(tf.constant(wide[np.newaxis]))
    count = int(outputs["num_detections"][0])
    boxes = outputs["detection_boxes"].numpy()[0, :count]
    assert count and boxes.min() >= 0
    # The 64 pixels of the network's input are 144 of the image's; below the
    # 96 that there are is padding.
    assert 100 < boxes[:, [1, 3]].max() <= 144.5


def test_pictures_are_drawn_and_said(
    saved_run, restored, found, tmp_path, capsys
):
    places = predict.outputs(saved_run.images, str(tmp_path / "found"))
    # The scores of an almost untrained model depend on its weights' seeds.
    scores = [entry["score"] for one in found for entry in one]
    threshold = float(np.quantile(scores, 0.7))
    found = predict.draw_all(restored, places, {1: "one"}, threshold)
    said = capsys.readouterr().out
    assert f"Checkpoint: {saved_run.path}" in said
    for path, place in places.items():
        drawn = cv2.imread(place)
        plain = cv2.resize(cv2.imread(path), drawn.shape[1::-1])
        # Boxes and masks, and not another image.
        assert 1 < np.abs(drawn.astype(int) - plain).mean() < 70
        assert f"picture {place}" in said
    assert {entry["image_id"] for entry in found} == {0, 1}
    shown = sum(entry["score"] >= threshold for entry in found)
    assert 0 < shown == said.count("\n  ") < len(found)


def test_images_that_cannot_be_are_refused(saved_run, tmp_path):
    with pytest.raises(ValueError, match=r"No such file.*none\.png"):
        predict.read(str(tmp_path / "none.png"))
    with pytest.raises(ValueError, match=r"params\.yaml cannot be read"):
        predict.read(f"{saved_run.folder}/params.yaml")
    with pytest.raises(ValueError, match="same name"):
        predict.outputs(["a/x.png", "b/x.jpg"], "out")
