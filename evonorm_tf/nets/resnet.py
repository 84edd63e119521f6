"""Pre-activation ResNets, placed as the paper places EvoNorms.

    stem convolution, nothing after it
    every block:   h = norm_act(x)
                   shortcut = x, or 1x1 convolution of h where shapes change
                   y = conv(norm_act(... conv(h))) + shortcut
    after the last block: norm_act, then global average pooling

"Identity Mappings in Deep Residual Networks", arXiv:1603.05027, for the
block; "Evolving Normalization-Activation Layers", arXiv:2004.02967, for one
layer before each convolution and the shortcut taken after the first.
"""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

# A convolution's output variance does not depend on its width (He et al.).
_HE = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}


@dataclasses.dataclass(frozen=True)
class Size:
    """What tells one ResNet from another.

    Attributes:
      depths: blocks of each stage.
      filters: channels of each stage before `expansion`.
      strides: stride of each stage's first block.
      bottleneck: 1x1, 3x3, 1x1 blocks with four times the output channels,
        rather than two 3x3.
      stem: "imagenet" (7x7 stride 2, then 3x3 max pooling stride 2) or
        "cifar" (3x3 stride 1).
      stem_filters: channels of the stem.
    """

    depths: tuple[int, ...]
    filters: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    bottleneck: bool = True
    stem: str = "imagenet"
    stem_filters: int = 64

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.filters) == len(self.strides):
            raise ValueError(
                "depths, filters and strides must have one entry a stage. "
                f"Received: depths={self.depths}, filters={self.filters}, "
                f"strides={self.strides}"
            )
        if self.stem not in ("imagenet", "cifar"):
            raise ValueError(
                "stem must be 'imagenet' or 'cifar'. "
                f"Received: stem={self.stem!r}"
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
    # The search's CIFAR anchor: the first two down-samplings at stride 1.
    "resnet50_cifar": Size((3, 4, 6, 3), stem="cifar"),
    "resnet8_cifar": _cifar(1),
    "resnet20_cifar": _cifar(3),
    "resnet56_cifar": _cifar(9),
}


def scaled(size: Size, width: float = 1.0, max_depth: int = 0) -> Size:
    """Returns `size` with its channels times `width`, in multiples of 8.

    Args:
      size: the network to start from.
      width: width multiplier, above 0.
      max_depth: at most so many blocks a stage; 0 keeps them all.

    Raises:
      ValueError: `width` is not positive.
    """
    if not width > 0:
        raise ValueError(
            f"The width multiplier must be positive. Received: width={width}"
        )

    def channels(count: int) -> int:
        if width == 1.0:
            return count
        return max(8, int(count * width / 8 + 0.5) * 8)

    limit = max_depth or max(size.depths)
    return dataclasses.replace(
        size,
        depths=tuple(min(depth, limit) for depth in size.depths),
        filters=tuple(channels(count) for count in size.filters),
        stem_filters=channels(size.stem_filters),
    )


def _conv(layers: ModuleType, filters: int, kernel: int, stride: int = 1):
    # "he" as an object, for each Keras names its initializers alike but
    # accepts only its own; the dictionary form is read by both.
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer={"class_name": "VarianceScaling", "config": _HE},
    )


def _block(
    x: Any,
    layers: ModuleType,
    norm_act: Callable[..., Any],
    filters: int,
    stride: int,
    bottleneck: bool,
) -> Any:
    """One residual block: [N, H, W, C] to [N, H/stride, W/stride, C']."""
    if bottleneck:
        convs = ((filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1))
    else:
        convs = ((filters, 3, stride), (filters, 3, 1))
    out_channels = convs[-1][0]
    h = norm_act()(x)
    shortcut = x
    if stride != 1 or x.shape[-1] != out_channels:
        shortcut = _conv(layers, out_channels, 1, stride)(h)
    for index, (channels, kernel, step) in enumerate(convs):
        if index:
            h = norm_act()(h)
        h = _conv(layers, channels, kernel, step)(h)
    return layers.Add()([h, shortcut])


def stages(
    inputs: Any,
    layers: ModuleType,
    norm_act: Callable[..., Any],
    size: Size,
) -> list[Any]:
    """Returns each stage's output, before any closing norm_act.

    Args:
      inputs: images [N, H, W, C], a symbolic or an eager tensor.
      layers: the Keras layers module to build with.
      norm_act: makes one normalization-activation layer a call.
      size: which ResNet.

    Returns:
      One [N, H', W', C'] a stage, the highest resolution first.
    """
    if size.stem == "imagenet":
        x = _conv(layers, size.stem_filters, 7, 2)(inputs)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    else:
        x = _conv(layers, size.stem_filters, 3)(inputs)
    outputs = []
    for depth, filters, stride in zip(
        size.depths, size.filters, size.strides, strict=True
    ):
        for index in range(depth):
            step = stride if index == 0 else 1
            x = _block(x, layers, norm_act, filters, step, size.bottleneck)
        outputs.append(x)
    return outputs


def resnet(
    inputs: Any,
    layers: ModuleType,
    norm_act: Callable[..., Any],
    size: Size,
) -> Any:
    """A whole backbone: the features a classifier pools.

    Arguments as in `stages`.

    Returns:
      Features [N, H', W', C'], after the closing norm_act.
    """
    return norm_act()(stages(inputs, layers, norm_act, size)[-1])


def sites(size: Size) -> int:
    """How many norm_act layers a network of this size has."""
    return sum(size.depths) * (3 if size.bottleneck else 2) + 1
