"""What a layer is, and what follows it: by class, name, attributes."""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf

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
_STAYING = frozenset(
    [
        *("sigmoid", "hardsigmoid", "logsigmoid", "tanh", "hardtanh"),
        *("softmax", "logsoftmax", "sparsemax", "softsign", "tanhshrink"),
    ]
)
# Layers whose output has its channels on the axis where the input has them.
_KEEP_LAYOUT = frozenset(
    [
        *("add", "subtract", "multiply", "average", "maximum", "minimum"),
        *("concatenate", "identity", "gaussiannoise", "rescaling"),
        *("dropout", "gaussiandropout", "alphadropout", "normalization"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Follower:
    """The activation after a normalization: "act (ReLU)", and its calls."""

    label: str
    calls: tuple[graph.Call, ...]


def activation(call: graph.Call) -> str:
    """The name of the activation that a call is; empty if it is none.

    Layers (`ReLU`, `Activation("silu")`), Keras 3 operations (`ops.relu`) and
    TensorFlow functions in tf_keras models (`tf.nn.relu`), and the maximum of
    a tensor and 0 by either.
    """
    name = _named(call.layer)
    if _plain(name) == "maximum" and _with_zero(call):
        return "maximum(x, 0)"
    return name if _plain(name) in _TAKEN else ""


def staying(call: graph.Call) -> str:
    """The name of an activation that no norm-act layer stands for."""
    name = _named(call.layer)
    if activation(call) or _passes(call):
        return ""
    known = _plain(name) in _STAYING
    return name if known or type(call.layer).__name__ == "Activation" else ""


def own_activation(layer: Any) -> str:
    """The name of an `activation=` argument: Conv2D, Dense, ...; or empty."""
    function = getattr(layer, "activation", None)
    name = _function(function) if callable(function) else ""
    return name if _plain(name) in _TAKEN else ""


def activated(call: graph.Call) -> str:
    """What a call is if its output comes from an activation; or empty."""
    name, own = call.layer.name, own_activation(call.layer)
    if activation(call):
        return f"{name} ({activation(call)})"
    return f"{name} ({type(call.layer).__name__}({own}))" if own else ""


def follower(
    call: graph.Call, readers: graph.Readers
) -> tuple[Follower | None, str]:
    """The activation that alone reads a call's output, or what does instead.

    Looks through identities, which stay, and takes x * sigmoid(x) for one.
    """
    (tensor,) = call.outputs
    one = readers.alone(tensor)
    while one and _passes(one):
        (tensor,) = one.outputs
        one = readers.alone(tensor)
    if one and activation(one):
        return Follower(f"{one.layer.name} ({activation(one)})", (one,)), ""
    gated = _gated(tensor, readers)
    if gated:
        label = f"{gated[1].layer.name} (x * sigmoid(x))"
        return Follower(label, gated), ""
    return None, _read_by(tensor, readers)


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


def layout(
    tensor: Any, readers: graph.Readers, kit: graph.Kit
) -> tuple[str, str]:
    """(layer, data_format) of the nearest layer before that has one.

    Empty where none has, or where what lies between may move the channels.
    """
    rank, seen, queue = len(tensor.shape), set(), [tensor]
    while queue:
        tensor = queue.pop(0)
        maker = readers.maker(tensor)
        form = getattr(maker.layer, "data_format", None)
        if form in ("channels_last", "channels_first"):
            known = len(tensor.shape) == rank
            return (_described(maker), form) if known else ("", "")
        if kit.is_graph(maker.layer):
            inside = graph.Readers(maker.layer)
            index = [one is tensor for one in maker.outputs].index(True)
            outputs = graph.graph_of(maker.layer).outputs
            return layout(outputs[index], inside, kit)
        if maker.key not in seen and _keeps_layout(maker, kit):
            seen.add(maker.key)
            queue += maker.inputs
    return "", ""


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


def _named(layer: Any) -> str:
    """The function that a layer is, or else its class."""
    kind = type(layer).__name__
    if kind == "Activation":
        return _function(layer.activation)
    if kind == "TFOpLambda":
        return layer.get_config()["function"].split(".")[-1]
    return kind


def _function(function: Any) -> str:
    # A layer can be an activation as well: Activation(ReLU()).
    return getattr(function, "__name__", type(function).__name__)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _with_zero(call: graph.Call) -> bool:
    """Whether a call has one tensor and, else, the number 0."""
    if len(call.inputs) != 1:
        return False
    others = [
        leaf
        for leaf in tf.nest.flatten(call.arguments)
        if leaf is not call.inputs[0]
        and leaf is not None
        and not isinstance(leaf, str)
    ]
    numbers = (int, float, np.ndarray, np.generic, tf.Tensor)
    return (
        len(others) == 1
        and isinstance(others[0], numbers)
        and np.ndim(others[0]) == 0
        and float(others[0]) == 0.0
    )


def _passes(call: graph.Call) -> bool:
    """Whether a call gives what it gets: an identity."""
    layer = call.layer
    if len(call.inputs) != 1:
        return False
    if type(layer).__name__ != "Activation":
        return _named(layer).lower() == "identity"
    # Of either Keras: a function of somebody else's may have that name.
    home = getattr(layer.activation, "__module__", None) or ""
    ours = home.split(".")[0] in ("keras", "tf_keras")
    return ours and _function(layer.activation) == "linear"


def _gated(tensor: Any, readers: graph.Readers) -> tuple[graph.Call, ...]:
    """The sigmoid and the product of x * sigmoid(x); empty if it is not."""
    calls = readers.of(tensor)
    if len(calls) != 2 or readers.as_output(tensor):
        return ()
    for gate, product in (calls, calls[::-1]):
        if (
            _plain(_named(gate.layer)) == "sigmoid"
            and _plain(_named(product.layer)) == "multiply"
            and readers.alone(gate.outputs[0]) is product
            and len(product.inputs) == 2
        ):
            return gate, product
    return ()


def _read_by(tensor: Any, readers: graph.Readers) -> str:
    """What reads a tensor, and an activation that comes only later."""
    names = [_described(call) for call in readers.of(tensor)]
    names += [f"the output of {readers.name}"] * readers.as_output(tensor)
    listed = [
        name if count == 1 else f"{name} ({count} times)"
        for name, count in Counter(names).items()
    ]
    said = f"read by {', '.join(listed)}"
    between, one = [], readers.alone(tensor)
    while one and _weightless(one) and not activation(one):
        between.append(_described(one))
        one = readers.alone(one.outputs[0])
    if one and between and activation(one):
        label = f"{one.layer.name} ({activation(one)})"
        said += f"; {label} comes only after {', '.join(between)}"
    return said


def _described(call: graph.Call) -> str:
    """A layer by name, with its class unless the name says it."""
    name, kind = call.layer.name, type(call.layer).__name__
    if kind == "Activation":
        kind = f"Activation({_named(call.layer)})"
    hidden = _plain(_named(call.layer)) in _plain(name)
    return name if hidden else f"{name} ({kind})"


def _weightless(call: graph.Call) -> bool:
    one = len(call.inputs) == len(call.outputs) == 1
    return one and not getattr(call.layer, "weights", [])


def _keeps_layout(call: graph.Call, kit: graph.Kit) -> bool:
    if isinstance(call.layer, kit.normalizations) or activation(call):
        return True
    name = _plain(_named(call.layer))
    return name in _KEEP_LAYOUT or name in _STAYING or _passes(call)
