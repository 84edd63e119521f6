"""The new model: the old one's calls once more, with other layers."""

import warnings
from typing import Any

from evonorm_tf.conversion import graph, structures
from evonorm_tf.conversion.plan import Plan

# tf_keras makes such layers of `model.add_loss(tensor)`; a graph made anew
# would lose them without a word.
_LOST = ("AddLoss", "AddMetric")


class Rebuilder:
    """Makes models anew, each layer once: what was shared stays shared.

    Attributes:
      models: (old, new) models, inner ones before those around them.
      layers: (old, new) layers that were copied; sites are not among them.
    """

    def __init__(self, plan: Plan, kit: graph.Kit):
        self.models: list[tuple[Any, Any]] = []
        self.layers: list[tuple[Any, Any]] = []
        self._plan = plan
        self._kit = kit
        self._made: dict[int, Any] = {}

    def model(self, old: Any) -> Any:
        """The new model for an old one."""
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
        """Repeats one call; `tensors`: the new ones by the old one's id."""
        if call.key in self._plan.absorbed:
            # Of x * sigmoid(x), both inputs have become the site's output.
            (old,) = call.outputs
            tensors[id(old)] = tensors[id(call.inputs[0])]
            return
        layer = self._layer(call.layer)
        if not call.inputs:  # An input layer: it has its tensor already.
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
        """The new layer for an old one, the same at every call."""
        if id(old) not in self._made:
            self._made[id(old)] = self._make(old)
        return self._made[id(old)]

    def _make(self, old: Any) -> Any:
        if id(old) in self._plan.new:
            return self._plan.new[id(old)][1]
        if self._kit.is_graph(old):
            return self.model(old)
        new = _copy(old, self._kit)
        self.layers.append((old, new))
        return new


def _copy(old: Any, kit: graph.Kit) -> Any:
    kind = type(old).__name__
    of_keras = type(old).__module__.split(".")[0] == kit.keras.__name__
    if kind in _LOST:
        raise ValueError(
            "A loss or metric that was added to the model with add_loss or "
            "add_metric would be lost. Convert the model before it is added. "
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
            # Of saving and loading, which is not what is done here.
            warnings.filterwarnings("ignore", "(?s).*includes a `lambda`")
            config = old.get_config()
        if of_keras:
            config.update(_functions(old, config))
        return type(old).from_config(config)
    except (NotImplementedError, TypeError, ValueError) as error:
        remedy = (
            "give it functions (`def`) and classes that are registered with "
            f"{kit.keras.__name__}.saving.register_keras_serializable()"
            if of_keras
            else "give its class a get_config() that returns what its "
            "__init__ takes"
        )
        raise ValueError(
            f"A layer cannot be copied from its own configuration: {remedy}. "
            f"Received: {old.name!r}, {kind}: {error}"
        ) from error


def _copy_lambda(old: Any) -> Any:
    """A Lambda layer of the same function, which no configuration keeps."""
    new = type(old)(
        old.function,
        output_shape=old._output_shape,
        # tf_keras sets it as a method where one was given.
        mask=getattr(old, "mask", None) or vars(old).get("compute_mask"),
        arguments=dict(old.arguments or {}),
        name=old.name,
        dtype=old.dtype_policy,
    )
    new.trainable = old.trainable
    return new


def _functions(old: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The activations of a layer that are functions, as they are.

    Of a function a configuration keeps the name, which leads to none or to
    another one, or, of a lambda, the code, which is not read again.
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
    """A function, and not a layer or another object of Keras's."""
    return callable(value) and not hasattr(value, "get_config")
