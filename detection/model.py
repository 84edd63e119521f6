"""Mask R-CNN (arXiv:1703.06870) with one `norm_act` everywhere.

The backbone is a ResNet with a feature pyramid, or a SpineNet, which includes
its own. The model is built on the Model Garden's MaskRCNNModel: backbone,
pyramid and heads are ours, and the parts without normalization (anchors,
proposals, sampling, ROIAlign, detections) are the Model Garden's.

Each head lets its parent in the Model Garden create the convolutions and then
replaces BatchNormalization by a layer of `norm_act`, which includes the
activation, so that the parent's activation becomes linear. Fully connected box
features are [N, ROIs, C]. EvoNorms need a spatial map for their statistics, and
group statistics would mix the ROIs of an image. These features have a ReLU and
no normalization, with every layer. (The Model Garden has BatchNorm there.)
"""

from collections.abc import Callable
from typing import Any

import tf_keras
from official.vision.configs import maskrcnn
from official.vision.modeling import maskrcnn_model
from official.vision.modeling.heads import (
    dense_prediction_heads,
    instance_heads,
)
from official.vision.modeling.layers import (
    detection_generator,
    mask_sampler,
    roi_aligner,
    roi_generator,
)

from detection import pyramid, sampling, settings
from evonorm_tf import legacy
from evonorm_tf.errors import did_you_mean
from evonorm_tf.nets import spinenet

NormActFn = Callable[..., Any]
_NMS = ("v1", "v2", "batched")


class _Head:
    """Precedes a head of the Model Garden in the bases of ours."""

    def __init__(self, norm_act: NormActFn, **settings: Any):
        """Takes `norm_act`, and the arguments of the parent.

        Args:
          norm_act: creates one normalization-activation layer per call.
          **settings: the parent's; an unknown one raises TypeError.
        """
        super().__init__(activation="linear", **settings)
        self._norm_act = norm_act


class RPNHead(_Head, dense_prediction_heads.RPNHead):
    """Region proposals: shared convolutions, norms for each level."""

    def build(self, input_shape: Any) -> None:
        """Creates convolutions and layers."""
        super().build(input_shape)
        self._norms = [
            [self._norm_act() for _ in level] for level in self._norms
        ]


class DetectionHead(_Head, instance_heads.DetectionHead):
    """Classes and boxes of ROIs [N, ROIs, H, W, C]; statistics per ROI."""

    def build(self, input_shape: Any) -> None:
        """Creates convolutions, dense layers and what follows them."""
        super().build(input_shape)
        self._conv_norms = [self._norm_act() for _ in self._convs]
        self._fc_norms = [tf_keras.layers.ReLU() for _ in self._fcs]


class MaskHead(_Head, instance_heads.MaskHead):
    """Masks of ROIs [N, ROIs, H, W, C]; statistics per ROI."""

    def build(self, input_shape: Any) -> None:
        """Creates convolutions, the transposed one and their layers."""
        super().build(input_shape)
        self._conv_norms = [self._norm_act() for _ in self._convs]
        self._deconv_bn = self._norm_act()


def build(params: settings.Model) -> maskrcnn_model.MaskRCNNModel:
    """Builds the model with all weights.

    Args:
      params: the model's settings.

    Raises:
      ValueError: if a network, size or option is invalid, or if Keras is
        configured for channels first.
    """
    _check_layout()
    _check(params)
    norm_act = params.norm_act.bind(legacy)
    levels = range(params.min_level, params.max_level + 1)
    size = pyramid.scaled(params.network, params.width, params.max_depth)
    backbone = pyramid.backbone(params.input_size, norm_act, size, levels)
    decoder = None  # A SpineNet's outputs are already a pyramid.
    if not isinstance(size, spinenet.Size):
        shapes = {level: x.shape for level, x in backbone.output.items()}
        decoder = pyramid.fpn(shapes, norm_act, params.fpn_filters, levels)
    model = maskrcnn_model.MaskRCNNModel(
        backbone=backbone,
        decoder=decoder,
        class_agnostic_bbox_pred=params.detection_head.class_agnostic_bbox_pred,
        min_level=params.min_level,
        max_level=params.max_level,
        outer_boxes_scale=params.outer_boxes_scale,
        **params.anchor.as_dict(),
        **_box_parts(params, norm_act),
        **_mask_parts(params, norm_act),
    )
    _make_weights(model, params)
    return model


def _make_weights(model: tf_keras.Model, params: settings.Model) -> None:
    """Calls the heads on symbolic features, which creates their weights.

    Calling the whole model would trace non-maximum suppression once per class,
    which takes half a minute for COCO.
    """
    layers = tf_keras.layers
    features = (model.decoder or model.backbone).output
    model.rpn_head(features)
    filters = features[str(params.min_level)].shape[-1]
    side = params.roi_aligner.crop_size
    model.detection_head[0](layers.Input([1, side, side, filters]))
    if model.mask_head is not None:
        side = params.mask_roi_aligner.crop_size
        boxes = layers.Input([1, side, side, filters])
        model.mask_head([boxes, layers.Input([1], dtype="int32")])


