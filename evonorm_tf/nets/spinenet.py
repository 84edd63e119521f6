"""SpineNet: a backbone whose resolution decreases and increases again.

    stem:   7x7 convolution of stride 2, norm_act, 3x3 max pooling of stride
            2, two groups of bottlenecks at level 2 (stride 4)
    every block of the table below:
            y = group of residual blocks(relu(sum of its resampled parents))
    every requested level: norm_act(1x1 convolution of its block's output)

A parent is resampled to its child's level and channels by

    h = norm_act(1x1 convolution of x)
    down: h = norm_act(3x3 convolution of stride 2 of h), then max pooling
    up:   nearest neighbours
    y = norm(1x1 convolution of h)

where norm is norm_act(activation=False). The residual blocks are the
post-activation ones of `resnet`. The ReLUs after sums do not depend on
norm_act.

"SpineNet: Learning Scale-Permuted Backbone for Recognition and
Localization", arXiv:1912.05027. It is a backbone for detection that returns
several levels, so it is not one of the classifiers of `nets.names()`.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from evonorm_tf.errors import is_number
from evonorm_tf.nets import resnet
from evonorm_tf.nets.parts import (
    NormAct,
    channels,
    check_scale,
    conv,
    max_pool,
    upsample,
)

COARSEST = 7


@dataclasses.dataclass(frozen=True)
class Block:
    """A node of the network.

    Attributes:
      level: its stride is 2^level.
      bottleneck: whether it has bottlenecks instead of two 3x3 convolutions.
      parents: two earlier nodes; 0 and 1 are the stem's groups.
      output: whether it is an endpoint, which also sums the nodes of its level
        and channels that no other node has read.
    """

    level: int
    bottleneck: bool
    parents: tuple[int, int]
    output: bool = False


# Node 2 and later ones, the same for all sizes, as in the Model Garden;
# tests/nets/test_spinenet.py compares the outputs.
BLOCKS = (
    Block(2, True, (0, 1)),
    Block(4, False, (0, 1)),
    Block(3, True, (2, 3)),
    Block(4, True, (2, 4)),
    Block(6, False, (3, 5)),
    Block(4, True, (3, 5)),
    Block(5, False, (6, 7)),
    Block(7, False, (6, 8)),
    Block(5, True, (8, 9)),
    Block(5, True, (8, 10)),
    Block(4, True, (5, 10), output=True),
    Block(3, True, (4, 10), output=True),
    Block(5, True, (7, 12), output=True),
    Block(7, True, (5, 14), output=True),
    Block(6, True, (12, 14), output=True),
    Block(2, True, (2, 13), output=True),
)
_FILTERS = {2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}
_STEM = Block(2, True, (0, 0))


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a SpineNet.

    Attributes:
      endpoint_filters: channels of every returned level.
      filter_scale: multiplier of all other channels except the stem's.
      resample_alpha: ratio of the channels inside a resampling to those of the
        parent, before a bottleneck's expansion.
      repeats: residual blocks per node.
      stochastic_depth: rate of stochastic depth: the fraction rate * i / n of
        the samples skips block i of n, counted from 0.
    """

    endpoint_filters: int = 256
    filter_scale: float = 1.0
    resample_alpha: float = 0.5
    repeats: int = 1
    stochastic_depth: float = 0.0

    def filters(self, level: int) -> int:
        """Returns the channels of a level, before a bottleneck's expansion."""
        return max(1, int(_FILTERS[level] * self.filter_scale))


# The multipliers of arXiv:1912.05027, as the Model Garden has them.
SIZES: dict[str, Size] = {
    "spinenet49s": Size(endpoint_filters=128, filter_scale=0.65),
    "spinenet49": Size(),
    "spinenet96": Size(repeats=2),
    "spinenet143": Size(resample_alpha=1.0, repeats=3),
    "spinenet190": Size(512, 1.3, resample_alpha=1.0, repeats=4),
}


def scaled(size: Size, width: float = 1.0, max_depth: int = 0) -> Size:
    """Returns `size` with its channels times `width`.

    Args:
      size: the network to start from.
      width: multiplier of the channels, above 0.
      max_depth: maximum number of residual blocks per node; 0 for all.

    Raises:
      ValueError: if `width` or `max_depth` is invalid.
    """
    check_scale(width, max_depth)
    return dataclasses.replace(
        size,
        endpoint_filters=channels(size.endpoint_filters, width),
        filter_scale=size.filter_scale * width,
        repeats=min(size.repeats, max_depth or size.repeats),
    )


