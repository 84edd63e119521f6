"""The smallest detector and data set that still have every part."""

from detection import task
from evonorm_tf.training import config

_HEAD = {"num_filters": 16, "num_convs": 1}
_MODEL = {
    "input_size": [64, 64, 3],
    "max_level": 4,
    "width": 0.25,
    "fpn_filters": 16,
    "rpn_head": _HEAD,
    "detection_head": _HEAD | {"fc_dims": 32},
    "mask_head": _HEAD,
    "roi_generator": {"num_proposals": 16, "test_num_proposals": 16},
    "roi_sampler": {"num_sampled_rois": 8},
    "mask_sampler": {"num_sampled_masks": 2},
}


def parameters(norm_act="evonorm_s0", model=None, **changes):
    """Four scenes of 64 pixels for training, five for validation."""
    data = {"global_batch_size": 2, "shuffle_buffer_size": 4}
    everything = {
        "task": {
            "model": _MODEL | (model or {}),
            "scenes": {"train": 4, "validation": 5, "size": 64},
            "train_data": data,
            "validation_data": data,
        },
        "trainer": {
            "train_steps": 2,
            "steps_per_loop": 1,
            "checkpoint_interval": 1,
            "validation_interval": 2,
        },
    }
    params = config.parse(
        "scenes_maskrcnn", norm_act=norm_act, params_override=everything
    )
    config.override(params, changes)
    return params


def prepared(directory, norm_act="evonorm_s0", **changes):
    """The task of `parameters`, its scenes in `directory`."""
    return task.prepare(parameters(norm_act, **changes), str(directory))