def _box_parts(params: settings.Model, norm_act: NormActFn) -> dict:
    """Returns the parts that detect boxes, by argument name."""
    # `_check` ensures that neither has a value.
    head = params.detection_head.as_dict()
    del head["cascade_class_ensemble"]
    sampler = params.roi_sampler.as_dict()
    del sampler["cascade_iou_thresholds"]
    return {
        "rpn_head": RPNHead(
            norm_act,
            min_level=params.min_level,
            max_level=params.max_level,
            num_anchors_per_location=len(params.anchor.aspect_ratios)
            * params.anchor.num_scales,
            **params.rpn_head.as_dict(),
        ),
        "detection_head": DetectionHead(
            norm_act, num_classes=params.num_classes, **head
        ),
        "roi_generator": roi_generator.MultilevelROIGenerator(
            **params.roi_generator.as_dict()
        ),
        "roi_sampler": sampling.ROISampler(**sampler),
        "roi_aligner": roi_aligner.MultilevelROIAligner(
            **params.roi_aligner.as_dict()
        ),
        "detection_generator": detection_generator.DetectionGenerator(
            **params.detection_generator.as_dict()
        ),
    }


def _mask_parts(params: settings.Model, norm_act: NormActFn) -> dict:
    """Returns the parts that predict masks; {} for a Faster R-CNN."""
    if not params.include_mask:
        return {}
    aligner, head = params.mask_roi_aligner, params.mask_head
    return {
        "mask_head": MaskHead(
            norm_act, num_classes=params.num_classes, **head.as_dict()
        ),
        "mask_sampler": mask_sampler.MaskSampler(
            mask_target_size=aligner.crop_size * head.upsample_factor,
            num_sampled_masks=params.mask_sampler.num_sampled_masks,
        ),
        "mask_roi_aligner": roi_aligner.MultilevelROIAligner(
            **aligner.as_dict()
        ),
    }


def _check_layout() -> None:
    """Rejects channels first, which the Model Garden's heads would follow."""
    layout = tf_keras.backend.image_data_format()
    if layout != "channels_last":
        raise ValueError(
            "Mask R-CNN is built for images [N, H, W, C]. Set "
            "image_data_format to 'channels_last' in keras.json, or call "
            "tf_keras.backend.set_image_data_format('channels_last') first. "
            f"Received: image_data_format={layout!r}"
        )


def _check(params: settings.Model) -> None:
    if params.network not in pyramid.SIZES:
        hint = did_you_mean(params.network, pyramid.SIZES)
        raise ValueError(
            f"Unknown network. {hint}Received: network={params.network!r}"
        )
    coarsest = 2**params.max_level
    if any(side % coarsest for side in params.input_size[:2]):
        raise ValueError(
            f"The sides of input_size must be multiples of {coarsest}, the "
            "stride of max_level. Received: "
            f"input_size={list(params.input_size)}"
        )
    thresholds = params.roi_sampler.cascade_iou_thresholds
    ensemble = params.detection_head.cascade_class_ensemble
    if thresholds or ensemble:
        raise ValueError(
            "Cascade heads are not supported; do not set "
            "roi_sampler.cascade_iou_thresholds and "
            "detection_head.cascade_class_ensemble. Received: "
            f"cascade_iou_thresholds={thresholds}, "
            f"cascade_class_ensemble={ensemble}"
        )
    _check_suppression(params.detection_generator)


def _check_suppression(generator: maskrcnn.DetectionGenerator) -> None:
    """Rejects what would fail at the first evaluation, or have no effect."""
    version, sigma = generator.nms_version, generator.soft_nms_sigma
    if version not in _NMS or not generator.apply_nms:
        raise ValueError(
            "An evaluation needs detection_generator.apply_nms on and "
            f"nms_version one of {_NMS}. Received: "
            f"apply_nms={generator.apply_nms}, nms_version={version!r}"
        )
    if sigma is not None and version != "v1":
        raise ValueError(
            "detection_generator.soft_nms_sigma requires nms_version=v1; "
            "set both or neither. Received: "
            f"soft_nms_sigma={sigma}, nms_version={version!r}"
        )


def norm_sites(model: tf_keras.Model) -> list[legacy.NormAct]:
    """Returns all NormAct layers of a model."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, legacy.NormAct)
    ]


def decayed_weights(model: tf_keras.Model) -> list:
    """Returns the weights to which weight decay applies: kernels.

    Not those of NormAct layers (section 6 of the paper's recipe), found by
    layer, and not biases, as in the Model Garden.
    """
    owned = {id(w) for layer in norm_sites(model) for w in layer.weights}
    return [
        weight
        for weight in model.trainable_weights
        if id(weight) not in owned and len(weight.shape) > 1
    ]
