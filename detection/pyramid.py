"""Backbones and the feature pyramid: images to {level: features}.

Level l has stride 2^l. All are functional tf_keras models with the inputs and
outputs that `MaskRCNNModel` passes between them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tf_keras

from evonorm_tf.nets import parts, resnet, spinenet

Features = dict[str, Any]
Size = resnet.Size | spinenet.Size
SIZES: dict[str, Size] = resnet.SIZES | spinenet.SIZES


def scaled(name: str, width: float = 1.0, max_depth: int = 0) -> Size:
    """Returns a network's shape at another size.

    Args:
      name: a key of `SIZES`.
      width: multiplier of the channels, above 0.
      max_depth: maximum number of blocks per stage or node; 0 for all.
    """
    size = SIZES[name]
    family = spinenet if isinstance(size, spinenet.Size) else resnet
    return family.scaled(size, width, max_depth)


def stage_levels(size: resnet.Size) -> list[int]:
    """Returns the level of each stage's output."""
    stride, levels = 4 if size.stem == "imagenet" else 1, []
    for step in size.strides:
        stride *= step
        levels.append(int(math.log2(stride)))
    return levels


def backbone(
    input_size: Iterable[int],
    norm_act: Callable[..., Any],
    size: Size,
    levels: range,
) -> tf_keras.Model:
    """Builds a network without a classifier, to {level: features}.

    A stage of a pre-activation ResNet ends without a norm_act. Each output that
    the pyramid uses gets one, so that the pyramid's first convolutions have the
    same kind of input as all others.

    Args:
      input_size: [H, W, 3].
      norm_act: creates one normalization-activation layer per call.
      size: the shape of the network.
      levels: of the pyramid; a ResNet's stages outside it are not returned.

    Raises:
      ValueError: if the network does not have a level or cannot halve images
        of this size.
    """
    images = tf_keras.layers.Input(input_size)
    if isinstance(size, spinenet.Size):
        features = spinenet.spinenet(
            images, tf_keras.layers, norm_act, size, levels
        )
        return tf_keras.Model(images, features, name="backbone")
    outputs = resnet.stages(images, tf_keras.layers, norm_act, size)
    features = {
        str(level): output
        for level, output in zip(stage_levels(size), outputs)
        if level in levels
    }
    if str(levels[0]) not in features:
        raise ValueError(
            "The backbone has no stage at min_level; expected one of "
            f"{stage_levels(size)}. Received: min_level={levels[0]}"
        )
    if size.preactivation:
        features = {level: norm_act()(x) for level, x in features.items()}
    return tf_keras.Model(images, features, name="backbone")


def fpn(
    shapes: Mapping[str, Any],
    norm_act: Callable[..., Any],
    filters: int,
    levels: range,
) -> tf_keras.Model:
    """Builds a feature pyramid, arXiv:1612.03144, as in the Model Garden.

    Every output has a norm_act without activation, for EvoNorms a plain affine.
    Levels above the backbone's are convolutions of stride 2; from the second
    on, their input is the norm_act of the previous level (where the Model
    Garden has only a ReLU; levels 2 to 6 have none of these).

    Args:
      shapes: of the backbone's outputs, {level: [N, H, W, C]}.
      norm_act: creates one normalization-activation layer per call.
      filters: channels of every level.
      levels: to build.
    """
    layers = tf_keras.layers
    inputs = {
        level: layers.Input(tuple(shape)[1:]) for level, shape in shapes.items()
    }
    top = min(max(int(level) for level in inputs), levels[-1])
    features: Features = {}
    above = None
    for level in range(top, levels[0] - 1, -1):
        merged = layers.Conv2D(
            filters, 1, padding="same", name=f"lateral_{level}"
        )(inputs[str(level)])
        if above is not None:
            up = parts.upsample(layers, above, 2)
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
