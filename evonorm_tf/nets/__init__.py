"""Backbones as functions: `f(inputs, layers, norm_act, size)`.

`layers` is a Keras layers module (`keras.layers` or `tf_keras.layers`), and
`norm_act` creates one normalization-activation layer per call. The package
imports neither Keras nor any part of `evonorm_tf` except `errors`, so the same
code works with both Kerases and any normalization.

    features = nets.backbone("mobilenet_v2", images, layers, norm_act)
    logits = nets.classifier(features, layers, 1000, dropout=0.2)
"""

import dataclasses
from types import ModuleType
from typing import Any

from evonorm_tf.errors import did_you_mean
from evonorm_tf.nets import mobile, parts, resnet
from evonorm_tf.nets.parts import LAYOUT, NormAct

Size = resnet.Size | mobile.Size


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its default training settings.

    Attributes:
      size: its shape.
      image_size: side of the images in pixels.
      dropout: rate before the classifier.
    """

    size: Size
    image_size: int = 224
    dropout: float = 0.0

    @property
    def stochastic_depth(self) -> float:
        """Fraction of the samples that would skip block n, of n from 0."""
        return self.size.stochastic_depth


# Image sizes and dropout from the authors' code; 0.2 also for MobileNetV2 and
# MnasNet.
_DEFAULTS: dict[str, tuple[int, float]] = {
    "mobilenet_v2": (224, 0.2),
    "mnasnet_b1": (224, 0.2),
    "efficientnet_b0": (224, 0.2),
    "efficientnet_b1": (240, 0.2),
    "efficientnet_b2": (260, 0.3),
    "efficientnet_b3": (300, 0.3),
    "efficientnet_b4": (380, 0.4),
    "efficientnet_b5": (456, 0.4),
    "efficientnet_lite0": (224, 0.2),
    "mobilenet_v2_cifar": (32, 0.2),
    "efficientnet_b0_cifar": (32, 0.2),
    **{n: (32, 0.0) for n in resnet.SIZES if n.endswith("_cifar")},
}
NETWORKS: dict[str, Network] = {
    name: Network(size, *_DEFAULTS.get(name, ()))
    for name, size in (resnet.SIZES | mobile.SIZES).items()
}


def names() -> list[str]:
    """Returns the names of all networks."""
    return list(NETWORKS)


def get(name: str) -> Network:
    """Returns the network with a name.

    Raises:
      ValueError: if the name is unknown; the message suggests similar ones.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(
            f"Unknown network. {did_you_mean(name, NETWORKS)}"
            "evonorm_tf.list_models() lists them all. "
            f"Received: name={name!r}"
        )
    return NETWORKS[name]


def scaled(
    name: str,
    width: float = 1.0,
    max_depth: int = 0,
    stochastic_depth: float | None = None,
) -> Size:
    """Returns a network's shape at another size; see `backbone`."""
    size = get(name).size
    family = resnet if isinstance(size, resnet.Size) else mobile
    size = family.scaled(size, width, max_depth)
    if stochastic_depth is None:
        return size
    rate = parts.valid_rate("stochastic_depth", stochastic_depth)
    return dataclasses.replace(size, stochastic_depth=rate)


def backbone(
    name: str,
    inputs: Any,
    layers: ModuleType,
    norm_act: NormAct,
    *,
    width: float = 1.0,
    max_depth: int = 0,
    stochastic_depth: float | None = None,
) -> Any:
    """Builds a backbone, up to the features that a classifier pools.

    Args:
      name: one of `names()`.
      inputs: images [N, H, W, C], a symbolic or eager tensor.
      layers: the Keras layers module to build with.
      norm_act: creates one normalization-activation layer per call. Where no
        activation follows, it is called as `norm_act(activation=False)`.
      width: multiplier of the channels, above 0.
      max_depth: maximum number of blocks per stage; 0 for all.
      stochastic_depth: rate of stochastic depth, with which the fraction
        rate * i / n of the samples skips block i of n, counted from 0, in
        training; None for the network's default, 0 for none.

    Returns:
      Features [N, H', W', C'].

    Raises:
      ValueError: if the name is unknown or a size is invalid.
    """
    size = scaled(name, width, max_depth, stochastic_depth)
    return build(size, inputs, layers, norm_act)


def build(
    size: Size, inputs: Any, layers: ModuleType, norm_act: NormAct
) -> Any:
    """Builds the backbone with a shape; see `backbone`."""
    if isinstance(size, resnet.Size):
        return resnet.resnet(inputs, layers, norm_act, size)
    return mobile.mobile(inputs, layers, norm_act, size)


def sites(size: Size) -> int:
    """Returns the number of norm_act layers of a network with this shape."""
    family = resnet if isinstance(size, resnet.Size) else mobile
    return family.sites(size)


def classifier(
    features: Any,
    layers: ModuleType,
    classes: int,
    dropout: float = 0.0,
) -> Any:
    """Applies global average pooling, dropout and a linear layer.

    Args:
      features: [N, H, W, C].
      layers: the Keras layers module to build with.
      classes: number of classes.
      dropout: rate before the linear layer; 0 for none.

    Returns:
      Logits [N, classes], in float32 even with mixed precision.

    Raises:
      ValueError: if the dropout is not in [0, 1).
    """
    dropout = parts.valid_rate("dropout", dropout)
    x = layers.GlobalAveragePooling2D(data_format=LAYOUT)(features)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return layers.Dense(
        classes,
        kernel_initializer={
            "class_name": "RandomNormal",
            "config": {"mean": 0.0, "stddev": 0.01},
        },
        # A softmax over many classes needs more than 16 bits.
        dtype="float32",
    )(x)
