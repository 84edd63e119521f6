"""Detection experiments by name."""

from official.modeling import optimization

from detection.scenes import Scenes
from detection.settings import Model, Task
from training import config, driver


def _optimizer(
    kind: dict, schedule: dict, warmup: int
) -> optimization.OptimizationConfig:
    """Returns an optimizer and a schedule with linear warm-up from 0."""
    linear = {"warmup_steps": warmup, "warmup_learning_rate": 0.0}
    return optimization.OptimizationConfig(
        {
            "optimizer": kind,
            "learning_rate": schedule,
            "warmup": {"type": "linear", "linear": linear},
        }
    )


@config.register("coco_maskrcnn")
def coco_maskrcnn() -> config.Experiment:
    """R-50-FPN from scratch on COCO: 135k steps of 64 images at 1024 px.

    The recipe of Table 4, arXiv:2004.02967.
    """
    task = Task()
    task.losses.l2_weight_decay = 1e-4
    task.train_data.global_batch_size = 64
    task.validation_data.global_batch_size = 8
    parser = task.train_data.parser
    parser.aug_rand_hflip = True
    parser.aug_scale_min, parser.aug_scale_max = 0.8, 1.25
    steps = {"boundaries": [120_000, 125_000], "values": [0.1, 0.01, 0.001]}
    return driver.experiment(
        task,
        train_steps=135_000,
        steps_per_loop=500,
        summary_interval=500,
        checkpoint_interval=1000,
        validation_interval=15_000,
        validation_steps=-1,
        optimizer_config=_optimizer(
            {"type": "sgd", "sgd": {"momentum": 0.9}},
            {"type": "stepwise", "stepwise": steps},
            warmup=500,
        ),
    )


@config.register("scenes_maskrcnn")
def scenes_maskrcnn() -> config.Experiment:
    """A small Mask R-CNN on scenes of scikit-learn's digits: CPU minutes."""
    task = Task(scenes=Scenes(train=512, validation=48))
    small_model(task.model)
    task.losses.l2_weight_decay = 1e-4
    task.train_data.global_batch_size = 8
    task.validation_data.global_batch_size = 8
    for data in (task.train_data, task.validation_data):
        data.parser.max_num_instances = 10
        data.parser.mask_crop_size = 56
    steps = 600
    cosine = {"initial_learning_rate": 1e-3, "decay_steps": steps}
    return driver.experiment(
        task,
        train_steps=steps,
        steps_per_loop=25,
        summary_interval=25,
        checkpoint_interval=100,
        validation_interval=steps,
        validation_steps=-1,
        optimizer_config=_optimizer(
            {"type": "adam", "adam": {}},
            {"type": "cosine", "cosine": cosine},
            warmup=25,
        ),
    )


def small_model(model: Model) -> None:
    """Makes a model small enough for the digit scenes, in place."""
    model.num_classes = 11
    model.max_level = 5
    model.network = "resnet18"
    model.width = 0.5
    model.max_depth = 1
    model.norm_act.groups = 8
    small_parts(model)


def small_parts(model: Model) -> None:
    """Shrinks all but the backbone, in place: 128 px, narrow, few boxes."""
    model.input_size = [128, 128, 3]
    model.fpn_filters = 64
    for head in (model.rpn_head, model.detection_head, model.mask_head):
        head.num_filters = 64
    model.detection_head.num_convs = 2
    model.detection_head.fc_dims = 256
    model.mask_head.num_convs = 2
    generator = model.roi_generator
    generator.pre_nms_top_k = generator.test_pre_nms_top_k = 256
    generator.num_proposals = generator.test_num_proposals = 64
    model.roi_sampler.num_sampled_rois = 32
    model.mask_sampler.num_sampled_masks = 8
    model.detection_generator.pre_nms_top_k = 256
    model.detection_generator.max_num_detections = 20
