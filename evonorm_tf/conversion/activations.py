"""Finds activations in a model's graph: single layers or several operations.

`ReLU()` is recognized by its name. `x * sigmoid(x)`, `x * relu6(x + 3) / 6` or
`where(x > 0, x, a * x)` consist of several calls: the operations between a
tensor and a later one are an activation if they are element-wise and have the
values of a known activation at points on both sides of zero. A `Lambda`, and a
function or class of the user that only has the name of an activation, have to
have these values at every position of an input of the shape that they read.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from evonorm_tf import validation
from evonorm_tf.conversion import graph, structures


def names(text: str) -> frozenset[str]:
    """Splits a text into a set of names."""
    return frozenset(text.split())


# Activations that a norm-act layer can replace, by name without case and "_".
# Bounded ones (sigmoid, tanh, softmax) have a different purpose and stay.
_TAKEN = names(
    """relu relu6 leakyrelu thresholdedrelu prelu elu selu celu gelu softplus
    silu swish hardsilu hardswish mish"""
)
STAYING = names(
    """sigmoid hardsigmoid logsigmoid tanh hardtanh softmax logsoftmax
    sparsemax softsign tanhshrink"""
)
# Operations that compute every element from the same elements of the inputs.
_ELEMENT_WISE = names(
    """add subtract multiply divide truediv truedivide maximum minimum negative
    where wherev2 greater greaterequal less lessequal abs absolute square pow
    power exp expm1 log1p sqrt erf clip clipbyvalue cast sign relu relu6
    leakyrelu elu selu softplus sigmoid hardsigmoid tanh silu swish
    gelu"""
)
# `_probe` finds out what it computes for inputs of up to so many elements.
_LAMBDA, _MOST_PROBED = "lambda", 1 << 23
# Maximum number of operations of an activation; Mish has three, GELU by tanh
# eight.
_MOST_CALLS = 12
_POINTS = np.array(
    [-9, -7, -5, -3.5, -3, -2, -1, -0.5, -0.25]
    + [0, 0.25, 0.5, 1, 2, 3, 3.5, 5, 7, 9]
)


@dataclasses.dataclass(frozen=True)
class Follower:
    """An activation after a normalization, "act (ReLU)", and its calls."""

    label: str
    calls: tuple[graph.Call, ...]


def named(call: graph.Call) -> str:
    """Returns the name of the activation that a call is, or an empty string.

    Recognizes layers (`ReLU`, `Activation("silu")`), Keras 3 operations
    (`ops.relu`), TensorFlow functions in tf_keras models (`tf.nn.relu`), and
    the maximum of a tensor and 0 by either. A function or class of the user
    may compute anything under such a name, so its values decide.
    """
    name = function_name(call.layer)
    if plain(name) == "maximum" and _values(call, (call,)) == "relu":
        return "maximum(x, 0)"
    if plain(name) not in _TAKEN:
        return ""
    known = not _is_custom(call.layer) or _values(call, (call,))
    return name if known else ""


def _is_custom(layer: Any) -> bool:
    """Returns whether a layer, or its activation, is a user's own."""
    function = getattr(layer, "activation", None)
    return not _of_keras(type(layer) if function is None else function)


def staying(call: graph.Call) -> tuple[str, str]:
    """Returns (name, reason) of an activation that stays, or ("", "")."""
    name = function_name(call.layer)
    if named(call) or is_identity(call):
        return "", ""
    if plain(name) in _TAKEN:
        if getattr(call.layer, "weights", []):
            return name, "a layer with its own weights, which would be lost"
        return name, "a custom one with other values than those known"
    known = plain(name) in STAYING
    if known or type(call.layer).__name__ == "Activation":
        return name, "no norm-act layer can replace it"
    return "", ""


def of_argument(layer: Any) -> str:
    """Returns the name of a layer's `activation=` argument, if it has one."""
    function = getattr(layer, "activation", None)
    name = _function(function) if callable(function) else ""
    return name if plain(name) in _TAKEN else ""


def is_identity(call: graph.Call) -> bool:
    """Returns whether a call returns its input."""
    layer = call.layer
    if len(call.inputs) != 1:
        return False
    if type(layer).__name__ != "Activation":
        return function_name(layer).lower() == "identity"
    # A custom function may have the name of one of Keras's.
    linear = _function(layer.activation) == "linear"
    return linear and _of_keras(layer.activation)


