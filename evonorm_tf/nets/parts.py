"""Building blocks of all networks.

Convolutions are initialized as by He et al. (arXiv:1502.01852) with the fan-out
of the kernel, as in the reference code of MnasNet and EfficientNet and in
torchvision's ResNet and MobileNetV2. A depthwise kernel has a fan-out of k * k.
"""

import math
import numbers
from collections.abc import Callable
from types import ModuleType
from typing import Any

from evonorm_tf.errors import is_number

NormAct = Callable[..., Any]

# Of every layer that has a data_format: networks are [N, H, W, C], whatever
# image_data_format Keras is configured with.
LAYOUT = "channels_last"

# A dictionary, because each Keras accepts only its own initializer objects.
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
    """Convolution, [N, H, W, C] to [N, H/stride, W/stride, filters].

    With `padding` "valid" a side becomes (H - kernel) // stride + 1.
    """
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        data_format=LAYOUT,
        kernel_initializer=_HE,
    )


def depthwise(layers: ModuleType, kernel: int, stride: int = 1) -> Any:
    """Depthwise convolution without a bias."""
    return layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        data_format=LAYOUT,
        depthwise_initializer=_HE,
    )


def upsample(layers: ModuleType, x: Any, times: int) -> Any:
    """Nearest neighbours, [N, H, W, C] to [N, times * H, times * W, C].

    Uses copies and reshapes, because TPUs lack the gradient of Keras's
    UpSampling2D. If H or W is unknown, UpSampling2D is used anyway, as TPUs do
    not run such models.
    """
    _, height, width, count = x.shape
    if height is None or width is None:
        return layers.UpSampling2D(
            times, data_format=LAYOUT, interpolation="nearest"
        )(x)
    x = layers.Concatenate(axis=-1)([x] * times)
    x = layers.Reshape((height, 1, width * times * count))(x)
    x = layers.Concatenate(axis=2)([x] * times)
    return layers.Reshape((height * times, width * times, count))(x)


def max_pool(layers: ModuleType, size: int, stride: int) -> Any:
    """Max pooling, [N, H, W, C] to [N, H/stride, W/stride, C]."""
    return layers.MaxPooling2D(
        size, strides=stride, padding="same", data_format=LAYOUT
    )


def residual(
    layers: ModuleType, branch: Any, shortcut: Any, rate: float
) -> Any:
    """Adds a branch to its shortcut, dropping it for `rate` of the samples.

    Stochastic depth, arXiv:1603.09382: in training, a sample's branch is 0
    with probability `rate` and is divided by 1 - rate otherwise.
    """
    if rate:
        drop = layers.Dropout(rate, noise_shape=(None, 1, 1, 1))
        branch = drop(branch)
    return layers.Add()([branch, shortcut])


def drop_rate(rate: float, index: int, blocks: int) -> float:
    """Returns the rate of stochastic depth of block `index`, from 0.

    It increases linearly with depth, from 0 at the first block, as in
    EfficientNet's code (arXiv:1603.09382 counts the blocks from 1).
    """
    return rate * index / blocks


def channels(count: int, width: float) -> int:
    """Rounds count * width to the nearest multiple of 8, at least 8.

    The result is never below 90 % of count * width, as in the MobileNets.
    """
    if width == 1.0:
        return count
    exact = count * width
    rounded = max(8, int(exact / 8 + 0.5) * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def check_scale(width: float, max_depth: int) -> None:
    """Raises ValueError if the arguments of a scaling are invalid."""
    if not (is_number(numbers.Real, width) and 0 < width < math.inf):
        raise ValueError(
            "The width multiplier must be a positive number. "
            f"Received: width={width!r}"
        )
    if not (is_number(numbers.Integral, max_depth) and max_depth >= 0):
        raise ValueError(
            "max_depth must be the maximum number of blocks per stage, or 0 "
            f"for all. Received: max_depth={max_depth!r}"
        )


def valid_rate(name: str, value: Any) -> float:
    """Returns the rate of a dropout as a float.

    Raises:
      ValueError: if it is not in [0, 1).
    """
    if not (is_number(numbers.Real, value) and 0 <= value < 1):
        raise ValueError(
            f"{name} must be a rate, a number in [0, 1). "
            f"Received: {name}={value!r}"
        )
    return float(value)
