"""What a detection run is made of: its config classes."""

import dataclasses
from dataclasses import field

from official.modeling import hyperparams
from official.vision.configs import maskrcnn

from detection.scenes import Scenes
from training import config


@dataclasses.dataclass
class Model(hyperparams.Config):
    """Mask R-CNN with a ResNet and a feature pyramid, or with a SpineNet.

    Sections without a description here are the Model Garden's.

    Attributes:
      num_classes: classes to tell apart, background (0) included.
      input_size: [height, width, 3], sides divisible by 2^max_level.
      min_level: finest level of the pyramid; its stride is 2^level. 2 for
        the paper's ResNets, 3 for SpineNets.
      max_level: coarsest level. 6 for ResNets, 7 for SpineNets.
      include_mask: False leaves a Faster R-CNN.
      network: a key of `detection.pyramid.SIZES`. The paper's are
        "resnet50_postact" and "resnet101_postact": their parameters are
        those of its Table 4, the pre-activation ones' are not.
      width: width multiplier of the network.
      max_depth: at most so many blocks a stage or node; 0 keeps them all.
      fpn_filters: channels of a ResNet's pyramid. A SpineNet has its own.
      norm_act: the layer of backbone, pyramid and heads alike.
    """

    num_classes: int = 91
    input_size: list[int] = field(default_factory=lambda: [1024, 1024, 3])
    min_level: int = 2
    max_level: int = 6
    include_mask: bool = True
    outer_boxes_scale: float = 1.0
    network: str = "resnet50_postact"
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
      num_objects: of an evaluation, how many are annotated, crowds included.
        Where a recipe names it, a run puts in what it finds, so that another
        set of as many images is not taken for the recipe's. 0: not counted.
    """

    dtype: str = "float32"
    num_objects: int = 0


@dataclasses.dataclass
class Task(maskrcnn.MaskRCNNTask):
    """A detection task.

    Attributes:
      scenes: the embedded data set, made where `input_path` is empty.
      seed: of the weights' initial values.
      init_recipe: of `configs.tables`, what the classifier that
        `init_checkpoint` names was trained by. Where a recipe names one, a
        run puts in what it finds. Empty: not looked at.
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
    init_recipe: str = ""
    rpn_score_normalizer: str = "rpn_batch_size"
