"""Whole classifiers by name.

    model = evonorm_tf.create_model("resnet50", norm_act="evonorm_s0")
    model = evonorm_tf.create_model("mobilenet_v2", "bn_relu", legacy=True)

Neither Keras is imported before a model is asked for.
"""

import functools
from collections.abc import Callable
from typing import Any

from evonorm_tf import nets


def list_models() -> list[str]:
    """The names that `create_model` takes."""
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
    """An untrained classifier, images [N, H, W, 3] to logits.

    It has the dropout and the stochastic depth that the network is trained
    with; for others build on `evonorm_tf.nets.backbone`.

    Args:
      name: one of `list_models()`.
      norm_act: the layer at every site: a name of `evonorm_tf.names()` or
        whatever else `NormAct` takes, or, for settings of its own, a
        callable that makes one layer a call:
        `functools.partial(evonorm_tf.norm_act, "evonorm_s0", groups=8)`
        (with `legacy` that of `evonorm_tf.legacy`). A network that has sites
        without an activation calls it with `activation=False`.
      num_classes: how many to tell apart.
      image_size: side in pixels, or (H, W) or (H, W, C), where None is any
        height or width; None for the network's own, with 3 channels.
      width: multiplier of the channels, above 0.
      max_depth: at most so many blocks a stage; 0 keeps them all.
      legacy: return a tf_keras model instead of a Keras 3 one.

    Returns:
      A functional model whose output is logits [N, num_classes], float32 in
      mixed precision as well.

    Raises:
      ValueError: for an unknown name, with the nearest ones, or a size or
        layer that cannot be.
    """
    network = nets.get(name)
    if image_size is None:
        image_size = network.image_size
    shape = _image_shape(image_size)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(
            "num_classes must be a whole number. "
            f"Received: num_classes={num_classes!r}"
        )
    if num_classes < 1:
        raise ValueError(
            f"num_classes must be at least 1. Received: {num_classes=}"
        )
    keras, make = _keras(legacy)
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


def _image_shape(size: Any) -> tuple[int | None, ...]:
    """[H, W, C] of an image."""
    shape = size if isinstance(size, (tuple, list)) else (size, size)
    shape = (*shape, 3) if len(shape) == 2 else tuple(shape)
    known = [side for side in shape if side is not None]
    whole = all(type(side) is int and side > 0 for side in known)
    if len(shape) != 3 or not whole or shape[-1] is None:
        raise ValueError(
            "image_size must be a side in pixels, (H, W) or (H, W, C). "
            f"Received: image_size={size!r}"
        )
    return shape


def _keras(legacy: bool) -> tuple[Any, Callable[..., Any]]:
    """A Keras and the `norm_act` for it."""
    # By way of our modules: they say what to do where a Keras is missing.
    if legacy:
        from evonorm_tf import legacy as ours

        return ours.tf_keras, ours.norm_act
    from evonorm_tf import layers as ours

    return ours.keras, ours.norm_act
