"""The digit scenes are valid COCO, and what the records say is the same."""

import os

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.core import input_reader
from official.vision.dataloaders import tf_example_decoder
from pycocotools import coco

from detection import scenes

_SCENES = scenes.Scenes(train=6, validation=4, size=96)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return scenes.ensure(_SCENES, str(tmp_path_factory.mktemp("scenes")))


def _examples(directory, split):
    decoder = tf_example_decoder.TfExampleDecoder(include_mask=True)
    files = input_reader.match_files(f"{directory}/{split}.tfrecord")
    return list(tf.data.TFRecordDataset(files).map(decoder.decode))


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("validation", 4)])
def test_annotations_are_cocos(directory, split, count):
    truth = coco.COCO(f"{directory}/{split}.json")
    assert sorted(truth.imgs) == list(range(1, count + 1))
    assert [c["name"] for c in truth.dataset["categories"]] == list(
        "0123456789"
    )
    for image_id, image in truth.imgs.items():
        pixels = cv2.imread(os.path.join(directory, image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert 1 <= len(truth.imgToAnns[image_id]) <= 5
    for annotation in truth.anns.values():
        mask = truth.annToMask(annotation)
        rows, columns = mask.nonzero()
        x, y, width, height = annotation["bbox"]
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1, rows.max() + 1) == (x + width, y + height)
        assert annotation["area"] == mask.sum() > 0
        assert annotation["category_id"] in truth.cats


def test_masks_do_not_overlap(directory):
    truth = coco.COCO(f"{directory}/train.json")
    for image_id in truth.imgs:
        masks = [truth.annToMask(a) for a in truth.imgToAnns[image_id]]
        assert np.sum(masks, axis=0).max() == 1


def test_records_hold_what_the_annotations_say(directory):
    truth = coco.COCO(f"{directory}/train.json")
    for example in _examples(directory, "train"):
        image_id = int(example["source_id"].numpy())
        image = truth.imgs[image_id]
        pixels = cv2.imread(os.path.join(directory, image["file_name"]))
        np.testing.assert_array_equal(example["image"], pixels[..., ::-1])
        annotations = truth.imgToAnns[image_id]
        assert example["groundtruth_classes"].numpy().tolist() == [
            a["category_id"] for a in annotations
        ]
        boxes = np.array([a["bbox"] for a in annotations])
        corners = np.stack(
            [
                boxes[:, 1],
                boxes[:, 0],
                boxes[:, 1] + boxes[:, 3],
                boxes[:, 0] + boxes[:, 2],
            ],
            axis=1,
        )
        # float32 in [0, 1].
        np.testing.assert_allclose(
            example["groundtruth_boxes"] * 96.0, corners, atol=1e-4
        )
        np.testing.assert_array_equal(
            example["groundtruth_instance_masks"],
            [truth.annToMask(a) for a in annotations],
        )
        assert not example["groundtruth_is_crowd"].numpy().any()


def test_scenes_are_the_same_each_time_and_differ_by_seed_and_split():
    def pixels(seed, split):
        params = _SCENES.replace(seed=seed)
        return next(scenes.compose(params, split, 1)).image

    np.testing.assert_array_equal(pixels(0, 0), pixels(0, 0))
    assert np.any(pixels(0, 0) != pixels(1, 0))
    assert np.any(pixels(0, 0) != pixels(0, 1))


def test_scenes_of_other_settings_are_never_taken_for_these(directory):
    parent = os.path.dirname(directory)
    before = os.path.getmtime(f"{directory}/train.json")
    assert scenes.ensure(_SCENES, parent) == directory
    assert os.path.getmtime(f"{directory}/train.json") == before
    assert scenes.ensure(_SCENES.replace(seed=1), parent) != directory


def test_no_scenes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one scene"):
        scenes.ensure(scenes.Scenes(train=2, validation=0), str(tmp_path))