@dataclasses.dataclass
class _Node:
    """A node that is built: its features, and how often they were read."""

    block: Block
    features: Any
    read: int = 0


def _group(
    x: Any,
    layers: ModuleType,
    norm_act: NormAct,
    size: Size,
    block: Block,
    rate: float = 0.0,
) -> Any:
    """Applies a node's residual blocks, at the level of `x`."""
    filters = size.filters(block.level)
    convs = resnet.convolutions(block.bottleneck, filters, 1)
    for _ in range(size.repeats):
        x = resnet.postactivation(x, layers, norm_act, convs, 1, rate)
    return x


def _resample(
    parent: _Node,
    layers: ModuleType,
    norm_act: NormAct,
    size: Size,
    block: Block,
) -> Any:
    """Resamples a node's features to the level and channels of `block`."""
    entering = parent.features.shape[-1]
    if parent.block.bottleneck:
        entering //= 4
    middle = max(1, int(entering * size.resample_alpha))
    x = norm_act()(conv(layers, middle, 1)(parent.features))
    steps = block.level - parent.block.level
    if steps > 0:
        x = norm_act()(conv(layers, middle, 3, 2)(x))
        for _ in range(steps - 1):
            x = max_pool(layers, 3, 2)(x)
    elif steps < 0:
        x = upsample(layers, x, 2**-steps)
    leaving = size.filters(block.level) * (4 if block.bottleneck else 1)
    return norm_act(activation=False)(conv(layers, leaving, 1)(x))


def _stem(
    inputs: Any, layers: ModuleType, norm_act: NormAct, size: Size
) -> list[_Node]:
    """Builds the two nodes at level 2 from which all others derive."""
    x = norm_act()(conv(layers, 64, 7, 2)(inputs))
    x = max_pool(layers, 3, 2)(x)
    nodes = []
    for _ in range(2):
        x = _group(x, layers, norm_act, size, _STEM)
        nodes.append(_Node(_STEM, x))
    return nodes


def _add_node(
    nodes: list[_Node],
    block: Block,
    layers: ModuleType,
    norm_act: NormAct,
    size: Size,
) -> None:
    """Builds `block` from its parents and appends it to `nodes`."""
    summed = []
    for index in block.parents:
        nodes[index].read += 1
        summed.append(_resample(nodes[index], layers, norm_act, size, block))
    if block.output:
        for node in nodes:
            same = node.block.level == block.level
            if not node.read and same and _width(node) == summed[0].shape[-1]:
                node.read += 1
                summed.append(node.features)
    x = layers.ReLU()(layers.Add()(summed))
    # The stem's two nodes are not counted.
    rate = size.stochastic_depth * (len(nodes) - 1) / len(BLOCKS)
    x = _group(x, layers, norm_act, size, block, rate)
    nodes.append(_Node(block, x))


def _width(node: _Node) -> int:
    return node.features.shape[-1]


def spinenet(
    inputs: Any,
    layers: ModuleType,
    norm_act: NormAct,
    size: Size,
    levels: Sequence[int] = range(3, COARSEST + 1),
) -> dict[str, Any]:
    """Builds the backbone.

    Args:
      inputs: images [N, H, W, C], a symbolic or eager tensor. H and W are
        multiples of 128, the stride of level 7, whatever `levels` are.
      layers: the Keras layers module to build with.
      norm_act: creates one normalization-activation layer per call.
      size: the size of the SpineNet.
      levels: the levels to return, from 2 to 7.

    Returns:
      {level: [N, H / 2^level, W / 2^level, endpoint_filters]}, with strings as
      keys.

    Raises:
      ValueError: if levels do not exist or images have invalid sizes.
    """
    if not levels or not all(
        is_number(numbers.Integral, level) and 2 <= level <= COARSEST
        for level in levels
    ):
        raise ValueError(
            f"SpineNet has the levels 2 to {COARSEST}. "
            f"Received: levels={list(levels)}"
        )
    stride = 2**COARSEST
    if any(side % stride for side in inputs.shape[1:3] if side is not None):
        raise ValueError(
            f"SpineNet's images must have sides that are multiples of "
            f"{stride}, the stride of its coarsest block. "
            f"Received: shape={tuple(inputs.shape)}"
        )
    nodes = _stem(inputs, layers, norm_act, size)
    for block in BLOCKS:
        _add_node(nodes, block, layers, norm_act, size)
    found = {node.block.level: node for node in nodes if node.block.output}
    endpoints = {}
    for level in levels:
        x = conv(layers, size.endpoint_filters, 1)(found[level].features)
        endpoints[str(level)] = norm_act()(x)
    return endpoints
