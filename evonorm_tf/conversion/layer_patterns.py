"""What a layer is, and what surrounds it: by class, name and attributes."""

from collections import Counter
from typing import Any

from evonorm_tf.conversion import activations, graph

# Layers whose output has its channels on the same axis as the input.
_KEEP_LAYOUT = activations.names(
    """add subtract multiply average maximum minimum concatenate identity
    gaussiannoise rescaling dropout gaussiandropout alphadropout
    normalization"""
)
# Layers with "norm" in their names that do not normalize activations.
_NO_NORMALIZATION = frozenset(
    ["normalization", "spectralnormalization", "norm"]
)


def follower(
    call: graph.Call, readers: graph.Readers
) -> tuple[tuple[activations.Follower, ...], str]:
    """Returns the activations that are the only readers of a call's output.

    There are several if each reader of the output is an activation; a norm-act
    layer replaces all of them. If there is none, returns what reads the output
    instead.
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
    """Returns whether a layer of this library has an activation."""
    return isinstance(layer, kit.ours.NormAct) and layer.activation


def is_convolution(layer: Any) -> bool:
    """Returns whether a layer is a convolution, by its class."""
    return hasattr(layer, "kernel_size")


def unknown_normalization(layer: Any, kit: graph.Kit) -> str:
    """Returns why a normalization is not replaced; empty for other layers.

    This is decided by the class: one that conversion does not know, or a
    custom class whose computation differs from that of its base class.
    """
    if kit.is_normalization(layer):
        return ""
    if isinstance(layer, kit.normalizations):
        return (
            "a class with its own computation, "
            f"{', '.join(kit.own_methods(layer))}: a norm-act layer may "
            "compute something different"
        )
    name = activations.plain(activations.function_name(layer))
    if "norm" in name and name not in _NO_NORMALIZATION:
        return "a normalization that convert does not know"
    return ""


def channel_axis(layer: Any, rank: int) -> tuple[int, str]:
    """Returns the channel axis of a layer (-1 or 1), and what is wrong."""
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


def one_pixel(shape: tuple[int | None, ...], axis: int) -> bool:
    """Returns whether an input's shape is that of maps of one pixel."""
    pixels = shape[1:-1] if axis == -1 else shape[2:]
    return bool(pixels) and set(pixels) == {1}


def layout(
    tensor: Any, readers: graph.Readers, kit: graph.Kit
) -> tuple[str, str]:
    """Returns (layer, data_format) of the nearest preceding layer with one.

    Empty if there is none, or if a layer in between may move the channels.
    """
    rank, seen, queue = len(tensor.shape), set(), [tensor]
    while queue:
        tensor = queue.pop(0)
        maker = readers.maker(tensor)
        data_format = getattr(maker.layer, "data_format", None)
        if data_format in ("channels_last", "channels_first"):
            known = len(tensor.shape) == rank
            return (described(maker), data_format) if known else ("", "")
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
    """Describes hidden normalization in a layer; empty if there is none."""
    inside = [
        one.name
        for one in graph.inner_layers(layer)
        if isinstance(one, kit.normalizations)
    ]
    if not inside:
        return ""
    model = isinstance(layer, kit.keras.Model)
    what = "subclassed model" if model else "layer"
    return f"a {what} with inaccessible normalization: {', '.join(inside)}"


def activated(call: graph.Call) -> str:
    """Describes a call whose output comes from an activation; or ""."""
    name, own = call.layer.name, activations.of_argument(call.layer)
    if activations.named(call):
        return f"{name} ({activations.named(call)})"
    return f"{name} ({type(call.layer).__name__}({own}))" if own else ""


def described(call: graph.Call) -> str:
    """Names a layer, with its class unless the name contains it."""
    name, kind = call.layer.name, type(call.layer).__name__
    function = activations.function_name(call.layer)
    if kind == "Activation":
        kind = f"Activation({function})"
    hidden = activations.plain(function) in activations.plain(name)
    return name if hidden else f"{name} ({kind})"


def _read_by(tensor: Any, readers: graph.Readers) -> str:
    """Describes what reads a tensor, and an activation that comes later."""
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
    by_name = name in _KEEP_LAYOUT | activations.STAYING
    return by_name or activations.is_identity(call)
