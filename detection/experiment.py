"""What a detection run is: config classes and named experiments."""

import dataclasses
from dataclasses import field

from official.modeling import hyperparams, optimization
from official.vision.configs import maskrcnn

from detection.scenes import Scenes
from evonorm_tf.training import config, driver, strategy


@dataclasses.dataclass
class Model(hyperparams.Config):
    """Mask R-CNN with a ResNet and a feature pyramid.

    Sections without a description here are the Model Garden's.

    Attributes:
      num_classes: classes to tell apart, background (0) included.
      input_size: [height, width, 3], sides divisible by 2^max_level.
      min_level: finest level of the pyramid; its stride is 2^level.
      max_level: coarsest level.
      include_mask: False leaves a Faster R-CNN.
      network: a key of `evonorm_tf.nets.resnet.SIZES`.
      width: width multiplier of the network.
      max_depth: at most so many blocks a stage; 0 keeps them all.
      fpn_filters: channels of the pyramid.
      norm_act: the layer of backbone, pyramid and heads alike.
    """

    num_classes: int = 91
    input_size: list[int] = field(default_factory=lambda: [1024, 1024, 3])
    min_level: int = 2
    max_level: int = 6
    include_mask: bool = True
    outer_boxes_scale: float = 1.0
    network: str = "resnet50"
    width: float = 1.0
    max_depth: int = 0
    fpn_filters: int = 256
    norm_act: config.NormAct = field(default_factory=config.NormAct)
    anchor: maskrcnn.Anchor = field(default_factory=maskrcnn.Anchor)
    rpn_head: maskrcnn.RPNHead = field(default_factory=maskrcnn.RPNHead)
    # Four convolutions and one dense layer, the recipe's head.
    detection_head: maskrcnn.DetectionHead = field(
        default_factory=maskrcnn.DetectionHead
    )
    mask_head: maskrcnn.MaskHead = field(default_factory=maskrcnn.MaskHead)
    roi_generator: maskrcnn.ROIGenerator = field(
        default_factory=maskrcnn.ROIGenerator
    )
    roi_sampler: maskrcnn.ROISampler = field(
        default_factory=maskrcnn.ROISampler
    )
    roi_aligner: maskrcnn.ROIAligner = field(
        default_factory=maskrcnn.ROIAligner
    )
    mask_sampler: maskrcnn.MaskSampler = field(
        default_factory=maskrcnn.MaskSampler
    )
    mask_roi_aligner: maskrcnn.MaskROIAligner = field(
        default_factory=maskrcnn.MaskROIAligner
    )
    detection_generator: maskrcnn.DetectionGenerator = field(
        default_factory=maskrcnn.DetectionGenerator
    )


@dataclasses.dataclass
class Data(maskrcnn.DataConfig):
    """A set of TFRecords, as the Model Garden reads them.

    Attributes:
      dtype: of the images. (The Model Garden's default is bfloat16 whatever
        the precision of the run.)
    """

    dtype: str = "float32"


@dataclasses.dataclass
class Task(maskrcnn.MaskRCNNTask):
    """A detection task.

    Attributes:
      scenes: the embedded data set, made where `input_path` is empty.
      seed: of the weights' initial values.
      rpn_score_normalizer: what the RPN score loss is divided by.
        "rpn_batch_size": the anchors sampled an image, as the loss's own
        definition has it. "model_garden": the sampled ROIs, as its code has
        it; at its settings half the weight. For parity alone.
    """

    model: Model = field(default_factory=Model)
    train_data: Data = field(default_factory=lambda: Data(is_training=True))
    validation_data: Data = field(
        default_factory=lambda: Data(drop_remainder=False)
    )
    scenes: Scenes = field(default_factory=Scenes)
    seed: int = 0
    rpn_score_normalizer: str = "rpn_batch_size"


def _optimizer(
    kind: dict, schedule: dict, warmup: int
) -> optimization.OptimizationConfig:
    """An optimizer and a schedule, after a linear warm-up from 0."""
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
    steps = {
        "boundaries": [120_000, 125_000],
        "values": [0.1, 0.01, 0.001],
    }
    trainer = driver.trainer_config(
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
    return config.Experiment(
        task=task, trainer=trainer, runtime=strategy.Runtime()
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
    trainer = driver.trainer_config(
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
    return config.Experiment(
        task=task, trainer=trainer, runtime=strategy.Runtime()
    )


def small_model(model: Model) -> None:
    """Makes a model small enough for the digit scenes, in place."""
    model.num_classes = 11
    model.input_size = [128, 128, 3]
    model.max_level = 5
    model.network = "resnet18"
    model.width = 0.5
    model.max_depth = 1
    model.fpn_filters = 64
    model.norm_act.groups = 8
    for head in (model.rpn_head, model.detection_head, model.mask_head):
        head.num_filters = 64
    model.detection_head.num_convs = 2
    model.detection_head.fc_dims = 256
    model.mask_head.num_convs = 2
    few_boxes(model)


def few_boxes(model: Model) -> None:
    """Cuts the number of boxes that each stage works on, in place."""
    generator = model.roi_generator
    generator.pre_nms_top_k = generator.test_pre_nms_top_k = 256
    generator.num_proposals = generator.test_num_proposals = 64
    model.roi_sampler.num_sampled_rois = 32
    model.mask_sampler.num_sampled_masks = 8
    model.detection_generator.pre_nms_top_k = 256
    model.detection_generator.max_num_detections = 20
