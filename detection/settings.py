"""The config classes of a detection run."""

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
      num_classes: number of classes, including background (0).
      input_size: [height, width, 3], sides divisible by 2^max_level.
      min_level: finest level of the pyramid, with stride 2^level. 2 for the
        paper's ResNets, 3 for SpineNets.
      max_level: coarsest level. 6 for ResNets, 7 for SpineNets.
      include_mask: False for a Faster R-CNN.
      network: a key of `detection.pyramid.SIZES`. The paper's are
        "resnet50_postact" and "resnet101_postact", which have the numbers of
        parameters of its Table 4; the pre-activation ones do not.
      width: multiplier of the network's channels.
      max_depth: maximum number of blocks per stage or node; 0 for all.
      fpn_filters: channels of a ResNet's pyramid. A SpineNet has its own.
      norm_act: the layer of backbone, pyramid and heads.
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
      num_objects: for an evaluation, the number of annotated objects,
        including crowds. If a recipe sets it, a run replaces it by the actual
        number, so that another dataset with as many images is not mistaken
        for the recipe's. 0: not counted.
    """

    dtype: str = "float32"
    num_objects: int = 0


@dataclasses.dataclass
class Task(maskrcnn.MaskRCNNTask):
    """A detection task.

    Attributes:
      scenes: the embedded dataset, created and used if no data are named.
      seed: of the initial weights.
      init_recipe: the recipe, in `configs.tables`, with which the classifier
        in `init_checkpoint` was trained. If a recipe sets it, a run replaces
        it by the actual one. Empty: not checked.
      rpn_score_normalizer: divisor of the RPN score loss. "rpn_batch_size":
        the anchors sampled per image, as in the definition of the loss.
        "model_garden": the sampled ROIs, as in its code; with its settings,
        half the weight. Only for parity.
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
