"""What all networks are made of.

Initial weights: He et al. (arXiv:1502.01852) by the fan-out of a kernel, for
every convolution. So have it the reference code of MnasNet and EfficientNet
and torchvision's ResNet and MobileNetV2. A depthwise kernel's fan-out is its
k * k.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

NormAct = Callable[..., Any]

# As a dictionary: each Keras accepts only its own initializer objects.
_HE = {
    "class_name": "VarianceScaling",
    "config": {
        "scale": 2.0,
        "mode": "fan_out",
        "distribution": "untruncated_normal",
    },
}


def conv(
    layers: ModuleType,
    filters: int,
    kernel: int,
    stride: int = 1,
    use_bias: bool = False,
    padding: str = "same",
) -> Any:
    """A convolution layer, [N, H, W, C] to [N, H/stride, W/stride, filters].

    With `padding` "valid" a side is (H - kernel) // stride + 1.
    """
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=_HE,
    )


def depthwise(layers: ModuleType, kernel: int, stride: int = 1) -> Any:
    """A depthwise convolution layer without a bias."""
    return layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_HE,
    )


def upsample(layers: ModuleType, x: Any, times: int) -> Any:
    """Nearest neighbours, [N, H, W, C] to [N, times * H, times * W, C].

    By copies and reshapes: the gradient of Keras's UpSampling2D is an
    operation that no TPU has. Where H or W is not known it is used all the
    same, for a TPU runs no such model.
    """
    _, height, width, count = x.shape
    if height is None or width is None:
        return layers.UpSampling2D(times, interpolation="nearest")(x)
    x = layers.Concatenate(axis=-1)([x] * times)
    x = layers.Reshape((height, 1, width * times * count))(x)
    x = layers.Concatenate(axis=2)([x] * times)
    return layers.Reshape((height * times, width * times, count))(x)


def residual(
    layers: ModuleType, branch: Any, shortcut: Any, rate: float
) -> Any:
    """branch + shortcut, the branch left out for `rate` of the samples.

    Stochastic depth, arXiv:1603.09382: in training a sample's branch is 0
    with probability `rate` and divided by 1 - rate otherwise.
    """
    if rate:
        drop = layers.Dropout(rate, noise_shape=(None, 1, 1, 1))
        branch = drop(branch)
    return layers.Add()([branch, shortcut])


def drop_rate(rate: float, index: int, blocks: int) -> float:
    """Stochastic depth of block `index`, from 0, of `blocks`.

    Grows linearly with depth, from 0 at the first block, as in EfficientNet's
    code (arXiv:1603.09382 counts the blocks from 1).
    """
    return rate * index / blocks


def channels(count: int, width: float) -> int:
    """count * width to the nearest multiple of 8, at least 8.

    Never below 90 % of count * width: the rule of the MobileNet family.
    """
    if width == 1.0:
        return count
    exact = count * width
    rounded = max(8, int(exact / 8 + 0.5) * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def check_scale(width: float, max_depth: int) -> None:
    """Raises ValueError unless a network can be scaled so."""
    if not (width > 0 and math.isfinite(width)):
        raise ValueError(
            f"The width multiplier must be positive. Received: width={width}"
        )
    if max_depth < 0:
        raise ValueError(
            "max_depth is the number of blocks to keep in a stage, or 0 for "
            f"all. Received: max_depth={max_depth}"
        )
