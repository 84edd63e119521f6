"""Finds the normalization layers of a model, and what follows them.

A normalization and an activation belong together if the activation is the only
reader of the normalization's output. Because a layer can be used more than
once, pairs consist of calls. A layer is one site, which includes the activation
only if every use has one.
"""

import dataclasses
from typing import Any

from evonorm_tf.conversion import activations, graph, layer_patterns


@dataclasses.dataclass(frozen=True)
class Site:
    """A normalization layer in a model.

    Attributes:
      name: the layer's name, preceded by those of the enclosing models:
        "backbone/conv1_bn".
      kind: the layer's class, "BatchNormalization".
      layer: the layer.
      shape: shape of its input, such as [N, H, W, C], with None if unknown. Of
        several uses, that of the first, or of the first on a map of one pixel.
      axis: the channel axis, -1 or 1.
      channels: C; None if unknown.
      activation: the activations that belong to it, without repetitions:
        "conv1_relu (relu)"; empty if there are none.
      why: if there is no activation, what reads the output instead.
      stem: whether it is the first normalization and directly follows a
        convolution.
      obstacle: why it cannot be replaced; empty if it can.
    """

    name: str
    kind: str
    layer: Any
    shape: tuple[int | None, ...] = ()
    axis: int = -1
    channels: int | None = None
    activation: tuple[str, ...] = ()
    why: str = ""
    stem: bool = False
    obstacle: str = ""


