"""Activations in a model's graph, single layers or several operations.

`ReLU()` is known by its name. `x * sigmoid(x)`, `x * relu6(x + 3) / 6` or
`where(x > 0, x, a * x)` are several calls: what lies between a tensor and a
later one is an activation if it is element-wise and has the values of a known
one, which is tried at points on both sides of zero.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from evonorm_tf.conversion import graph, structures


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Activations that a norm-act layer stands for, by name without case and "_".
# Bounded ones (sigmoid, tanh, softmax) do another thing and stay.
_TAKEN = names(
    """relu relu6 leakyrelu thresholdedrelu prelu elu selu celu gelu softplus
    silu swish hardsilu hardswish mish"""
)
_STAYING = names(
    """sigmoid hardsigmoid logsigmoid tanh hardtanh softmax logsoftmax
    sparsemax softsign tanhshrink"""
)
# What computes every element from the same elements of its inputs.
_ELEMENT_WISE = names(
    """add subtract multiply divide truediv truedivide maximum minimum negative
    where wherev2 greater greaterequal less lessequal abs absolute square pow
    power exp expm1 log1p sqrt erf clip clipbyvalue cast sign relu relu6
    leakyrelu elu selu softplus sigmoid hardsigmoid tanh silu swish
    gelu"""
)
# Operations between a tensor and the activation's output, at most; Mish has
# three, GELU as a tanh eight.
_MOST_CALLS = 12
_POINTS = np.array(
    [-9, -7, -5, -3.5, -3, -2, -1, -0.5, -0.25]
    + [0, 0.25, 0.5, 1, 2, 3, 3.5, 5, 7, 9]
)


@dataclasses.dataclass(frozen=True)
class Follower:
    """An activation after a normalization: "act (ReLU)", and its calls."""

    label: str
    calls: tuple[graph.Call, ...]


def named(call: graph.Call) -> str:
    """The name of the activation that a single call is; empty if it is none.

    Layers (`ReLU`, `Activation("silu")`), Keras 3 operations (`ops.relu`),
    TensorFlow functions in tf_keras models (`tf.nn.relu`), and the maximum of
    a tensor and 0 by either.
    """
    name = function_name(call.layer)
    if plain(name) == "maximum" and _values(call, (call,)) == "relu":
        return "maximum(x, 0)"
    taken = plain(name) in _TAKEN and not own_weights(call.layer)
    return name if taken else ""


def own_weights(layer: Any) -> bool:
    """Whether somebody's own activation layer has weights: a slope, say."""
    return bool(getattr(layer, "weights", [])) and not _of_keras(type(layer))


def staying(call: graph.Call) -> tuple[str, str]:
    """(name, why it stays) of an activation that is not taken; or ("", "")."""
    name = function_name(call.layer)
    if named(call) or is_identity(call):
        return "", ""
    if plain(name) in _TAKEN:
        return name, "a layer with weights of its own, which would be lost"
    known = plain(name) in _STAYING
    if known or type(call.layer).__name__ == "Activation":
        return name, "no norm-act layer stands for it"
    return "", ""


def of_argument(layer: Any) -> str:
    """The name of an `activation=` argument: Conv2D, Dense, ...; or empty."""
    function = getattr(layer, "activation", None)
    name = _function(function) if callable(function) else ""
    return name if plain(name) in _TAKEN else ""


def is_identity(call: graph.Call) -> bool:
    """Whether a call returns its input."""
    layer = call.layer
    if len(call.inputs) != 1:
        return False
    if type(layer).__name__ != "Activation":
        return function_name(layer).lower() == "identity"
    # Of either Keras: a function of somebody else's may have that name.
    linear = _function(layer.activation) == "linear"
    return linear and _of_keras(layer.activation)


