"""ResNets: pre-activation, as the paper places EvoNorms, and post-activation.

Pre-activation:

    stem convolution, nothing after it
    every block:   h = norm_act(x)
                   shortcut = x, or 1x1 convolution of h where shapes change
                   y = conv(norm_act(... conv(h))) + shortcut
    after the last block: norm_act, then global average pooling

"Identity Mappings in Deep Residual Networks", arXiv:1603.05027, for the
block; "Evolving Normalization-Activation Layers", arXiv:2004.02967, for one
layer before each convolution and the shortcut taken after the first.

Post-activation, for BatchNorm baselines and for weights from elsewhere:

    stem convolution, norm_act
    every block:   h = norm(conv(norm_act(... conv(x))))
                   shortcut = x, or norm of a 1x1 convolution of x
                   y = relu(h + shortcut)

where norm is norm_act(activation=False). "Deep Residual Learning",
arXiv:1512.03385, with the stride in a bottleneck's 3x3 convolution. The ReLU
after the sum does not depend on norm_act.
"""

import dataclasses
from types import ModuleType
from typing import Any

from evonorm_tf.nets.parts import (
    LAYOUT,
    NormAct,
    channels,
    check_scale,
    conv,
    drop_rate,
    max_pool,
    residual,
)

_CHOICES = {
    "stem": ("imagenet", "deep", "cifar"),
    "padding": ("same", "symmetric"),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """The shape of a ResNet.

    Attributes:
      depths: number of blocks of each stage.
      filters: channels of each stage before `expansion`.
      strides: stride of each stage's first block.
      bottleneck: whether blocks have 1x1, 3x3 and 1x1 convolutions and four
        times the output channels, instead of two 3x3 convolutions.
      stem: "imagenet" (7x7 stride 2, then 3x3 max pooling stride 2), "deep"
        (arXiv:1812.01187, C: three 3x3, the first with stride 2, the first two
        with half the channels and a norm_act; then the same pooling) or
        "cifar" (3x3 stride 1).
      stem_filters: channels of the stem.
      preactivation: whether a norm_act precedes each convolution instead of
        following it.
      stochastic_depth: rate of stochastic depth: the fraction rate * i / n of
        the samples skips block i of n, counted from 0.
      average_shortcut: whether a shortcut has 2x2 average pooling with stride
        2 and a 1x1 convolution (arXiv:1812.01187, D) instead of a 1x1
        convolution with stride 2.
      padding: "same", TensorFlow's, which at stride 2 pads an even side only
        at its end; or "symmetric", PyTorch's (kernel - 1) / 2 on each side.
    """

    depths: tuple[int, ...]
    filters: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    bottleneck: bool = True
    stem: str = "imagenet"
    stem_filters: int = 64
    preactivation: bool = True
    stochastic_depth: float = 0.0
    average_shortcut: bool = False
    padding: str = "same"

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.filters) == len(self.strides):
            raise ValueError(
                "depths, filters and strides must have one entry per stage. "
                f"Received: depths={self.depths}, filters={self.filters}, "
                f"strides={self.strides}"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {known}. "
                    f"Received: {name}={getattr(self, name)!r}"
                )


def _cifar(blocks: int, filters: tuple[int, ...] = (16, 32, 64)) -> Size:
    """Section 4.2, arXiv:1512.03385: 3 stages of `blocks` basic blocks."""
    return Size(
        depths=(blocks,) * 3,
        filters=filters,
        strides=(1, 2, 2),
        bottleneck=False,
        stem="cifar",
        stem_filters=filters[0],
    )


SIZES: dict[str, Size] = {
    "resnet18": Size((2, 2, 2, 2), bottleneck=False),
    "resnet50": Size((3, 4, 6, 3)),
    "resnet101": Size((3, 4, 23, 3)),
    "resnet50_postact": Size((3, 4, 6, 3), preactivation=False),
    "resnet101_postact": Size((3, 4, 23, 3), preactivation=False),
    # The search's CIFAR anchor: stride 1 in the first two down-samplings.
    "resnet50_cifar": Size((3, 4, 6, 3), stem="cifar"),
    "resnet8_cifar": _cifar(1),
    "resnet20_cifar": _cifar(3),
    "resnet56_cifar": _cifar(9),
}


def scaled(size: Size, width: float = 1.0, max_depth: int = 0) -> Size:
    """Returns `size` with its channels times `width`, in multiples of 8.

    Args:
      size: the network to start from.
      width: multiplier of the channels, above 0.
      max_depth: maximum number of blocks per stage; 0 for all.

    Raises:
      ValueError: if `width` or `max_depth` is invalid.
    """
    check_scale(width, max_depth)
    limit = max_depth or max(size.depths)
    return dataclasses.replace(
        size,
        depths=tuple(min(depth, limit) for depth in size.depths),
        filters=tuple(channels(count, width) for count in size.filters),
        stem_filters=channels(size.stem_filters, width),
    )


