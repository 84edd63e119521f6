"""The smallest detector and data set that still have every part.

    python -m tests.detection.small MODEL_DIR

trains it for six steps, for a test that kills it.
"""

import io
import sys

import evonorm_tf
from detection import task, train
from training import config, driver, progress

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


class Silent(progress.Display):
    """Keeps what a run says."""

    def __init__(self):
        super().__init__("run", io.StringIO())
        self.lines = []

    def say(self, text):
        """Keeps a line."""
        self.lines.append(text)


def run(model_dir, params=None, mode="train", display=None):
    """A run of `parameters`, or others, with nothing compiled.

    Compilation, tested with the layers, would be half of the time.
    """
    params = params or parameters()
    with evonorm_tf.using(xla=False):
        return driver.run(
            params, train.HEAD, mode, str(model_dir), display or Silent()
        )


def six_steps():
    """Of `parameters`, with augmentation, saved after each two."""
    params = parameters(
        trainer={
            **{"train_steps": 6, "checkpoint_interval": 2},
            "validation_interval": 6,
        }
    )
    parser = params.task.train_data.parser
    parser.aug_rand_hflip = True
    parser.aug_scale_min, parser.aug_scale_max = 0.8, 1.25
    return params


if __name__ == "__main__":
    shown = Silent()
    run(sys.argv[1], six_steps(), display=shown)
    print(*shown.lines, sep="\n")
