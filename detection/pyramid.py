"""Backbone and feature pyramid: images to {level: features}.

Level l has stride 2^l. Both are functional tf_keras models whose inputs and
outputs are what `MaskRCNNModel` hands from one to the other.
"""

import math
from collections.abc import Callable
from typing import Any

import tf_keras

from evonorm_tf.nets import resnet

Features = dict[str, Any]


def stage_levels(size: resnet.Size) -> list[int]:
    """The level of each stage's output."""
    stride, levels = 4 if size.stem == "imagenet" else 1, []
    for step in size.strides:
        stride *= step
        levels.append(int(math.log2(stride)))
    return levels


def backbone(
    input_size: list[int],
    norm_act: Callable[..., Any],
    size: resnet.Size,
    levels: range,
) -> tf_keras.Model:
    """A ResNet without its classifier: [N, H, W, 3] to {level: features}.

    It is pre-activation, so a stage's output has no norm_act after it. Each
    that goes to the pyramid gets one, for the pyramid's first convolutions
    are to see what every other convolution sees.

    Args:
      input_size: [H, W, 3].
      norm_act: makes one normalization-activation layer a call.
      size: which ResNet.
      levels: of the pyramid; the stages outside it are left out.

    Raises:
      ValueError: the ResNet has no stage at the finest level.
    """
    images = tf_keras.layers.Input(input_size)
    outputs = resnet.stages(images, tf_keras.layers, norm_act, size)
    found = {
        str(level): output
        for level, output in zip(stage_levels(size), outputs)
        if level in levels
    }
    if str(levels[0]) not in found:
        raise ValueError(
            "The backbone has no stage at min_level; expected one of "
            f"{stage_levels(size)}. Received: min_level={levels[0]}"
        )
    features = {level: norm_act()(x) for level, x in found.items()}
    return tf_keras.Model(images, features, name="backbone")


def fpn(
    backbone_model: tf_keras.Model,
    norm_act: Callable[..., Any],
    filters: int,
    levels: range,
) -> tf_keras.Model:
    """A feature pyramid, arXiv:1612.03144, as in the Model Garden.

    Every output carries a norm_act without activation: for EvoNorms a plain
    affine. Levels above the backbone's are made by convolutions of stride 2;
    from the second on, one sees the norm_act of the level before (where the
    Model Garden has a bare ReLU; levels 2 to 6 have none of these).

    Args:
      backbone_model: whose outputs the pyramid reads.
      norm_act: makes one normalization-activation layer a call.
      filters: channels of every level.
      levels: to make.
    """
    layers = tf_keras.layers
    inputs = {
        level: layers.Input(output.shape[1:])
        for level, output in backbone_model.output.items()
    }
    top = max(int(level) for level in inputs)
    features: Features = {}
    above = None
    for level in range(top, levels[0] - 1, -1):
        merged = layers.Conv2D(
            filters, 1, padding="same", name=f"lateral_{level}"
        )(inputs[str(level)])
        if above is not None:
            up = layers.UpSampling2D(2, interpolation="nearest")(above)
            merged = layers.Add()([up, merged])
        above = merged
        features[str(level)] = _conv3(filters, 1, f"post_hoc_{level}")(merged)
    for level in range(top + 1, levels[-1] + 1):
        x = features[str(level - 1)]
        if level > top + 1:
            x = norm_act()(x)
        features[str(level)] = _conv3(filters, 2, f"coarser_{level}")(x)
    outputs = {
        level: norm_act(activation=False, name=f"norm_{level}")(x)
        for level, x in features.items()
    }
    return tf_keras.Model(inputs, outputs, name="fpn")


def _conv3(filters: int, stride: int, name: str) -> tf_keras.layers.Layer:
    return tf_keras.layers.Conv2D(
        filters, 3, strides=stride, padding="same", name=name
    )