def convolutions(bottleneck: bool, filters: int, stride: int) -> list[tuple]:
    """Returns (channels, kernel, stride) of a block's convolutions."""
    if bottleneck:
        return [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
    return [(filters, 3, stride), (filters, 3, 1)]


def _convolve(x: Any, layers: ModuleType, size: Size | None, settings) -> Any:
    """Applies a convolution (channels, kernel, stride) with padding."""
    count, kernel, stride = settings
    # With an odd kernel at stride 1, both paddings are the same.
    symmetric = size is not None and size.padding == "symmetric"
    if symmetric and stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, data_format=LAYOUT)(x)
        return conv(layers, count, kernel, stride, padding="valid")(x)
    return conv(layers, count, kernel, stride)(x)


def _project(
    x: Any, layers: ModuleType, size: Size | None, filters: int, stride: int
) -> Any:
    """Applies the shortcut of a block that changes the shape."""
    if size is not None and size.average_shortcut and stride > 1:
        # The last window of an odd side has one pixel, which is its mean.
        x = layers.AveragePooling2D(
            2, strides=stride, padding="same", data_format=LAYOUT
        )(x)
        stride = 1
    return _convolve(x, layers, size, (filters, 1, stride))


def _preactivation(
    x: Any,
    layers: ModuleType,
    norm_act: NormAct,
    convs: list[tuple],
    stride: int,
    rate: float,
    size: Size,
) -> Any:
    """One residual block: [N, H, W, C] to [N, H/stride, W/stride, C']."""
    filters = convs[-1][0]
    h = norm_act()(x)
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _project(h, layers, size, filters, stride)
    for index, settings in enumerate(convs):
        if index:
            h = norm_act()(h)
        h = _convolve(h, layers, size, settings)
    return residual(layers, h, shortcut, rate)


def postactivation(
    x: Any,
    layers: ModuleType,
    norm_act: NormAct,
    convs: list[tuple],
    stride: int,
    rate: float,
    size: Size | None = None,
) -> Any:
    """One residual block: [N, H, W, C] to [N, H/stride, W/stride, C'].

    Args:
      x: the input of the block.
      layers: the Keras layers module to build with.
      norm_act: creates one normalization-activation layer per call.
      convs: as returned by `convolutions`.
      stride: of the shortcut.
      rate: fraction of the samples that skip the block in training.
      size: defines padding and shortcuts of the block; None for the default.
    """
    filters = convs[-1][0]
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _project(x, layers, size, filters, stride)
        shortcut = norm_act(activation=False)(shortcut)
    h = x
    for settings in convs[:-1]:
        h = norm_act()(_convolve(h, layers, size, settings))
    h = _convolve(h, layers, size, convs[-1])
    h = norm_act(activation=False)(h)
    return layers.ReLU()(residual(layers, h, shortcut, rate))


def _stem(inputs: Any, layers: ModuleType, norm_act: NormAct, size: Size):
    x, count = inputs, size.stem_filters
    if size.stem == "deep":
        for stride in (2, 1):
            x = _convolve(x, layers, size, (count // 2, 3, stride))
            x = norm_act()(x)
    kernel, stride = {"imagenet": (7, 2)}.get(size.stem, (3, 1))
    x = _convolve(x, layers, size, (count, kernel, stride))
    if not size.preactivation:
        x = norm_act()(x)
    if size.stem == "cifar":
        return x
    if size.padding == "same":
        return max_pool(layers, 3, 2)(x)
    # Windows centered at every other pixel: computed at stride 1, where both
    # paddings are the same, and subsampled. Padded zeros would be averaged.
    x = max_pool(layers, 3, 1)(x)
    return max_pool(layers, 1, 2)(x)


def stages(
    inputs: Any, layers: ModuleType, norm_act: NormAct, size: Size
) -> list[Any]:
    """Returns the output [N, H', W', C'] of each stage, before a norm_act.

    Args:
      inputs: images [N, H, W, C], a symbolic or eager tensor.
      layers: the Keras layers module to build with.
      norm_act: creates one normalization-activation layer per call.
      size: the shape of the network.
    """
    x = _stem(inputs, layers, norm_act, size)
    block = _preactivation if size.preactivation else postactivation
    outputs, built, blocks = [], 0, sum(size.depths)
    for depth, filters, stride in zip(
        size.depths, size.filters, size.strides, strict=True
    ):
        for index in range(depth):
            step = stride if index == 0 else 1
            convs = convolutions(size.bottleneck, filters, step)
            rate = drop_rate(size.stochastic_depth, built, blocks)
            x = block(x, layers, norm_act, convs, step, rate, size)
            built += 1
        outputs.append(x)
    return outputs


def resnet(
    inputs: Any, layers: ModuleType, norm_act: NormAct, size: Size
) -> Any:
    """Returns features [N, H', W', C'] after the last norm_act."""
    x = stages(inputs, layers, norm_act, size)[-1]
    return norm_act()(x) if size.preactivation else x


def sites(size: Size) -> int:
    """Returns the number of norm_act layers of a network.

    Post-activation networks include those without an activation.
    """
    convolutions = sum(size.depths) * (3 if size.bottleneck else 2)
    deep = 2 if size.stem == "deep" else 0
    if size.preactivation:
        return convolutions + deep + 1
    expansion = 4 if size.bottleneck else 1
    before, projections = size.stem_filters, 0
    for filters, stride in zip(size.filters, size.strides):
        after = expansion * filters
        projections += stride != 1 or before != after
        before = after
    return convolutions + deep + 1 + projections
