"""What a model has to replace: its normalization layers, and what follows.

A normalization and an activation are a pair where the activation is all that
reads the normalization's output. A layer can be used more than once, so pairs
are of calls; one layer makes one site, with the activation only if every use
has one.
"""

import dataclasses
from collections import Counter
from typing import Any

from evonorm_tf.conversion import graph, kinds


@dataclasses.dataclass(frozen=True)
class Site:
    """A layer that normalizes.

    Attributes:
      name: the layer's, after those of the models it is nested in:
        "backbone/conv1_bn".
      kind: the layer's class, "BatchNormalization".
      layer: the layer.
      shape: of its input, [N, H, W, C] or what it has, with None.
      axis: the channel axis, -1 or 1.
      channels: C; None where unknown.
      activation: the activations taken with it, without repeats:
        "conv1_relu (relu)"; empty for a site without one.
      why: where there is none, what reads the site instead.
      stem: whether it is the first: right after a convolution, with no
        normalization before it.
      obstacle: why it cannot be replaced; empty if nothing is known.
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
    """What was found in a model and in those nested in it.

    Attributes:
      sites: layers in the order of the graph, then composite ones.
      absorbed: of a site's layer, by id, the keys of the calls that its
        replacement makes superfluous.
      activations: (name, what, why) of those outside of all sites.
    """

    sites: list[Site] = dataclasses.field(default_factory=list)
    absorbed: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    activations: list[tuple[str, str, str]] = dataclasses.field(
        default_factory=list
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Use:
    """One call of a normalization layer; `follower` is its activation's."""

    name: str
    call: graph.Call
    follower: graph.Call | None
    why: str
    stem: bool


def find(model: Any, kit: graph.Kit) -> Found:
    """Finds all sites.

    Args:
      model: a functional or sequential model.
      kit: its Keras.

    Returns:
      The sites, also those that cannot be replaced.
    """
    walk = _Walk(kit)
    walk.visit(model, "", True)
    found = Found()
    for key, uses in walk.uses.items():
        followers = [use.follower for use in uses]
        found.sites.append(_site(uses, kit))
        if all(followers):
            found.absorbed[key] = {follower.key for follower in followers}
    found.sites += walk.composites.values()
    taken = set().union(*found.absorbed.values())
    found.activations = [
        tuple(entry) for key, *entry in walk.loose if key not in taken
    ]
    return found


class _Walk:
    """Goes through a model and those nested in it, each of them once."""

    def __init__(self, kit: graph.Kit):
        self.uses: dict[int, list[_Use]] = {}
        self.composites: dict[int, Site] = {}
        self.loose: list[tuple[int, str, str, str]] = []
        self._kit = kit
        self._normalizes: dict[int, bool] = {}

    def visit(self, model: Any, prefix: str, first: bool) -> bool:
        """Whether the model normalizes; `first`: nothing before it does."""
        if id(model) in self._normalizes:
            return self._normalizes[id(model)]
        readers = _Readers(model)
        after: set[int] = set()  # Tensors that a normalization had a part in.
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
        """Notes one call; whether it normalizes."""
        layer, kit, name = call.layer, self._kit, prefix + call.layer.name
        if isinstance(layer, kit.normalizations):
            follower, why = None, ""
            if not kinds.has_activation(layer, kit):
                follower, why = readers.follower(call)
            stem = fresh and kinds.is_convolution(readers.maker(call))
            use = _Use(name, call, follower, why, stem)
            self.uses.setdefault(id(layer), []).append(use)
            return True
        if kit.is_graph(layer):
            return self.visit(layer, f"{name}/", fresh)
        if kinds.activation(layer):
            why = f"reads {readers.maker(call).name}"
            self.loose.append((call.key, name, kinds.activation(layer), why))
        elif kinds.own_activation(layer):
            what = f"{type(layer).__name__}({kinds.own_activation(layer)})"
            why = "an argument of the layer: acts on what the layer gives"
            self.loose.append((call.key, name, what, why))
        obstacle = kinds.composite(layer, kit)
        if obstacle:
            kind = type(layer).__name__
            site = Site(name, kind, layer, obstacle=obstacle)
            self.composites.setdefault(id(layer), site)
        return bool(obstacle)


class _Readers:
    """Who makes and who reads the tensors of one model's graph."""

    def __init__(self, model: Any):
        # Kept, for an id is a tensor's only while the tensor lives.
        self.calls = graph.calls(model)
        self._readers: dict[int, list[graph.Call]] = {}
        self._makers: dict[int, graph.Call] = {}
        for call in self.calls:
            for tensor in call.inputs:
                self._readers.setdefault(id(tensor), []).append(call)
            for tensor in call.outputs:
                self._makers[id(tensor)] = call
        self._outputs = list(graph.graph_of(model).outputs)
        self._name = model.name

    def maker(self, call: graph.Call) -> Any:
        """The layer whose output the call reads first."""
        return self._makers[id(call.inputs[0])].layer

    def follower(self, call: graph.Call) -> tuple[graph.Call | None, str]:
        """The activation that alone reads a call's output, or why none is."""
        (tensor,) = call.outputs
        readers = self._readers.get(id(tensor), [])
        names = [reader.layer.name for reader in readers]
        names += [
            f"the output of {self._name}"
            for output in self._outputs
            if output is tensor
        ]
        if len(names) == 1 and readers and kinds.activation(readers[0].layer):
            return readers[0], ""
        listed = [
            name if count == 1 else f"{name} ({count} times)"
            for name, count in Counter(names).items()
        ]
        return None, f"read by {', '.join(listed)}"


def _site(uses: list[_Use], kit: graph.Kit) -> Site:
    call = uses[0].call
    shape = tuple(call.inputs[0].shape)
    axis, obstacle = kinds.channel_axis(call.layer, len(shape))
    if any(len(use.call.inputs) > 1 for use in uses):
        obstacle = "it is called with a mask, gamma or beta of its own"
    elif not obstacle and shape[axis] is None:
        obstacle = "its number of channels is unknown"
    followers = [use.follower for use in uses]
    why = "; ".join(dict.fromkeys(use.why for use in uses if use.why))
    activation: tuple[str, ...] = ()
    if kinds.has_activation(call.layer, kit):
        activation = (call.layer.row.name,)
    elif all(followers):
        names = [
            f"{f.layer.name} ({kinds.activation(f.layer)})" for f in followers
        ]
        activation = tuple(dict.fromkeys(names))
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