@dataclasses.dataclass
class Found:
    """The sites of a model and of its nested models.

    Attributes:
      sites: layers in the order of the graph, then composite layers.
      absorbed: for each site's layer, by id, the keys of the calls that its
        replacement makes unnecessary.
      followers: for each site's layer, by id, the activation after its first
        use.
      activations: (name, what, why) of activations that belong to no site.
      unknown: (name, what, why) of normalizations that are not replaced.
    """

    sites: list[Site] = dataclasses.field(default_factory=list)
    absorbed: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    followers: dict[int, activations.Follower] = dataclasses.field(
        default_factory=dict
    )
    activations: list[tuple[str, str, str]] = dataclasses.field(
        default_factory=list
    )
    unknown: list[tuple[str, str, str]] = dataclasses.field(
        default_factory=list
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Use:
    """One call of a normalization layer, and the activations after it.

    `layout` is (layer, data_format) of the nearest preceding layer with one.
    """

    name: str
    call: graph.Call
    followers: tuple[activations.Follower, ...]
    why: str
    stem: bool
    layout: tuple[str, str]


def find(model: Any, kit: graph.Kit) -> Found:
    """Finds all sites.

    Args:
      model: a functional or sequential model.
      kit: its Keras.

    Returns:
      The sites, including those that cannot be replaced.
    """
    walk = _Walk(kit)
    walk.visit(model, "", True)
    found = Found()
    for key, uses in walk.uses.items():
        found.sites.append(_site(uses, kit))
        if all(use.followers for use in uses):
            found.followers[key] = uses[0].followers[0]
            found.absorbed[key] = {
                call.key
                for use in uses
                for follower in use.followers
                for call in follower.calls
            }
    found.sites += walk.composites.values()
    found.unknown = list(walk.unknown.values())
    taken = set().union(*found.absorbed.values())
    found.activations = [
        tuple(entry) for key, *entry in walk.loose if key not in taken
    ]
    return found


class _Walk:
    """Traverses a model and its nested models, each of them once."""

    def __init__(self, kit: graph.Kit):
        self.uses: dict[int, list[_Use]] = {}
        self.composites: dict[int, Site] = {}
        self.unknown: dict[int, tuple[str, str, str]] = {}
        self.loose: list[tuple[int, str, str, str]] = []
        self._kit = kit
        self._normalizes: dict[int, bool] = {}

    def visit(self, model: Any, prefix: str, first: bool) -> bool:
        """Returns whether the model normalizes; `first`: none precedes it."""
        if id(model) in self._normalizes:
            return self._normalizes[id(model)]
        readers = graph.Readers(model)
        after: set[int] = set()  # Tensors that depend on a normalization.
        normalizes = False
        for call in readers.calls:
            fresh = first and after.isdisjoint(id(t) for t in call.inputs)
            found = self._take(call, prefix, fresh, readers)
            normalizes = normalizes or found
            if found or not fresh:
                after.update(id(t) for t in call.outputs)
        self._normalizes[id(model)] = normalizes
        return normalizes

    def _take(self, call, prefix, fresh, readers) -> bool:
        """Records one call; returns whether it normalizes."""
        layer, kit, name = call.layer, self._kit, prefix + call.layer.name
        if kit.is_normalization(layer):
            use = self._use(call, name, fresh, readers)
            self.uses.setdefault(id(layer), []).append(use)
            return True
        if kit.is_graph(layer):
            return self.visit(layer, f"{name}/", fresh)
        if self._note_unknown(layer, name):
            return True
        self._note_activation(call, name, readers)
        obstacle = layer_patterns.composite(layer, kit)
        if obstacle:
            kind = type(layer).__name__
            site = Site(name, kind, layer, obstacle=obstacle)
            self.composites.setdefault(id(layer), site)
        return bool(obstacle)

    def _note_unknown(self, layer: Any, name: str) -> bool:
        """Records a normalization that stays, also inside a layer."""
        known = layer_patterns.composite(layer, self._kit)
        inner = [] if known else graph.inner_layers(layer)
        for one in (layer, *inner):
            why = layer_patterns.unknown_normalization(one, self._kit)
            if why:
                full = name if one is layer else f"{name}/{one.name}"
                kind = activations.function_name(one)
                self.unknown.setdefault(id(one), (full, kind, why))
        return id(layer) in self.unknown

    def _note_activation(
        self, call: graph.Call, name: str, readers: graph.Readers
    ) -> None:
        """Records an activation, in case it belongs to no site."""
        layer = call.layer
        maker = readers.maker(call.inputs[0]).layer if call.inputs else None
        kind, own = activations.named(call), activations.of_argument(layer)
        stays, why = activations.staying(call)
        if kind:
            self.loose.append((call.key, name, kind, f"reads {maker.name}"))
        elif self._kit.is_normalization(maker) and stays:
            why = f"reads {maker.name}; {why}"
            self.loose.append((call.key, name, stays, why))
        elif own:
            what = f"{type(layer).__name__}({own})"
            why = "an argument of the layer: acts on the layer's output"
            self.loose.append((call.key, name, what, why))

    def _use(self, call, name, fresh, readers) -> _Use:
        """Returns a use for one call of a normalization layer."""
        (before,) = (readers.maker(tensor) for tensor in call.inputs[:1])
        followers, why = (), ""
        if not layer_patterns.has_activation(call.layer, self._kit):
            followers, why = layer_patterns.follower(call, readers)
            activated = layer_patterns.activated(before)
            if not followers and activated:
                why += f"; activated before: {activated}"
        stem = fresh and layer_patterns.is_convolution(before.layer)
        layout = layer_patterns.layout(call.inputs[0], readers, self._kit)
        return _Use(name, call, followers, why, stem, layout)


def _site(uses: list[_Use], kit: graph.Kit) -> Site:
    call = uses[0].call
    shapes = [tuple(use.call.inputs[0].shape) for use in uses]
    axis, obstacle = layer_patterns.channel_axis(call.layer, len(shapes[0]))
    # What a layer needs of its input, it needs at each use.
    shape = min(
        shapes,
        key=lambda one: (len(one), not layer_patterns.one_pixel(one, axis)),
    )
    if any(len(use.call.inputs) > 1 for use in uses):
        obstacle = "it is called with a mask, gamma or beta of its own"
    elif not obstacle and shape[axis] is None:
        obstacle = "its number of channels is unknown"
    obstacle = obstacle or _misplaced(uses, axis, len(shape))
    followers = [use.followers for use in uses]
    why = "; ".join(dict.fromkeys(use.why for use in uses if use.why))
    activation: tuple[str, ...] = ()
    if layer_patterns.has_activation(call.layer, kit):
        activation = (call.layer.row.name,)
    elif all(followers):
        activation = tuple(
            dict.fromkeys(f.label for some in followers for f in some)
        )
    elif any(followers):
        why = f"only some of its {len(uses)} uses have an activation: {why}"
    return Site(
        name=uses[0].name,
        kind=type(call.layer).__name__,
        layer=call.layer,
        shape=shape,
        axis=axis,
        channels=None if obstacle else shape[axis],
        activation=activation,
        why=why,
        stem=any(use.stem for use in uses),
        obstacle=obstacle,
    )


def _misplaced(uses: list[_Use], axis: int, rank: int) -> str:
    """Describes a preceding layer with its channels on another axis; or ""."""
    if rank < 3:
        return ""
    wanted = "channels_last" if axis == -1 else "channels_first"
    for use in uses:
        before, data_format = use.layout
        if data_format and data_format != wanted:
            return (
                f"its axis={use.call.layer.axis} is not that of the channels: "
                f"{before}, before it, has {data_format=}"
            )
    return ""