def followers(
    tensor: Any, readers: graph.Readers
) -> tuple[Follower, ...] | None:
    """The activations that together are all that reads a tensor.

    Looks through identities, which stay.

    Args:
      tensor: the output of a normalization.
      readers: of its model.

    Returns:
      None if something else reads the tensor, or nothing does.
    """
    found = list({call.key: call for call in readers.of(tensor)}.values())
    if not found or readers.as_output(tensor):
        return None
    through: list[Follower] = []
    for call in [one for one in found if is_identity(one)]:
        inner = followers(call.outputs[0], readers)
        if inner is None:
            return None
        through += inner
    rest = [call for call in found if not is_identity(call)]
    covered = _cover(rest, _candidates(tensor, readers))
    return None if covered is None else (*through, *covered)


def _cover(
    calls: list[graph.Call], candidates: list[Follower]
) -> tuple[Follower, ...] | None:
    """Candidates that share no call and have all of `calls` among theirs."""
    if not calls:
        return ()
    for one in candidates:
        if calls[0] not in one.calls:
            continue
        rest = [call for call in calls if call not in one.calls]
        others = [
            other
            for other in candidates
            if not set(other.calls) & set(one.calls)
        ]
        covered = _cover(rest, others)
        if covered is not None:
            return (one, *covered)
    return None


def _candidates(tensor: Any, readers: graph.Readers) -> list[Follower]:
    """All activations of a tensor, those of fewer calls first."""
    # Of each tensor that is computed from this one alone, by which calls.
    cones: dict[int, tuple[graph.Call, ...]] = {id(tensor): ()}
    found: dict[int, graph.Call] = {}
    queue = [tensor]
    while queue and len(found) < 4 * _MOST_CALLS:
        for call in readers.of(queue.pop(0)):
            inputs = [cones.get(id(one)) for one in call.inputs]
            known = call.key not in found and None not in inputs
            if not known or not (named(call) or _element_wise(call)):
                continue
            cone = dict.fromkeys([*itertools.chain(*inputs), call])
            if len(cone) > _MOST_CALLS:
                continue
            found[call.key] = call
            cones[id(call.outputs[0])] = tuple(cone)
            if _element_wise(call):
                queue.append(call.outputs[0])
    made = []
    for call in found.values():
        cone = cones[id(call.outputs[0])]
        if not _closed(cone, call, readers):
            continue
        name = named(call) if len(cone) == 1 else _values(call, cone)
        if name:
            made.append(Follower(f"{call.layer.name} ({name})", cone))
    return sorted(made, key=lambda one: len(one.calls))


def _closed(
    cone: tuple[graph.Call, ...], last: graph.Call, readers: graph.Readers
) -> bool:
    """Whether nothing outside reads what is computed on the way to `last`."""
    return all(
        reader in cone
        for call in cone
        if call is not last
        for output in call.outputs
        for reader in readers.of(output)
    ) and not any(
        readers.as_output(output)
        for call in cone
        if call is not last
        for output in call.outputs
    )


def _element_wise(call: graph.Call) -> bool:
    if len(call.outputs) != 1 or getattr(call.layer, "weights", []):
        return False
    function = getattr(call.layer, "activation", None)
    if not _of_keras(type(call.layer) if function is None else function):
        return False
    constants = [
        leaf
        for leaf in structures.flatten(call.arguments)
        if structures.is_constant(leaf)
    ]
    scalars = all(np.size(one) == 1 for one in constants)
    return plain(function_name(call.layer)) in _ELEMENT_WISE and scalars


def compute(follower: Follower, x: Any) -> Any:
    """What an activation makes of a tensor.

    One with weights, a PReLU, is taken for a ReLU: its slopes have the size
    of its own maps.
    """
    if any(getattr(call.layer, "weights", []) for call in follower.calls):
        return structures.relu(x)
    return _compute(follower.calls, x)


def _compute(cone: tuple[graph.Call, ...], x: Any) -> Any:
    """The output of the last of some calls, from one tensor on."""
    tensors = {id(_start(cone)): x}
    for call in cone:
        args, kwargs = structures.map_structure(
            lambda leaf: tensors.get(id(leaf), leaf), call.arguments
        )
        (output,) = call.outputs
        tensors[id(output)] = call.layer(*args, **kwargs)
    return tensors[id(output)]


