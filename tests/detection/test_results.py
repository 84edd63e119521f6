"""Detections of a model that are unlike most: no area, larger masks."""

import copy
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import mask_ops

from detection import (
    detector,
    evaluate,
    ground_truth,
    masks,
    results,
    scenes,
    settings,
)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """Of one scene of 128 pixels."""
    made = scenes.ensure(
        scenes.Scenes(train=1, validation=1),
        str(tmp_path_factory.mktemp("scenes")),
    )
    return ground_truth.load(f"{made}/validation.json")


def _image(boxes, **others):
    """What a model finds in image 1, at twice its size."""
    count = len(boxes)
    info = [[128, 128], [256, 256], [2, 2], [0, 0]]
    return {
        "num_detections": np.array(count),
        "image_info": np.array(info, np.float32),
        "detection_boxes": np.array(boxes, np.float32),
        "detection_scores": np.full([count], 0.75, np.float32),
        "detection_classes": np.full([count], 4),
        "detection_masks": np.ones([count, 28, 28], np.float32),
    } | others


def test_masks_are_pasted_into_the_boxes_that_they_are_of():
    inner, outer = [[40, 40, 80, 80]], np.float32([[20, 20, 100, 100]])
    one, other = (
        results.to_coco(image, 1)[0]
        for image in (
            _image(inner),
            _image(inner, detection_outer_boxes=outer),
        )
    )
    assert one["bbox"] == other["bbox"] == [20, 20, 20, 20]
    areas = [masks.decode(e["segmentation"]).sum() for e in (one, other)]
    # The Model Garden's pasting rounds outwards, by a pixel at most.
    assert 20**2 <= areas[0] <= 22**2 and 40**2 <= areas[1] <= 42**2


def test_masks_of_a_large_image_are_not_in_memory_at_once():
    count, side = 40, 1000
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1500, [count, 2])
    boxes = np.concatenate([corners, corners + rng.uniform(9, 500)], axis=1)
    small = rng.uniform(size=[count, 28, 28]).astype(np.float32)
    info = np.float32([[side, side], [2 * side] * 2, [2, 2], [0, 0]])
    image = _image(boxes, detection_masks=small, image_info=info)
    tracemalloc.start()
    found = results.to_coco(image, 1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * side * side
    # As the Model Garden pastes all of them.
    xywh = np.array([entry["bbox"] for entry in found])
    pasted = mask_ops.paste_instance_masks(small, xywh, side, side)
    for entry, mask in zip(found, pasted, strict=True):
        assert entry["segmentation"] == masks.encode(mask)


def test_a_detector_gives_all_its_boxes_in_the_images_own_pixels():
    boxes = tf.constant([[[40.0, 40, 80, 80]]])

    def network(*_, **__):
        return {
            "num_detections": tf.constant([1]),
            "detection_boxes": boxes,
            "detection_outer_boxes": 2 * boxes,
        }

    found = detector.Detector(network, settings.Model())
    info = tf.constant([[[128.0, 128], [256, 256], [2, 2], [0, 0]]])
    outputs = found._network(tf.zeros([1, 256, 256, 3]), info)
    np.testing.assert_array_equal(outputs["detection_boxes"], boxes / 2)
    np.testing.assert_array_equal(outputs["detection_outer_boxes"], boxes)


def test_two_equal_boxes_without_an_area_are_no_image_seen_twice(annotations):
    corner = [256, 256, 256, 256]
    found = results.to_coco(_image([corner, corner]), 1)
    assert found[0] == found[1]
    # They match nothing, and what does not match is not right.
    assert evaluate.score(found, annotations)["AP"] == 0
    twice = results.to_coco(_image([[0, 0, 8, 8]] * 2), 1)
    with pytest.raises(ValueError, match="twice"):
        evaluate.score(twice, annotations)


def test_nothing_found_is_scored_without_annotated_masks(annotations):
    boxes = copy.deepcopy(annotations)
    for entry in boxes.annotations():
        del entry["segmentation"]
    assert set(evaluate.score([], boxes)) == set(evaluate.FIGURES)
    # Otherwise the masks were to be found as well.
    assert evaluate.score([], annotations)["mask_AP"] == 0
