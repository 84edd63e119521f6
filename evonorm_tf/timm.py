"""ResNets with EvoNorms and weights from timm.

    model = evonorm_tf.timm.load("resnetv2_50d_evos.safetensors")

timm (PyTorch Image Models) has two families of ResNets with EvoNorms. The
names in a state dict tell them apart:

    resnetv2  `stem...`, `stages.0.blocks.0...`: pre-activation, or
              post-activation with preact=False. EvoNorms are placed as in our
              networks: a plain affine where no activation follows.
    resnet    `conv1...`, `layer1.0...`: post-activation. An EvoNorm replaces a
              normalization without an activation: it is followed by a ReLU,
              and the last layers of a block and of a shortcut activate before
              the sum.

Images are [N, H, W, 3], scaled as in the original training, for
resnetv2_50d_evos to x / 127.5 - 1. The padding is symmetric, as in PyTorch,
whose kernels are [C', C, k, k]; ours are [k, k, C, C'].
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from evonorm_tf import catalog, models, nets, state_dict
from evonorm_tf.nets.resnet import Size, resnet

_plain = functools.partial(Size, padding="symmetric")
_deep = functools.partial(_plain, stem="deep", average_shortcut=True)
_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
# By timm's names; the weights determine which EvoNorm is used.
NETWORKS: dict[str, Size] = {
    "resnetv2_50": _plain(_50),
    "resnetv2_101": _plain(_101),
    "resnetv2_50d": _deep(_50),
    "resnetv2_50d_evos": _deep(_50),
    "resnetv2_101d": _deep(_101),
    "resnet18": _plain((2, 2, 2, 2), bottleneck=False, preactivation=False),
    "resnet50": _plain(_50, preactivation=False),
    "resnet101": _plain(_101, preactivation=False),
    "resnet50d": _deep(_50, preactivation=False),
    "resnet101d": _deep(_101, preactivation=False),
}
# timm's defaults; the paper uses 1e-5 for all.
_EPSILON = {"evonorm_b0": 1e-3}
_LAYERS = tuple(n for n in catalog.names() if n.startswith("evonorm_"))
# timm's names of the weights of a NormAct layer, and ours.
_NORM = {"weight": "gamma", "bias": "beta", "v": "v"}
_NORM |= {"running_var": "moving_variance"}


def load(
    weights: str | os.PathLike | Mapping[str, Any],
    network: str | Size = "resnetv2_50d_evos",
    norm_act: str | None = None,
    *,
    epsilon: float | None = None,
    image_size: int | tuple[int | None, ...] | None = None,
    legacy: bool = False,
) -> Any:
    """Builds a network and loads timm's weights.

    Args:
      weights: a state dict, as a file or a mapping of names to arrays; see
        `state_dict.read`.
      network: a name of `NETWORKS`, or the shape of another network, with
        padding="symmetric".
      norm_act: the EvoNorm of all layers; None for evonorm_b0 if the weights
        have a running variance and otherwise evonorm_s0.
      epsilon: inside every square root; None for timm's default, 1e-3 for
        evonorm_b0 and 1e-5 for the others.
      image_size: side in pixels, or (H, W) or (H, W, C); None for any height
        and width, with 3 channels.
      legacy: whether to return a tf_keras model instead of a Keras 3 model.

    Returns:
      A functional model from images [N, H, W, 3] to logits [N, classes].

    Raises:
      ValueError: if the network or layer is unknown, if the image size is
        invalid, or if a weight is missing, unknown or of the wrong shape; the
        message names it.
      ImportError: if a .safetensors file needs the missing package.
    """
    shape = models.image_shape(image_size)
    size = _size(network)
    entries = state_dict.read(weights)
    v1 = any(name.startswith("layer1.") for name in entries)
    norm_act = _layer(norm_act, entries)
    if epsilon is None:
        epsilon = _EPSILON.get(norm_act, 1e-5)
    names = (_v1_names if v1 else _v2_names)(size)
    keras, make = models._keras(legacy)
    convs: list[Any] = []
    norms: list[Any] = []

    def site(activation: bool = True) -> Callable[[Any], Any]:
        layer = make(norm_act, epsilon=epsilon, activation=activation or v1)
        norms.append(layer)
        if not (v1 and activation):
            return layer
        return lambda x: keras.layers.ReLU()(layer(x))

    images = keras.Input(shape)
    layers = state_dict.Noting(keras.layers, convs)
    features = resnet(images, layers, site, size)
    # The error for a missing classifier also names other missing weights.
    classes = len(entries.get(f"{names[0][-1]}.weight", [0]))
    model = keras.Model(images, nets.classifier(features, layers, classes))
    named = dict(zip(names[0], convs, strict=True))
    named |= zip(names[1], norms, strict=True)
    _assign(named, entries)
    return model


def _size(network: str | Size) -> Size:
    if isinstance(network, str) and network in NETWORKS:
        return NETWORKS[network]
    if not isinstance(network, Size):
        raise ValueError(
            "Unknown network; give its shape, a nets.resnet.Size. "
            f"Expected one of {list(NETWORKS)}. "
            f"Received: network={network!r}"
        )
    if network.padding != "symmetric":
        raise ValueError(
            "timm's ResNets have symmetric padding, as in PyTorch: use a size "
            f"with padding='symmetric'. Received: padding={network.padding!r}"
        )
    return network


def _layer(name: str | None, entries: Mapping[str, np.ndarray]) -> str:
    if name is None:
        batch = any(entry.endswith(".running_var") for entry in entries)
        return "evonorm_b0" if batch else "evonorm_s0"
    if name not in _LAYERS:
        raise ValueError(
            f"norm_act must be one of {_LAYERS}. Received: norm_act={name!r}"
        )
    return name


def _blocks(size: Size) -> Iterator[tuple[int, int, bool]]:
    """Yields (stage, block, whether its shortcut projects), from 0."""
    before = size.stem_filters
    for stage, (depth, filters) in enumerate(zip(size.depths, size.filters)):
        after = filters * (4 if size.bottleneck else 1)
        for block in range(depth):
            stride = size.strides[stage] if block == 0 else 1
            yield stage, block, stride != 1 or before != after
            before = after


def _v2_names(size: Size) -> tuple[list[str], list[str]]:
    """Returns timm's names of convolutions and classifier, and of norms."""
    pre, count = size.preactivation, 3 if size.bottleneck else 2
    numbers = ("1", "2", "3") if size.stem == "deep" else ("",)
    convs = [f"stem.conv{i}" for i in numbers]
    norms = [f"stem.norm{i}" for i in (numbers[:-1] if pre else numbers)]
    for stage, block, projects in _blocks(size):
        start = f"stages.{stage}.blocks.{block}."
        if projects:
            convs.append(f"{start}downsample.conv")
        if projects and not pre:
            norms.append(f"{start}downsample.norm")
        convs += [f"{start}conv{i + 1}" for i in range(count)]
        norms += [f"{start}norm{i + 1}" for i in range(count)]
    return [*convs, "head.fc"], [*norms, "norm"] if pre else norms


