"""Two processes train and evaluate a detector as two replicas of one do."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests import running
from training import runs

_CHANGES = (
    "task.model.input_size=[64,64,3],task.model.max_level=4,"
    "task.model.width=0.25,task.model.fpn_filters=16,"
    "task.model.rpn_head.num_filters=16,task.model.rpn_head.num_convs=1,"
    "task.model.detection_head.num_filters=16,"
    "task.model.detection_head.num_convs=1,task.model.detection_head.fc_dims=32,"
    "task.model.mask_head.num_filters=16,task.model.mask_head.num_convs=1,"
    "task.model.roi_generator.num_proposals=16,"
    "task.model.roi_generator.test_num_proposals=16,"
    "task.model.roi_sampler.num_sampled_rois=8,"
    "task.model.mask_sampler.num_sampled_masks=2,"
    "task.scenes.train=4,task.scenes.validation=5,task.scenes.size=64,"
    "task.train_data.global_batch_size=4,"
    "task.validation_data.global_batch_size=4,"
    "trainer.steps_per_loop=1,"
    "trainer.checkpoint_interval=1,trainer.validation_interval=2"
)


def _arguments(folder, steps=2, changes=""):
    return (
        "detection.train",
        "--experiment=scenes_maskrcnn",
        "--norm_act=evonorm_s0",
        f"--model_dir={folder}",
        f"--params_override={_CHANGES},trainer.train_steps={steps}{changes}",
    )


def _weights(folder):
    reader = tf.train.load_checkpoint(str(folder))
    names = reader.get_variable_to_shape_map()
    return {k: reader.get_tensor(k) for k in names if k.startswith("model/")}


@pytest.mark.slow
def test_two_workers(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = running.start(*_arguments(one, changes=",runtime.cpu_replicas=2"))
    running.finish(alone, seconds=500)
    # In two parts: the second resumes, on both, and evaluates.
    first = _arguments(two, 1)
    running.two_workers(*first, seconds=500)
    said = running.two_workers(*_arguments(two), seconds=500)
    assert all("Resuming from step 1 of 2" in text for text in said)
    # Float32 sums in another order.
    weights = _weights(one)
    for name, value in _weights(two).items():
        np.testing.assert_allclose(
            value, weights[name], rtol=1e-3, atol=1e-4, err_msg=name
        )
    # Each image is scored once, by whichever worker, and each has the figures.
    running.require_same_end(said, 2)
    metrics = [runs.Run(str(folder)).metrics()[-1] for folder in (one, two)]
    assert metrics[0]["kind"] == metrics[1]["kind"] == "eval"
    assert not any(key.startswith("partial_") for key in metrics[1])
    results = [
        json.loads((folder / "results.json").read_text())
        for folder in (one, two)
    ]
    images = [{entry["image_id"] for entry in found} for found in results]
    assert images[0] == images[1] == {1, 2, 3, 4, 5}
    assert sum("Picture:" in text for text in said) == 1
