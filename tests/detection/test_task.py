"""One real step of each kind of layer, and the traps that are closed."""

import json
import math
import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from detection import convert, evaluate, model, task
from tests.detection import coco_files, small
from training import driver


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where all tasks of this file find their scenes."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def batch(directory):
    """A training batch, which is the same with every layer."""
    prepared = small.prepared(directory)
    return next(iter(prepared.build_inputs(prepared.task_config.train_data)))


_DECAY = 0.25


@pytest.fixture(scope="module")
def decaying(directory):
    """A model of EvoNorm-S0 whose only losses are those of its weights."""
    losses = {"l2_weight_decay": _DECAY}
    return small.prepared(directory, task={"losses": losses}).build_model()


@pytest.mark.parametrize(
    "name",
    [
        "evonorm_b0",
        pytest.param("evonorm_s0", marks=pytest.mark.slow),
        # test_train.py takes steps with the one, and the other on replicas.
        pytest.param("bn_relu", marks=pytest.mark.slow),
    ],
)
def test_a_step_is_finite_and_moves_every_weight_and_statistic(
    name, directory, batch
):
    # Without decay, which moves kernels that no loss reaches.
    losses = {"l2_weight_decay": 0.0}
    prepared = small.prepared(directory, name, task={"losses": losses})
    built = prepared.build_model()
    before = [weight.numpy() for weight in built.weights]
    # Eagerly: a graph of so many parts takes a minute to trace. Adam, for
    # the gradients behind the RPN's outputs, which start at 1e-5, are too
    # small beside a gain of 1 for plain SGD.
    with evonorm_tf.using(xla=False):
        logs = prepared.train_step(batch, built, tf_keras.optimizers.Adam(1e-2))
    assert np.isfinite(logs[prepared.loss].numpy())
    still = [
        weight.name
        for weight, old in zip(built.weights, before)
        if np.array_equal(weight.numpy(), old)
    ]
    assert not still
    assert all(np.all(np.isfinite(w.numpy())) for w in built.weights)


def test_detections_have_the_shapes_of_masks_and_boxes(batch, decaying):
    images, labels = batch
    outputs = decaying(images, labels["image_info"][:, 1, :], training=False)
    assert outputs["detection_boxes"].shape == (2, 20, 4)
    assert outputs["detection_masks"].shape == (2, 20, 28, 28)
    assert set(outputs["decoder_features"]) == {"2", "3", "4"}
    for level, features in outputs["decoder_features"].items():
        side = 64 // 2 ** int(level)
        assert features.shape == (2, side, side, 16)


def _rpn_score_loss(directory, **changes):
    """Of scores 0 at 12 anchors that all count, with 8 ROIs an image."""
    prepared = small.prepared(directory, task=changes)
    outputs = {
        "rpn_scores": {"2": tf.zeros([1, 2, 2, 3])},
        "rpn_boxes": {"2": tf.zeros([1, 2, 2, 12])},
        "box_outputs": tf.zeros([1, 8, 44]),
    }
    labels = {
        "rpn_score_targets": {"2": tf.ones([1, 2, 2, 3])},
        "rpn_box_targets": {"2": tf.zeros([1, 2, 2, 12])},
    }
    score, box = prepared._build_rpn_losses(outputs, labels)
    assert box.numpy() == 0
    return score.numpy()


def test_the_rpn_score_loss_is_a_mean_over_the_sampled_anchors(directory):
    assert _rpn_score_loss(directory) == pytest.approx(12 * math.log(2) / 256)
    # The Model Garden divides by the ROIs of the second stage instead.
    theirs = _rpn_score_loss(directory, rpn_score_normalizer="model_garden")
    assert theirs == pytest.approx(12 * math.log(2) / 8)


def test_weight_decay_is_in_the_loss(decaying):
    kernels = model.decayed_weights(decaying)
    expected = _DECAY / 2 * sum(np.sum(np.square(w.numpy())) for w in kernels)
    # float32 sums of about 1e5 squares.
    assert float(tf.add_n(decaying.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "split",
    [
        # test_datasets.py has it, with the record's name.
        pytest.param("train_data", marks=pytest.mark.slow),
        "validation_data",
    ],
)
def test_a_class_id_outside_the_classes_is_an_error(split, directory):
    prepared = small.prepared(directory)
    prepared.task_config.model.num_classes = 2
    data = getattr(prepared.task_config, split)
    batches = prepared.build_inputs(data)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="class id is outside 1 to 1"
    ):
        for _ in batches:
            pass


