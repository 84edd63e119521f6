"""The graph of a functional or sequential model, of either Keras."""

import dataclasses
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from evonorm_tf.conversion import structures

# Methods of a layer's class that do not affect its computation.
_DESCRIBING = ("build", "compute_output_shape", "from_config", "get_config")


@dataclasses.dataclass(frozen=True)
class Kit:
    """One of the two Kerases, with our layers for it.

    Attributes:
      keras: the module, `keras` or `tf_keras`.
      ours: `evonorm_tf.layers` or `evonorm_tf.legacy`.
    """

    keras: ModuleType
    ours: ModuleType

    @property
    def normalizations(self) -> tuple[type, ...]:
        """Returns the classes that are replaced."""
        layers = self.keras.layers
        found = [
            layers.BatchNormalization,
            layers.GroupNormalization,
            layers.LayerNormalization,
            self.ours.NormAct,
        ]
        if self.keras.__name__ == "tf_keras":
            found.append(layers.experimental.SyncBatchNormalization)
        return tuple(found)

    def is_normalization(self, layer: Any) -> bool:
        """Returns whether a layer is, or computes the same as, one of them.

        A subclass that only sets arguments does. One with a `call` or another
        method of its own may compute anything.
        """
        known = isinstance(layer, self.normalizations)
        return known and not self.own_methods(layer)

    def own_methods(self, layer: Any) -> list[str]:
        """Returns the methods of Keras that a layer's class overrides.

        Methods that only create or describe the layer are not included.
        """
        known = (self.keras.__name__.split(".")[0], "evonorm_tf")
        family = type(layer).__mro__
        homes = [c.__module__.split(".")[0] in known for c in family]
        first = homes.index(True)
        base = family[first]
        return sorted(
            name
            for one in family[:first]
            for name, value in vars(one).items()
            if callable(value) and hasattr(base, name)
            if name == "__call__" or not name.startswith("__")
            if name not in _DESCRIBING
        )

    def is_graph(self, layer: Any) -> bool:
        """Returns whether a model is defined by its graph, without a `call`."""
        homes = [
            one
            for one in type(layer).__mro__
            if one.__module__.split(".")[0] == self.keras.__name__
            and one.__name__ in ("Functional", "Sequential")
        ]
        plain = any(type(layer).call is one.call for one in homes)
        return plain and hasattr(graph_of(layer), "_nodes_by_depth")


def kit_of(model: Any) -> Kit:
    """Returns the Keras of a model.

    Raises:
      TypeError: if it is not a model of either Keras.
    """
    # Looks only at imported modules, which include the model's Keras.
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        from evonorm_tf import layers

        return Kit(keras, layers)
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is not None and isinstance(model, tf_keras.Model):
        from evonorm_tf import legacy

        return Kit(tf_keras, legacy)
    raise TypeError(
        "Expected a functional or sequential model of Keras 3 or tf_keras. "
        f"Received: {model!r} of type {type(model).__name__}"
    )


def graph_of(model: Any) -> Any:
    """Returns the model with the nodes; Keras 3's Sequential wraps it."""
    return getattr(model, "_functional", None) or model


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a model's graph.

    Attributes:
      key: a number that identifies the call as long as the model lives.
      layer: the layer, or a Keras 3 operation.
      arguments: (args, kwargs) of the call.
      inputs: the symbolic tensors among them.
      outputs: symbolic tensors.
    """

    key: int
    layer: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: list[Any]
    outputs: list[Any]


def calls(model: Any) -> list[Call]:
    """Returns the calls of a model's graph in topological order."""
    nodes = graph_of(model)._nodes_by_depth
    return [
        _call(node) for depth in sorted(nodes)[::-1] for node in nodes[depth]
    ]


def _call(node: Any) -> Call:
    if hasattr(node, "arguments"):  # Keras 3
        layer, inputs = node.operation, node.arguments.keras_tensors
        arguments = (node.arguments.args, node.arguments.kwargs)
    else:
        layer, inputs = node.layer, node.keras_inputs
        arguments = (tuple(node.call_args or ()), dict(node.call_kwargs or {}))
    outputs = structures.flatten(node.outputs)
    return Call(id(node), layer, arguments, list(inputs), outputs)


class Readers:
    """Producers and consumers of the tensors of a model's graph.

    Attributes:
      calls: those of the graph, in topological order.
      name: the model's.
    """

    def __init__(self, model: Any):
        # References keep the tensors alive, so their ids stay unique.
        self.calls = calls(model)
        self.name = model.name
        self._readers: dict[int, list[Call]] = {}
        self._makers: dict[int, Call] = {}
        for call in self.calls:
            for tensor in call.inputs:
                self._readers.setdefault(id(tensor), []).append(call)
            for tensor in call.outputs:
                self._makers[id(tensor)] = call
        self._outputs = list(graph_of(model).outputs)

    def maker(self, tensor: Any) -> Call:
        """Returns the call that produces a tensor."""
        return self._makers[id(tensor)]

    def of(self, tensor: Any) -> list[Call]:
        """Returns the calls that read a tensor, once per occurrence."""
        return self._readers.get(id(tensor), [])

    def as_output(self, tensor: Any) -> int:
        """Returns how many times a tensor is an output of the model."""
        return sum(output is tensor for output in self._outputs)

    def alone(self, tensor: Any) -> Call | None:
        """Returns the only call that reads a tensor, or None."""
        found = self.of(tensor)
        return (
            found[0] if len(found) == 1 and not self.as_output(tensor) else None
        )


def structure(model: Any) -> tuple[Any, Any]:
    """Returns (inputs, outputs) of a model in their original structure."""
    graph = graph_of(model)
    if hasattr(graph, "_inputs_struct"):  # Keras 3
        return graph._inputs_struct, graph._outputs_struct
    return graph._nested_inputs, graph._nested_outputs


def inner_layers(layer: Any) -> Iterator[Any]:
    """Returns the layers inside a layer, at any depth, without itself."""
    if not hasattr(layer, "_flatten_layers"):  # A Keras 3 operation.
        return iter(())
    return iter(layer._flatten_layers(include_self=False))
