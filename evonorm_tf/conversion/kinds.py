"""What a layer is, as far as conversion asks: by class, name, attributes."""

from typing import Any

from evonorm_tf.conversion import graph

# Activations that a norm-act layer stands for, by name without case and "_".
# Bounded ones (sigmoid, tanh, softmax) do another thing and stay.
_TAKEN = frozenset(
    [
        *("relu", "relu6", "leakyrelu", "thresholdedrelu", "prelu"),
        *("elu", "selu", "celu", "gelu", "softplus"),
        *("silu", "swish", "hardsilu", "hardswish", "mish"),
    ]
)


def activation(layer: Any) -> str:
    """The name of the activation that a layer is; empty if it is none.

    Layers (`ReLU`, `Activation("silu")`), Keras 3 operations (`ops.relu`) and
    TensorFlow functions in tf_keras models (`tf.nn.relu`).
    """
    kind = type(layer).__name__
    if kind == "Activation":
        return _taken(_function(layer.activation))
    if kind == "TFOpLambda":
        return _taken(layer.get_config()["function"].split(".")[-1])
    return _taken(kind)


def own_activation(layer: Any) -> str:
    """The name of an `activation=` argument: Conv2D, Dense, ...; or empty."""
    function = getattr(layer, "activation", None)
    return _taken(_function(function)) if callable(function) else ""


def _function(function: Any) -> str:
    # A layer can be an activation as well: Activation(ReLU()).
    return getattr(function, "__name__", type(function).__name__)


def _taken(name: str) -> str:
    return name if name.lower().replace("_", "") in _TAKEN else ""


def has_activation(layer: Any, kit: graph.Kit) -> bool:
    """Whether a normalization layer activates: one of our own layers."""
    return isinstance(layer, kit.ours.NormAct) and layer.activation


def is_convolution(layer: Any) -> bool:
    return hasattr(layer, "kernel_size")


def channel_axis(layer: Any, rank: int) -> tuple[int, str]:
    """(-1 or 1, what is wrong with it) of a normalization layer's channels."""
    axes = layer.axis if hasattr(layer.axis, "__len__") else [layer.axis]
    positive = sorted(axis % rank for axis in axes)
    if positive == list(range(1, rank)) or positive == [rank - 1]:
        return -1, ""
    if positive == [1]:
        return 1, ""
    return -1, (
        "it normalizes along an axis that is neither the last nor the second: "
        f"axis={layer.axis}"
    )


def composite(layer: Any, kit: graph.Kit) -> str:
    """What a layer hides that ought to be replaced; empty if nothing."""
    inside = [
        one.name
        for one in graph.inner_layers(layer)
        if isinstance(one, kit.normalizations)
    ]
    if not inside:
        return ""
    model = isinstance(layer, kit.keras.Model)
    what = "subclassed model" if model else "layer"
    return f"a {what} with normalization out of reach: {', '.join(inside)}"