def test_an_evaluation_decodes_no_masks(directory):
    prepared = small.prepared(directory)
    data = prepared.task_config.validation_data
    truth = prepared.build_inputs(data).element_spec[1]["groundtruths"]
    assert "boxes" in truth and "masks" not in truth
    assert prepared.task_config.model.include_mask


def test_a_model_without_masks_is_scored_without_them(directory):
    prepared = small.prepared(directory, model={"include_mask": False})
    prepared.build_metrics(training=False)
    count = prepared.task_config.validation_data.num_examples
    nothing = {
        "source_id": np.arange(1, count + 1),
        "image_info": np.ones([count, 4, 2], np.float32),
        "num_detections": np.zeros([count], int),
        "detection_boxes": np.zeros([count, 1, 4], np.float32),
        "detection_classes": np.zeros([count, 1], int),
        "detection_scores": np.zeros([count, 1], np.float32),
    }
    prepared.coco_metric.update_state(None, nothing)
    assert set(prepared.coco_metric.result()) == set(evaluate.FIGURES)


def _evaluated(prepared, images):
    """The names of an evaluation with a detection in each of some images."""
    prepared.build_metrics(training=False)
    metric = prepared.coco_metric
    for image in sorted(metric.truth.images)[:images]:
        entry = {
            "source_id": np.array([image]),
            "image_info": np.ones([1, 4, 2], np.float32) * 64,
            "num_detections": np.array([1]),
            "detection_boxes": np.array([[[0, 0, 64, 64]]], np.float32),
            "detection_classes": np.array([[1]]),
            "detection_scores": np.array([[0.5]], np.float32),
        }
        if prepared.task_config.model.include_mask:
            entry["detection_masks"] = np.ones([1, 1, 28, 28], np.float32)
        metric.update_state(None, entry)
    return list(metric.result())


@pytest.mark.parametrize(
    "model, categories, steps, images",
    [
        ({}, False, -1, 5),
        ({}, True, 3, 5),  # Three batches of two.
        ({"include_mask": False}, True, 2, 4),
    ],
)
def test_the_names_of_an_evaluation_are_known_before_training(
    model, categories, steps, images, directory
):
    prepared = small.prepared(
        directory, model=model, task={"per_category_metrics": categories}
    )
    trainer = driver.trainer_config(validation_steps=steps)
    names = prepared.metric_names(trainer)
    assert names == _evaluated(prepared, images)
    assert names[0] == ("partial_AP" if images == 4 else "AP")


def test_the_objects_of_an_evaluation_are_counted_where_a_recipe_says_so(
    directory,
):
    path = small.prepared(directory).task_config.annotation_file
    with open(path, encoding="utf-8") as file:
        there = len(json.load(file)["annotations"])
    for asked, found in ((36781, there), (0, 0)):
        prepared = small.prepared(
            directory, task={"validation_data": {"num_objects": asked}}
        )
        assert prepared.task_config.validation_data.num_objects == found


def test_categories_above_the_classes_are_an_error_before_training(directory):
    with pytest.raises(ValueError, match=r"at least 11.*num_classes=10"):
        small.prepared(directory, model={"num_classes": 10})


def _other_annotations(directory, folder, change):
    """Settings with annotations of the scenes that `change` was called on."""
    made = small.prepared(directory).task_config
    with open(made.annotation_file, encoding="utf-8") as file:
        content = json.load(file)
    change(content)
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    params = small.parameters()
    params.task.annotation_file = str(path)
    for name in ("train_data", "validation_data"):
        getattr(params.task, name).input_path = getattr(made, name).input_path
    return params


def _without_a_mask(content):
    content["annotations"][0]["segmentation"] = None


def _without_a_box(content):
    del content["annotations"][0]["bbox"]


def _from_category_0(content):
    for one in (*content["categories"], *content["annotations"]):
        one["id" if "name" in one else "category_id"] -= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_mask, r"annotations\[0\].*include_mask=False"),
        (_without_a_box, r"annotations\[0\].*bbox must be"),
        (_from_category_0, "0, which is the background's"),
    ],
)
def test_annotations_are_validated_before_training(
    change, message, directory, tmp_path
):
    params = _other_annotations(directory, tmp_path, change)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        task.prepare(params, str(tmp_path))