def followers(
    tensor: Any, readers: graph.Readers
) -> tuple[Follower, ...] | None:
    """Returns the activations that are the only readers of a tensor.

    Looks through identities, which stay.

    Args:
      tensor: the output of a normalization.
      readers: those of its model.

    Returns:
      The activations; None if anything else reads the tensor, or nothing does.
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
    """Returns candidates that share no call and together cover `calls`."""
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
    """Returns all activations of a tensor, those with fewer calls first."""
    # For each tensor that depends on this one alone, the calls in between.
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
        name = (len(cone) == 1 and named(call)) or _values(call, cone)
        if name:
            made.append(Follower(f"{call.layer.name} ({name})", cone))
    return sorted(made, key=lambda one: len(one.calls))


def _closed(
    cone: tuple[graph.Call, ...], last: graph.Call, readers: graph.Readers
) -> bool:
    """Returns whether nothing else reads the intermediate results of `last`."""
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
    name = plain(function_name(call.layer))
    if _is_custom(call.layer) and name not in _TAKEN:
        return False
    constants = [
        leaf
        for leaf in structures.flatten(call.arguments)
        if structures.is_constant(leaf)
    ]
    scalars = all(np.size(one) == 1 for one in constants)
    return scalars and (name in _ELEMENT_WISE or _is_opaque(call.layer))


def _is_opaque(layer: Any) -> bool:
    """Returns whether a layer may mix positions, which `_probe` finds out."""
    return plain(function_name(layer)) == _LAMBDA or _is_custom(layer)


def compute(follower: Follower, x: Any) -> Any:
    """Applies an activation to a tensor.

    A PReLU is treated as a ReLU, because its slopes have the shape of its own
    inputs.
    """
    if any(getattr(call.layer, "weights", []) for call in follower.calls):
        return np.maximum(np.asarray(x), 0)
    return _compute(follower.calls, x)


def _compute(cone: tuple[graph.Call, ...], x: Any) -> Any:
    """Returns the output of the last call, computed from one tensor."""
    tensors = {id(_start(cone)): x}
    for call in cone:
        args, kwargs = structures.map_structure(
            lambda leaf: tensors.get(id(leaf), leaf), call.arguments
        )
        (output,) = call.outputs
        tensors[id(output)] = call.layer(*args, **kwargs)
    return tensors[id(output)]


def _start(cone: tuple[graph.Call, ...]) -> Any:
    """Returns the single input of some calls; None if there are several."""
    made = {id(tensor) for call in cone for tensor in call.outputs}
    start = {
        id(tensor): tensor
        for call in cone
        for tensor in call.inputs
        if id(tensor) not in made
    }
    return next(iter(start.values())) if len(start) == 1 else None


def _values(last: graph.Call, cone: tuple[graph.Call, ...]) -> str:
    """Returns the activation with the values of `last`, or an empty string.

    Args:
      last: the call whose output is compared.
      cone: the element-wise calls from one tensor to it, in order.
    """
    if not all(_element_wise(call) for call in cone) or cone[-1] is not last:
        return ""
    symbol = _start(cone)
    if symbol is None:
        return ""
    dtype = validation.dtype_name(symbol)
    if not dtype.startswith(("float", "bfloat")):
        return ""
    index = _probe(cone, symbol)
    if index is None:
        return ""
    x = structures.constant_like(_POINTS[index], symbol)
    y = np.asarray(_compute(cone, x)).astype(np.float64)
    if y.shape != index.shape:
        return ""
    tolerance = 5e-2 if dtype in ("float16", "bfloat16") else 2e-3
    slope = -y[_POINTS[index] == -1][0]
    known = dict(_KNOWN)
    if 1e-3 < abs(slope) < 1.0:
        known["leaky_relu"] = np.where(_POINTS > 0, _POINTS, slope * _POINTS)
    for name, values in known.items():
        if np.allclose(y, values[index], rtol=tolerance, atol=tolerance):
            return name
    return ""


def _probe(cone: tuple[graph.Call, ...], symbol: Any) -> np.ndarray | None:
    """Returns indices into _POINTS, in a shape that the calls accept.

    Every point once, on an axis of its own, shows what element-wise
    operations compute. A `Lambda` or a custom function could mix positions:
    `x * sigmoid(mean(x))` is a SiLU of one pixel. It gets the points in random
    order in samples of the shape that it reads, or None if that is too small
    for all points, or too large.
    """
    count, rank = len(_POINTS), len(symbol.shape)
    if not any(_is_opaque(call.layer) for call in cone):
        return np.arange(count).reshape([count] + [1] * (rank - 1))
    batch, *rest = symbol.shape
    rest = [size or 8 for size in rest]
    shape = [batch or max(2, -(-count // math.prod(rest))), *rest]
    if not count <= math.prod(shape) <= _MOST_PROBED:
        return None
    ordered = np.resize(np.arange(count), math.prod(shape))
    return np.random.default_rng(0).permutation(ordered).reshape(shape)


def _known() -> dict[str, np.ndarray]:
    """Returns the values of activations at the points, by name or formula."""
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
    """Returns the name of a layer's function, or else of its class."""
    kind = type(layer).__name__
    if kind == "Activation":
        return _function(layer.activation)
    if kind == "TFOpLambda":
        return layer.get_config()["function"].split(".")[-1]
    return kind


def plain(name: str) -> str:
    """Returns a name in lower case and without "_"."""
    return name.lower().replace("_", "")


def _function(function: Any) -> str:
    # An activation can also be a layer: Activation(ReLU()).
    return getattr(function, "__name__", type(function).__name__)


def _of_keras(thing: Any) -> bool:
    """Returns whether an object or class belongs to TensorFlow or a Keras."""
    home = getattr(thing, "__module__", None) or type(thing).__module__
    return home.split(".")[0] in ("keras", "tf_keras", "tensorflow")
