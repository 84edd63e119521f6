"""Classifiers by name.

    model = evonorm_tf.create_model("resnet50", norm_act="evonorm_s0")
    model = evonorm_tf.create_model("mobilenet_v2", "bn_relu", legacy=True)

Keras or tf_keras is imported when a model is created.
"""

import functools
import numbers
from collections.abc import Callable
from typing import Any

from evonorm_tf import nets, validation
from evonorm_tf.errors import is_number
from evonorm_tf.layer import NormActMixin


def list_models() -> list[str]:
    """Returns the names that `create_model` accepts."""
    return nets.names()


def create_model(
    name: str,
    norm_act: Any = "evonorm_b0",
    num_classes: int = 1000,
    *,
    image_size: int | tuple[int | None, ...] | None = None,
    width: float = 1.0,
    max_depth: int = 0,
    legacy: bool = False,
) -> Any:
    """Creates an untrained classifier, from images [N, H, W, 3] to logits.

    The model includes the dropout and the stochastic depth with which the
    network is usually trained. For other rates, use
    `evonorm_tf.nets.backbone`.

    Example:
        ```python
        model = evonorm_tf.create_model("resnet50", "evonorm_s0", 10)
        layer = functools.partial(evonorm_tf.norm_act, "evonorm_s0", groups=8)
        model = evonorm_tf.create_model("mobilenet_v2", layer, image_size=64)
        ```

    Args:
      name: one of `list_models()`.
      norm_act: the normalization-activation layer of the network: a name of
        `evonorm_tf.names()` or anything else that `NormAct` accepts. To
        change its settings, a callable that creates one layer per call, as in
        the example (with `legacy`, use `evonorm_tf.legacy.norm_act`). Where
        no activation follows, it is called with `activation=False`.
      num_classes: number of classes.
      image_size: side in pixels, or (H, W) or (H, W, C), where None means any
        height or width; None for the network's default, with 3 channels.
      width: multiplier of the channels, above 0.
      max_depth: maximum number of blocks per stage; 0 for all.
      legacy: whether to return a tf_keras model instead of a Keras 3 model.

    Returns:
      A functional model whose output is logits [N, num_classes], in float32
      even with mixed precision.

    Raises:
      ValueError: if the name is unknown (the message suggests similar ones),
        or if a size, the number of classes or the layer is invalid.
      TypeError: if `norm_act` is a layer instead of what creates layers.
    """
    network = nets.get(name)
    if image_size is None:
        image_size = network.image_size
    shape = image_shape(image_size)
    num_classes = validation.count("num_classes", num_classes, optional=False)
    keras, make = _keras(legacy)
    _check_norm_act(norm_act, keras, legacy)
    if not callable(norm_act):
        norm_act = functools.partial(make, norm_act)
    images = keras.Input(shape)
    features = nets.backbone(
        name,
        images,
        keras.layers,
        norm_act,
        width=width,
        max_depth=max_depth,
    )
    logits = nets.classifier(
        features, keras.layers, num_classes, network.dropout
    )
    return keras.Model(images, logits, name=name)


def _check_norm_act(norm_act: Any, keras: Any, legacy: bool) -> None:
    """Rejects a layer, which is callable but creates none."""
    if isinstance(norm_act, (keras.layers.Layer, NormActMixin)):
        module = "evonorm_tf.legacy" if legacy else "evonorm_tf"
        raise TypeError(
            "Each place in a network needs a layer of its own: norm_act must "
            "be the name of one, or a callable that creates one per call. For "
            f"other settings use functools.partial({module}.norm_act, "
            f"'evonorm_s0', groups=8). Received: norm_act={norm_act!r}"
        )


def image_shape(size: Any) -> tuple[int | None, ...]:
    """Returns the shape [H, W, C] of an image.

    Args:
      size: side in pixels, (H, W) or (H, W, C), where None means any height or
        width.

    Raises:
      ValueError: if it is anything else.
    """
    shape = size if isinstance(size, (tuple, list)) else (size, size)
    shape = (*shape, 3) if len(shape) == 2 else tuple(shape)
    known = [side for side in shape if side is not None]
    whole = all(is_number(numbers.Integral, x) and x > 0 for x in known)
    if len(shape) != 3 or not whole or shape[-1] is None:
        raise ValueError(
            "image_size must be a side in pixels, (H, W) or (H, W, C). "
            f"Received: image_size={size!r}"
        )
    return tuple(None if side is None else int(side) for side in shape)


def _keras(legacy: bool) -> tuple[Any, Callable[..., Any]]:
    """Returns a Keras and its `norm_act`."""
    # Imported through our modules, whose errors explain a missing Keras.
    if legacy:
        from evonorm_tf import legacy as ours

        return ours.tf_keras, ours.norm_act
    from evonorm_tf import layers as ours

    return ours.keras, ours.norm_act