def test_defaults_of_annotations_are_reported(directory, tmp_path, capsys):
    def change(content):
        del content["annotations"][0]["iscrowd"]

    params = _other_annotations(directory, tmp_path, change)
    task.prepare(params, str(tmp_path))
    path = params.task.annotation_file
    assert f"{path}: 1 annotations have no iscrowd" in capsys.readouterr().out


def test_augmentation_that_leaves_the_boxes_is_refused(directory):
    params = small.parameters()
    params.override(
        {"task": {"train_data": {"parser": {"aug_type": {"type": "randaug"}}}}}
    )
    with pytest.raises(ValueError, match="not boxes and masks"):
        task.prepare(params, str(directory))


def test_data_that_are_not_named_are_asked_for(directory):
    with pytest.raises(ValueError, match=r"task\.annotation_file"):
        small.prepared(directory, task={"scenes": {"train": 0}})


def test_annotations_are_those_of_the_data(directory):
    params = small.parameters()
    task.prepare(params, str(directory))
    path = params.task.annotation_file
    assert os.path.dirname(path) == os.path.dirname(
        params.task.validation_data.input_path
    )
    with open(path, encoding="utf-8") as file:
        assert len(json.load(file)["images"]) == 5


@pytest.mark.parametrize(
    "given",
    [
        {"validation_data": {"input_path": "val/*.tfrecord"}},
        {"annotation_file": "instances.json"},
    ],
)
def test_scenes_do_not_replace_named_validation_data(given, tmp_path):
    params = small.parameters(task=given)
    with pytest.raises(ValueError, match=r"Set task\.train_data\.input_path"):
        task.prepare(params, str(tmp_path))
    assert not os.listdir(tmp_path)


def _converted(folder, names, **settings):
    """Records and annotations whose categories 1 and 90 have these names."""
    folder.mkdir()
    content = coco_files.content()
    for one, name in zip(content["categories"], names, strict=True):
        one["name"] = name
    path, images = coco_files.write(folder, content)
    job = convert.Conversion(path, images, str(folder / "out"), 1, **settings)
    convert.convert(job, small.Silent())
    return f"{folder}/out/*.tfrecord", path


def _on(train, validation, annotations):
    params = small.parameters(model={"num_classes": 91})
    params.task.train_data.input_path = train
    params.task.validation_data.input_path = validation
    params.task.annotation_file = annotations
    return params


def test_records_and_annotations_name_categories_alike(tmp_path):
    one, there = _converted(tmp_path / "one", ["cat", "dog"])
    other, where = _converted(tmp_path / "other", ["dog", "cat"])
    # Without a name of its own, a category is called by its id.
    unnamed, _ = _converted(tmp_path / "unnamed", ["1", "dog"])
    for train in (one, unnamed):
        params = _on(train, one, there)
        found = task.prepare(params, str(tmp_path / "run")).categories
        assert found == {1: "cat", 90: "dog"}
    for train, validation in ((one, other), (other, one)):
        params = _on(train, validation, where)
        with pytest.raises(ValueError, match=r"id=1, 'cat' in .*, 'dog' in"):
            task.prepare(params, str(tmp_path / "run"))


def test_masks_are_trained_on_records_that_have_them(tmp_path):
    bare, path = _converted(tmp_path / "bare", ["cat", "dog"], masks=False)
    params = _on(bare, bare, path)
    with pytest.raises(ValueError, match=r"no masks.*include_mask=True"):
        task.prepare(params, str(tmp_path / "run"))
    params.task.model.include_mask = False
    task.prepare(params, str(tmp_path / "run"))


def test_validation_data_that_are_not_named_are_asked_for(directory):
    changes = {"scenes": {"train": 0}, "annotation_file": "instances.json"}
    changes["train_data"] = {"input_path": "train.tfrecord"}
    with pytest.raises(ValueError, match=r"validation_data\.input_path=''"):
        small.prepared(directory, task=changes)


@pytest.mark.parametrize(
    "name", ["use_approx_instance_metrics", "use_wod_metrics"]
)
def test_metrics_that_count_what_fills_a_batch_up_are_refused(name, directory):
    with pytest.raises(ValueError, match=f"last batch.*{name}=True"):
        small.prepared(directory, task={name: True})
