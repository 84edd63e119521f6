"""The Model Garden's three Mask R-CNN heads with our layers.

Each subclass lets its parent create the convolutions and then replaces
BatchNormalization by a layer of `norm_act`, which includes the activation, so
that the parent's activation becomes linear.

Fully connected box features are [N, ROIs, C]. EvoNorms need a spatial map for
their statistics, and group statistics would mix the ROIs of an image. These
features have a ReLU and no normalization, with every layer. (The Model Garden
has BatchNorm there.)
"""

from collections.abc import Callable
from typing import Any

import tf_keras
from official.vision.modeling.heads import (
    dense_prediction_heads,
    instance_heads,
)


class _Head:
    """Precedes a head of the Model Garden in the bases of ours."""

    def __init__(self, norm_act: Callable[..., Any], **settings: Any):
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
