"""Rebuilds a model: repeats the calls of the old one with other layers."""

import warnings
from typing import Any

from evonorm_tf.conversion import graph, layer_state, structures
from evonorm_tf.conversion.plan import Plan

# tf_keras creates such layers for `model.add_loss(tensor)`; a rebuilt graph
# would silently lose them.
_LOST = ("AddLoss", "AddMetric")


class Rebuilder:
    """Rebuilds models, each layer once, so that shared layers stay shared.

    Attributes:
      models: (old, new) models, inner ones first.
      layers: (old, new) layers that were copied, not those of sites.
    """

    def __init__(self, plan: Plan, kit: graph.Kit):
        self.models: list[tuple[Any, Any]] = []
        self.layers: list[tuple[Any, Any]] = []
        self._plan = plan
        self._kit = kit
        self._made: dict[int, Any] = {}

    def model(self, old: Any) -> Any:
        """Returns the new model for an old one."""
        calls = graph.calls(old)
        if isinstance(old, self._kit.keras.Sequential):
            kept = [c for c in calls if c.key not in self._plan.absorbed]
            new = self._kit.keras.Sequential(
                [self._layer(call.layer) for call in kept], name=old.name
            )
        else:
            tensors: dict[int, Any] = {}
            for call in calls:
                self._call(call, tensors)
            inputs, outputs = structures.map_structure(
                lambda tensor: tensors[id(tensor)], graph.structure(old)
            )
            new = self._kit.keras.Model(inputs, outputs, name=old.name)
        self.models.append((old, new))
        return new

    def _call(self, call: graph.Call, tensors: dict[int, Any]) -> None:
        """Repeats a call; `tensors` has the new tensors by the old one's id."""
        if call.key in self._plan.absorbed:
            # For x * sigmoid(x), both inputs have become the site's output.
            (old,) = call.outputs
            tensors[id(old)] = tensors[id(call.inputs[0])]
            return
        layer = self._layer(call.layer)
        if not call.inputs:  # An input layer, whose tensor exists already.
            outputs = layer.output
        else:
            args, kwargs = structures.map_structure(
                lambda leaf: tensors.get(id(leaf), leaf), call.arguments
            )
            if id(call.layer) in self._plan.new:
                kwargs.pop("mask", None)  # None, or there were two inputs.
            outputs = layer(*args, **kwargs)
        for old, new in zip(call.outputs, structures.flatten(outputs)):
            tensors[id(old)] = new

    def _layer(self, old: Any) -> Any:
        """Returns the new layer for an old one, the same at every call."""
        if id(old) not in self._made:
            self._made[id(old)] = self._make(old)
        return self._made[id(old)]

    def _make(self, old: Any) -> Any:
        if id(old) in self._plan.new:
            return self._plan.new[id(old)][1]
        if self._kit.is_graph(old):
            return self.model(old)
        layer_state.check_assets(old)
        new = _copy(old, self._kit)
        layer_state.copy_tables(old, new)
        self.layers.append((old, new))
        return new


def _copy(old: Any, kit: graph.Kit) -> Any:
    kind = type(old).__name__
    of_keras = type(old).__module__.split(".")[0] == kit.keras.__name__
    if kind in _LOST:
        raise ValueError(
            "A loss or metric added to the model with add_loss or add_metric "
            "would be lost. Convert the model before you add it. "
            f"Received: {old.name!r}, {kind}"
        )
    if type(old) is kit.keras.layers.Activation and _is_function(
        old.activation
    ):
        return type(old)(old.activation, name=old.name, dtype=old.dtype_policy)
    if type(old) is kit.keras.layers.Lambda:
        return _copy_lambda(old)
    try:
        with warnings.catch_warnings():
            # Warnings about saving and loading do not apply here.
            warnings.filterwarnings("ignore", "(?s).*includes a `lambda`")
            config = old.get_config()
        if of_keras:
            config.update(_functions(old, config))
        return type(old).from_config(config)
    except (NotImplementedError, TypeError, ValueError) as error:
        fix = (
            "give it functions (`def`) and classes that are registered with "
            f"{kit.keras.__name__}.saving.register_keras_serializable()"
            if of_keras
            else "give its class a get_config() that returns what its "
            "__init__ takes"
        )
        raise ValueError(
            f"A layer cannot be copied from its own configuration: {fix}. "
            f"Received: {old.name!r}, {kind}: {error}"
        ) from error


def _copy_lambda(old: Any) -> Any:
    """Copies a Lambda layer with its function, which get_config lacks."""
    new = type(old)(
        old.function,
        output_shape=old._output_shape,
        # tf_keras sets this as a method if the user passed one.
        mask=getattr(old, "mask", None) or vars(old).get("compute_mask"),
        arguments=dict(old.arguments or {}),
        name=old.name,
        dtype=old.dtype_policy,
    )
    new.trainable = old.trainable
    return new


def _functions(old: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the activations of a layer that are functions, unchanged.

    For a function, get_config stores only the name, which may be unknown or
    refer to another function, or the code of a lambda, which is not restored.
    """
    found = {
        name: getattr(old, name, None)
        for name in config
        if name.endswith("activation")
    }
    return {
        name: function
        for name, function in found.items()
        if _is_function(function)
    }


def _is_function(value: Any) -> bool:
    """Returns whether an object is a function and not an object of Keras."""
    return callable(value) and not hasattr(value, "get_config")
