"""MobileNetV2, MnasNet and EfficientNet: networks of inverted bottlenecks.

    stem 3x3 convolution, norm_act
    every block:   h = norm_act(1x1 convolution of x), more channels
                   h = norm_act(depthwise convolution of h)
                   h = squeeze-excitation of h, if the network has it
                   h = norm(1x1 convolution of h)
                   y = h + x, if the shapes agree
    head 1x1 convolution, norm_act, then global average pooling

where norm is norm_act(activation=False), for an EvoNorm a plain affine, as no
activation follows a last 1x1 convolution (Section 4.1, arXiv:2004.02967). A
block with expansion 1 has no first convolution.

"MobileNetV2", arXiv:1801.04381; "MnasNet", arXiv:1807.11626; "EfficientNet",
arXiv:1905.11946.
"""

import dataclasses
import math
from types import ModuleType
from typing import Any

from evonorm_tf.nets.parts import (
    LAYOUT,
    NormAct,
    channels,
    check_scale,
    conv,
    depthwise,
    drop_rate,
    residual,
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Blocks of the same shape.

    Attributes:
      repeats: number of blocks.
      kernel: side of the depthwise convolution.
      stride: of the first block.
      expansion: ratio of the channels inside a block to its input channels.
      filters: output channels of a block.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


@dataclasses.dataclass(frozen=True)
class Size:
    """The shape of a network.

    Attributes:
      stages: the blocks.
      stem_filters: channels of the stem.
      stem_stride: its stride.
      head_filters: channels of the head's convolution.
      head_scaling: how a width multiplier changes them: "none", "up" (only
        by a multiplier above 1) or "all".
      excitation: ratio of the channels inside squeeze-excitation to the
        input channels of the block; 0 for none.
      stochastic_depth: rate of stochastic depth: the fraction rate * i / n of
        the samples skips block i of n, counted from 0.
    """

    stages: tuple[Stage, ...]
    stem_filters: int = 32
    stem_stride: int = 2
    head_filters: int = 1280
    head_scaling: str = "all"
    excitation: float = 0.0
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        if self.head_scaling not in ("none", "up", "all"):
            raise ValueError(
                "head_scaling must be 'none', 'up' or 'all'. "
                f"Received: head_scaling={self.head_scaling!r}"
            )


def scaled(
    size: Size, width: float = 1.0, max_depth: int = 0, depth: float = 1.0
) -> Size:
    """Returns `size` with other numbers of channels and blocks.

    Args:
      size: the network to start from.
      width: multiplier of the channels, above 0; they stay multiples of 8.
      max_depth: maximum number of blocks per stage; 0 for all.
      depth: multiplier of the blocks per stage, rounded up.

    Raises:
      ValueError: if `width` or `max_depth` is invalid.
    """
    check_scale(width, max_depth)
    head = {"none": 1.0, "up": max(1.0, width), "all": width}

    def stage(old: Stage) -> Stage:
        repeats = math.ceil(depth * old.repeats)
        return dataclasses.replace(
            old,
            repeats=min(repeats, max_depth or repeats),
            filters=channels(old.filters, width),
        )

    return dataclasses.replace(
        size,
        stages=tuple(stage(old) for old in size.stages),
        stem_filters=channels(size.stem_filters, width),
        head_filters=channels(size.head_filters, head[size.head_scaling]),
    )


def _table(*rows: tuple[int, int, int, int, int]) -> tuple[Stage, ...]:
    return tuple(Stage(*row) for row in rows)


# Columns: repeats, kernel, stride, expansion, filters.
# Table 2, arXiv:1801.04381. Its Section 4.1: a multiplier below 1 does not
# shrink the last convolution; the authors' code lets one above 1 grow it.
_MOBILENET_V2 = Size(
    _table(
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (3, 3, 2, 6, 32),
        (4, 3, 2, 6, 64),
        (3, 3, 1, 6, 96),
        (3, 3, 2, 6, 160),
        (1, 3, 1, 6, 320),
    ),
    head_scaling="up",
)
# Figure 7, arXiv:1807.11626, the search without squeeze-excitation (B1).
_MNASNET_B1 = Size(
    _table(
        (1, 3, 1, 1, 16),
        (3, 3, 2, 3, 24),
        (3, 5, 2, 3, 40),
        (3, 5, 2, 6, 80),
        (2, 3, 1, 6, 96),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ),
    head_scaling="none",
)
# Table 1, arXiv:1905.11946.
_EFFICIENTNET_B0 = Size(
    _table(
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ),
    excitation=0.25,
    stochastic_depth=0.2,
)


def _for_cifar(size: Size) -> Size:
    """Sets the strides of the stem and the first down-sampling stage to 1."""
    first = next(i for i, s in enumerate(size.stages) if s.stride == 2)
    stages = list(size.stages)
    stages[first] = dataclasses.replace(stages[first], stride=1)
    return dataclasses.replace(size, stages=tuple(stages), stem_stride=1)


SIZES: dict[str, Size] = {
    "mobilenet_v2": _MOBILENET_V2,
    "mnasnet_b1": _MNASNET_B1,
    # Width and depth multipliers of the authors' code.
    "efficientnet_b0": _EFFICIENTNET_B0,
    "efficientnet_b1": scaled(_EFFICIENTNET_B0, 1.0, depth=1.1),
    "efficientnet_b2": scaled(_EFFICIENTNET_B0, 1.1, depth=1.2),
    "efficientnet_b3": scaled(_EFFICIENTNET_B0, 1.2, depth=1.4),
    "efficientnet_b4": scaled(_EFFICIENTNET_B0, 1.4, depth=1.8),
    "efficientnet_b5": scaled(_EFFICIENTNET_B0, 1.6, depth=2.2),
    # TensorFlow's EfficientNet-Lite0, without its ReLU6.
    "efficientnet_lite0": dataclasses.replace(_EFFICIENTNET_B0, excitation=0.0),
    "mobilenet_v2_cifar": _for_cifar(_MOBILENET_V2),
    "efficientnet_b0_cifar": _for_cifar(_EFFICIENTNET_B0),
}


def _excite(x: Any, layers: ModuleType, squeezed: int) -> Any:
    """Squeeze-excitation, arXiv:1709.01507, with EfficientNet's swish."""
    pool = layers.GlobalAveragePooling2D(data_format=LAYOUT, keepdims=True)
    scale = pool(x)
    scale = conv(layers, squeezed, 1, use_bias=True)(scale)
    scale = layers.Activation("swish")(scale)
    scale = conv(layers, x.shape[-1], 1, use_bias=True)(scale)
    scale = layers.Activation("sigmoid")(scale)
    return layers.Multiply()([x, scale])


def _block(
    x: Any,
    layers: ModuleType,
    norm_act: NormAct,
    stage: Stage,
    excitation: float,
    rate: float,
) -> Any:
    """One inverted bottleneck: [N, H, W, C] to [N, H/s, W/s, filters]."""
    entering, h = x.shape[-1], x
    if stage.expansion != 1:
        h = conv(layers, entering * stage.expansion, 1)(h)
        h = norm_act()(h)
    h = depthwise(layers, stage.kernel, stage.stride)(h)
    h = norm_act()(h)
    if excitation:
        h = _excite(h, layers, max(1, int(entering * excitation)))
    h = conv(layers, stage.filters, 1)(h)
    h = norm_act(activation=False)(h)
    if stage.stride == 1 and entering == stage.filters:
        h = residual(layers, h, x, rate)
    return h


def mobile(
    inputs: Any, layers: ModuleType, norm_act: NormAct, size: Size
) -> Any:
    """Builds a backbone, up to the features that a classifier pools.

    Args:
      inputs: images [N, H, W, C], a symbolic or eager tensor.
      layers: the Keras layers module to build with.
      norm_act: creates one normalization-activation layer per call.
      size: the shape of the network.

    Returns:
      Features [N, H', W', C'], after the head's convolution and norm_act.
    """
    x = conv(layers, size.stem_filters, 3, size.stem_stride)(inputs)
    x = norm_act()(x)
    built, blocks = 0, sum(stage.repeats for stage in size.stages)
    for stage in size.stages:
        for index in range(stage.repeats):
            stride = stage.stride if index == 0 else 1
            shape = dataclasses.replace(stage, stride=stride)
            rate = drop_rate(size.stochastic_depth, built, blocks)
            x = _block(x, layers, norm_act, shape, size.excitation, rate)
            built += 1
    return norm_act()(conv(layers, size.head_filters, 1)(x))


def sites(size: Size) -> int:
    """Returns the number of norm_act layers, including plain affines."""
    inside = (s.repeats * (2 + (s.expansion != 1)) for s in size.stages)
    return 2 + sum(inside)
