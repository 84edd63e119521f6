"""Settings that would change nothing are refused by name."""

import operator

import pytest

from detection import check_config
from tests.detection import small
from training import config

_PARSER = (
    *("num_channels", "match_threshold", "unmatched_threshold", "pad"),
    "keep_aspect_ratio",
)


def _other(value):
    """Another value than the default."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + ["x"] if isinstance(value, list) else value + type(value)(1)


@pytest.mark.parametrize(
    "key",
    [
        *(f"train_data.parser.{name}" for name in _PARSER),
        *(f"validation_data.parser.{name}" for name in _PARSER),
        "validation_data.parser.aug_rand_hflip",
        "validation_data.parser.rpn_match_threshold",
        "validation_data.is_training",
        "validation_data.tfds_name",
        "validation_data.cache",
        "validation_data.block_length",
        "train_data.is_training",
        "train_data.cache",
        "train_data.drop_remainder",
        "train_data.deterministic",
        "train_data.prefetch_buffer_size",
        "train_data.num_objects",
        "train_data.decoder.type",
        "train_data.decoder.simple_decoder.regenerate_source_id",
        "validation_data.decoder.simple_decoder.attribute_names",
    ],
)
def test_what_nothing_reads_is_refused_by_name(key):
    params = config.parse("scenes_maskrcnn")
    check_config.options(params)
    section, _, name = key.rpartition(".")
    place = operator.attrgetter(section)(params.task)
    setattr(place, name, _other(getattr(place, name)))
    said = f"has no effect; .*task.{key}="
    with pytest.raises(ValueError, match=said):
        check_config.options(params)


def test_pictures_of_the_model_garden_are_refused():
    params = small.parameters(task={"allow_image_summary": True})
    with pytest.raises(ValueError, match=r"pictures/.*allow_image_summary"):
        check_config.options(params)


def test_what_is_read_may_be_set():
    sizes = {"max_num_instances": 7, "mask_crop_size": 28}
    small_data = {"global_batch_size": 2, "seed": 3, "dtype": "bfloat16"}
    params = small.parameters(
        task={
            "train_data": small_data
            | {"parser": sizes | {"aug_rand_hflip": True}},
            "validation_data": small_data | {"parser": sizes},
        }
    )
    check_config.options(params)


@pytest.mark.parametrize(
    "task, message",
    [
        ({"freeze_backbone": True}, "random weights.*freeze_backbone=True"),
        (
            {"losses": {"frcnn_class_use_binary_cross_entropy": True}},
            "cross_entropy=True, .*use_sigmoid_probability=False",
        ),
        (
            {
                "model": {
                    "detection_generator": {"use_sigmoid_probability": True}
                }
            },
            "cross_entropy=False, .*use_sigmoid_probability=True",
        ),
        (
            {
                "model": {
                    "roi_generator": {"num_proposals": 4},
                    "roi_sampler": {"num_sampled_rois": 15},
                }
            },
            "at most .*num_sampled_rois=15, num_proposals=4, max_num_inst.*=10",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(task, message):
    params = small.parameters(task=task)
    with pytest.raises(ValueError, match=message):
        check_config.options(params)


def test_a_loss_of_sigmoids_may_be_chosen():
    params = small.parameters()
    params.task.losses.frcnn_class_use_binary_cross_entropy = True
    params.task.model.detection_generator.use_sigmoid_probability = True
    check_config.options(params)