def _v1_names(size: Size) -> tuple[list[str], list[str]]:
    """Returns the same names for the other family; see `_v2_names`."""
    if size.preactivation:
        raise ValueError(
            "Weights with entries layer1... belong to a post-activation net. "
            "Expected a size with preactivation=False, such as 'resnet50'. "
            f"Received: {size}"
        )
    convs, norms = ["conv1"], ["bn1"]
    if size.stem == "deep":
        convs, norms = ["conv1.0", "conv1.3", "conv1.6"], ["conv1.1", "conv1.4"]
        norms.append("bn1")
    for stage, block, projects in _blocks(size):
        start = f"layer{stage + 1}.{block}."
        if projects:
            first = 1 if size.average_shortcut else 0  # After the pooling.
            convs.append(f"{start}downsample.{first}")
            norms.append(f"{start}downsample.{first + 1}")
        for index in range(1, (3 if size.bottleneck else 2) + 1):
            convs.append(f"{start}conv{index}")
            norms.append(f"{start}bn{index}")
    return [*convs, "fc"], norms


def _assign(
    layers: Mapping[str, Any], entries: Mapping[str, np.ndarray]
) -> None:
    """Assigns the values to the layers, by timm's names."""
    # timm's plain affine layers store a statistic that is never used.
    idle = {
        f"{name}.running_var"
        for name, layer in layers.items()
        if getattr(layer, "activation", None) is False
        and layer.row.kernel.statistics
    }
    norms = {
        type(layer).__name__: _NORM
        for layer in layers.values()
        if hasattr(layer, "gamma")
    }
    state_dict.assign(layers, norms, entries, idle)
