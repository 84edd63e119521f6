"""What a layer is, and what stands around it: by class, name, attributes."""

from collections import Counter
from typing import Any

from evonorm_tf.conversion import activations, graph

# Layers whose output has its channels on the axis where the input has them.
_KEEP_LAYOUT = activations.names(
    """add subtract multiply average maximum minimum concatenate identity
    gaussiannoise rescaling dropout gaussiandropout alphadropout
    normalization"""
)
# "norm" in their names, and yet they normalize no activations.
_NO_NORMALIZATION = frozenset(
    ["normalization", "spectralnormalization", "norm"]
)


def follower(
    call: graph.Call, readers: graph.Readers
) -> tuple[tuple[activations.Follower, ...], str]:
    """The activations that alone read a call's output, or what does instead.

    Several where each reader of the output is one: a norm-act layer stands
    for all of them.
    """
    (tensor,) = call.outputs
    found = activations.followers(tensor, readers)
    if found is not None:
        return found, ""
    one = readers.alone(tensor)
    while one and activations.is_identity(one):
        (tensor,) = one.outputs
        one = readers.alone(tensor)
    return (), _read_by(tensor, readers)


def has_activation(layer: Any, kit: graph.Kit) -> bool:
    """Whether a normalization layer activates: one of our own layers."""
    return isinstance(layer, kit.ours.NormAct) and layer.activation


def is_convolution(layer: Any) -> bool:
    return hasattr(layer, "kernel_size")


def unknown_normalization(layer: Any, kit: graph.Kit) -> str:
    """Why a layer that normalizes is not replaced; empty if it does not.

    By its class: one that no rule of conversion knows, or one of somebody's
    own that computes otherwise than the class it is derived from.
    """
    if kit.is_normalization(layer):
        return ""
    if isinstance(layer, kit.normalizations):
        return (
            "a class with computations of its own, "
            f"{', '.join(kit.own_methods(layer))}: what a norm-act layer "
            "computes may differ from it"
        )
    name = activations.plain(activations.function_name(layer))
    if "norm" in name and name not in _NO_NORMALIZATION:
        return "a normalization that conversion does not know"
    return ""


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
            return (described(maker), form) if known else ("", "")
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


def activated(call: graph.Call) -> str:
    """What a call is if its output comes from an activation; or empty."""
    name, own = call.layer.name, activations.of_argument(call.layer)
    if activations.named(call):
        return f"{name} ({activations.named(call)})"
    return f"{name} ({type(call.layer).__name__}({own}))" if own else ""


def described(call: graph.Call) -> str:
    """A layer by name, with its class unless the name says it."""
    name, kind = call.layer.name, type(call.layer).__name__
    function = activations.function_name(call.layer)
    if kind == "Activation":
        kind = f"Activation({function})"
    hidden = activations.plain(function) in activations.plain(name)
    return name if hidden else f"{name} ({kind})"


def _read_by(tensor: Any, readers: graph.Readers) -> str:
    """What reads a tensor, and an activation that comes only later."""
    names = [described(call) for call in readers.of(tensor)]
    names += [f"the output of {readers.name}"] * readers.as_output(tensor)
    listed = [
        name if count == 1 else f"{name} ({count} times)"
        for name, count in Counter(names).items()
    ]
    said = f"read by {', '.join(listed)}"
    between, one = [], readers.alone(tensor)
    while one and _weightless(one) and not activations.named(one):
        between.append(described(one))
        one = readers.alone(one.outputs[0])
    if one and between and activations.named(one):
        label = f"{one.layer.name} ({activations.named(one)})"
        said += f"; {label} comes only after {', '.join(between)}"
    return said


def _weightless(call: graph.Call) -> bool:
    one = len(call.inputs) == len(call.outputs) == 1
    return one and not getattr(call.layer, "weights", [])


def _keeps_layout(call: graph.Call, kit: graph.Kit) -> bool:
    if isinstance(call.layer, kit.normalizations) or activations.named(call):
        return True
    name = activations.plain(activations.function_name(call.layer))
    by_name = name in _KEEP_LAYOUT or activations.stays_by_name(name)
    return by_name or activations.is_identity(call)