def _start(cone: tuple[graph.Call, ...]) -> Any:
    """The one tensor that calls begin with; None if there are several."""
    made = {id(tensor) for call in cone for tensor in call.outputs}
    start = {
        id(tensor): tensor
        for call in cone
        for tensor in call.inputs
        if id(tensor) not in made
    }
    return next(iter(start.values())) if len(start) == 1 else None


def _values(last: graph.Call, cone: tuple[graph.Call, ...]) -> str:
    """The activation whose values `last` has; empty if it is none.

    Args:
      last: the call whose output it is.
      cone: the element-wise calls from one tensor to it, in order.
    """
    if not all(_element_wise(call) for call in cone) or cone[-1] is not last:
        return ""
    symbol = _start(cone)
    if symbol is None:
        return ""
    dtype = structures.dtype_name(symbol)
    if not dtype.startswith(("float", "bfloat")):
        return ""
    x = np.reshape(_POINTS, [-1] + [1] * (len(symbol.shape) - 1))
    values = _compute(cone, structures.constant_like(x, symbol))
    y = np.ravel(np.asarray(values).astype(np.float64))
    if y.shape != _POINTS.shape:
        return ""
    tolerance = 5e-2 if dtype in ("float16", "bfloat16") else 2e-3
    slope = -y[_POINTS == -1][0]
    known = dict(_KNOWN)
    if 1e-3 < abs(slope) < 1.0:
        known["leaky_relu"] = np.where(_POINTS > 0, _POINTS, slope * _POINTS)
    for name, values in known.items():
        if np.allclose(y, values, rtol=tolerance, atol=tolerance):
            return name
    return ""


def _known() -> dict[str, np.ndarray]:
    """The values of activations at the points, by name or formula."""
    x = _POINTS
    softplus = np.log1p(np.exp(x))
    erf = np.array([math.erf(value / math.sqrt(2.0)) for value in x])
    tanh = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
    negative = np.expm1(np.minimum(x, 0.0))
    return {
        "relu": np.maximum(x, 0.0),
        "relu6": np.clip(x, 0.0, 6.0),
        "x * relu6(x + 3) / 6": x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        "x * sigmoid(x)": x / (1.0 + np.exp(-x)),
        "x * sigmoid(1.702 * x)": x / (1.0 + np.exp(-1.702 * x)),
        "gelu": 0.5 * x * (1.0 + erf),
        "gelu, by tanh": 0.5 * x * (1.0 + tanh),
        "mish": x * np.tanh(softplus),
        "softplus": softplus,
        "elu": np.maximum(x, 0.0) + negative,
        "selu": 1.0507009873554805
        * (np.maximum(x, 0.0) + 1.6732632423543772 * negative),
        "relu(x) ** 2": np.maximum(x, 0.0) ** 2,
    }


_KNOWN = _known()


def function_name(layer: Any) -> str:
    """The function that a layer is, or else its class."""
    kind = type(layer).__name__
    if kind == "Activation":
        return _function(layer.activation)
    if kind == "TFOpLambda":
        return layer.get_config()["function"].split(".")[-1]
    return kind


def plain(name: str) -> str:
    """Without case and "_"."""
    return name.lower().replace("_", "")


def stays_by_name(name: str) -> bool:
    """Whether a plain name is that of a bounded activation."""
    return name in _STAYING


def _function(function: Any) -> str:
    # A layer can be an activation as well: Activation(ReLU()).
    return getattr(function, "__name__", type(function).__name__)


def _of_keras(thing: Any) -> bool:
    """Whether a class, function or object is of TensorFlow or a Keras."""
    home = getattr(thing, "__module__", None) or type(thing).__module__
    return home.split(".")[0] in ("keras", "tf_keras", "tensorflow")
