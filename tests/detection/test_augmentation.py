"""Training targets move with the pixels."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.vision.configs import common
from official.vision.dataloaders import maskrcnn_input


def _scene():
    """A bright triangle, no symmetry in it, on a dark ground: decoded."""
    mask = np.zeros([60, 80], np.float32)
    for row in range(30):
        mask[5 + row, 15 : 16 + row] = 1
    image = np.tile(np.uint8(20 + 200 * mask)[..., None], 3)
    return {
        "image": tf.constant(image),
        "groundtruth_classes": tf.constant([3], tf.int64),
        "groundtruth_boxes": tf.constant([[5 / 60, 15 / 80, 35 / 60, 45 / 80]]),
        "groundtruth_is_crowd": tf.constant([False]),
        "groundtruth_instance_masks": tf.constant(mask[None]),
    }


def _overlap(**augmentation):
    """The bright pixels, and their IoU with the target pasted into its box."""
    parser = maskrcnn_input.Parser(
        output_size=[64, 64],
        min_level=2,
        max_level=4,
        num_scales=1,
        aspect_ratios=[1.0],
        anchor_size=4.0,
        include_mask=True,
        mask_crop_size=56,
        max_num_instances=1,
        **augmentation,
    )
    image, labels = parser._parse_train_data(_scene())
    top, left, bottom, right = labels["gt_boxes"].numpy()[0]
    target = np.zeros([64, 64], bool)
    box = np.round([top, bottom, left, right]).astype(int)
    size = (max(box[3] - box[2], 1), max(box[1] - box[0], 1))
    pasted = cv2.resize(labels["gt_masks"].numpy()[0], size) > 0.5
    target[box[0] : box[1], box[2] : box[3]] = pasted
    bright = image.numpy()[..., 0] > 0.5
    return bright, np.sum(target & bright) / np.sum(target | bright)


@pytest.mark.parametrize(
    "augmentation",
    [
        {"aug_rand_vflip": True},
        {"aug_rand_hflip": True, "aug_scale_min": 0.8, "aug_scale_max": 1.25},
        # Each is a part of the last.
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (
                {"aug_rand_hflip": True},
                {"aug_scale_min": 0.6, "aug_scale_max": 1.6},
            )
        ),
    ],
)
def test_boxes_and_masks_move_with_the_pixels(augmentation):
    found = [_overlap(**augmentation) for _ in range(12)]
    # Edges of a triangle of some 24 pixels, each rounded to a pixel.
    assert min(overlap for _, overlap in found) > 0.8
    places = [np.argwhere(bright).mean(0) for bright, _ in found]
    assert np.ptp(places, axis=0).max() > 3


def test_the_refused_augmenters_leave_the_boxes():
    # What task.prepare refuses, and that the measure above would show it.
    randaug = common.RandAugment(magnitude=10, num_layers=2, prob_to_apply=1.0)
    augmenter = common.Augmentation(type="randaug", randaug=randaug)
    overlaps = [_overlap(aug_type=augmenter)[1] for _ in range(12)]
    assert min(overlaps) < 0.7
