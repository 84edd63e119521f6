"""A model as one function at inference, with folded NormAct layers."""

import contextlib
import functools
import importlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf import catalog
from evonorm_tf.layer import NormActMixin
from evonorm_tf.ops import folding, moments
from evonorm_tf.ops import tensorflow as backend

# Part of the names of a folded layer's operations that compute statistics of
# its input; quantized formats keep these in float32.
STATISTICS = "norm_act_with_statistics"

# By the id of a layer in a block: its own `call` if it is the object's (mostly
# None), followed by that of each block.
_calls: dict[int, list[Callable[..., tf.Tensor] | None]] = {}
_lock = threading.Lock()


def backend_of(model: Any) -> str:
    """Returns the backend of a model's Keras, "tensorflow" or "jax".

    Raises:
      TypeError: if it is not a model of either Keras.
    """
    # Imported through our modules, whose errors explain a missing Keras.
    for home, keras in (("layers", "keras"), ("legacy", "tf_keras")):
        roots = {c.__module__.split(".")[0] for c in type(model).__mro__}
        if keras in roots:
            ours = importlib.import_module(f"evonorm_tf.{home}")
            return getattr(ours, keras).backend.backend()
    raise TypeError(
        "Expected a Keras 3 or tf_keras model. "
        f"Received: {model!r} of type {type(model).__name__}"
    )


@contextlib.contextmanager
def inference_form(model: Any) -> Iterator[list[str]]:
    """Makes a model's NormAct layers compute their folded form in a block.

    Example:
        ```python
        with inference_form(model):
            function = tf.function(model).get_concrete_function(spec)
        ```

    Weights are read on entry and become constants of what is traced. It works
    for all kinds of models, including subclassed ones, and both Kerases: the
    `call` of each layer object is replaced inside the block, and no class or
    module is changed. Training, gamma or beta passed to `call` and, except for
    BatchNorm and the plain affine, inputs of another rank than 4 are computed
    as before. Blocks may overlap, also in threads: the one entered last is
    used. What `predict` and `evaluate` of the model and of those within it
    have traced is discarded on entry and exit.

    Args:
      model: a built model on TensorFlow, or any such Keras layer.

    Yields:
      The names of the NormAct layers that are not folded.

    Raises:
      TypeError: if it is of neither Keras.
      ValueError: if it is not built, or on another backend.
    """
    if backend_of(model) != "tensorflow":
        raise ValueError(
            "Only a model on TensorFlow can be traced: save this one as a "
            ".keras file, and load that with KERAS_BACKEND=tensorflow set. "
            f"Received: {type(model).__name__} on {backend_of(model)}"
        )
    found = {id(x): x for x in model._flatten_layers()}.values()
    layers = [x for x in found if isinstance(x, NormActMixin)]
    unbuilt = [x.name for x in layers if not x.built]
    if unbuilt:
        raise ValueError(
            "A layer without weights cannot be folded: call the model on an "
            f"image first. Received: unbuilt layers {unbuilt}"
        )
    folded = [(x, fold(x)) for x in layers]
    left = [x.name for x, function in folded if function is None]
    folded = [(x, function) for x, function in folded if function is not None]
    made = [(layer, _call(layer, function)) for layer, function in folded]
    with _lock:
        for layer, call in made:
            own = vars(layer).get("call")
            _calls.setdefault(id(layer), [own]).append(call)
            layer.call = call
    _forget_traces(found)
    try:
        yield left
    finally:
        with _lock:
            for layer, call in made:
                calls = _calls[id(layer)]
                calls.remove(call)
                if calls[-1] is None:
                    del layer.call
                else:
                    layer.call = calls[-1]
                if len(calls) == 1:
                    del _calls[id(layer)]
        _forget_traces(found)


def _forget_traces(layers: Iterable[Any]) -> None:
    """Makes `predict` and `evaluate` of models trace the layers again."""
    for layer in layers:
        for name in ("predict_function", "test_function"):
            if getattr(layer, name, None) is not None:
                setattr(layer, name, None)


def fold(layer: Any) -> folding.Function | None:
    """Returns the folded form of a layer, with its weights as constants.

    Args:
      layer: a built NormAct layer of either Keras.

    Returns:
      A function of x [N, H, W, C] (of any rank if the entry's folded form
      allows it), floating and at least float32; or None if the layer cannot
      be folded: its channels come first, its gamma and beta depend on the
      class, its entry has no folded form (a searched graph), or it is a
      subclass with its own `call`.
    """
    home = next(c for c in type(layer).__mro__ if "call" in vars(c))
    if not home.__module__.startswith("evonorm_tf."):
        return None
    folded = layer._active.folded
    if folded is None or layer.axis != -1 or not layer.affine:
        return None
    names = ["gamma", "beta"]
    names += [weight.name for weight in layer._active.weights]
    names += [s.name for s in layer._active.kernel.statistics]
    # Folded in float64, rounded once.
    weights = {n: np.asarray(getattr(layer, n), np.float64) for n in names}
    constants = folding.Constants(
        weights, layer.epsilon, layer._groups, layer._channels
    )
    return folded.make(backend.xp, constants)


def _folds(row: catalog.Row, rank: int | None) -> bool:
    """Returns whether the folded form of a row takes inputs of a rank."""
    return rank == 4 or (rank is not None and row.folded.any_rank)


def _call(layer: Any, function: folding.Function) -> Callable[..., tf.Tensor]:
    usual = layer.call
    scope = contextlib.nullcontext
    if not layer._active.folded.any_rank:
        scope = functools.partial(tf.name_scope, STATISTICS)

    @tf.autograph.experimental.do_not_convert
    def call(inputs, gamma=None, beta=None, training=None):
        x = tf.convert_to_tensor(inputs)
        given = gamma is not None or beta is not None
        if training or given or not _folds(layer._active, x.shape.rank):
            return usual(inputs, gamma, beta, training)
        wide = tf.cast(x, moments.compute_dtype(backend.xp, x))
        with scope():
            return tf.cast(function(wide), layer.compute_dtype)

    return call


def outputs_by_name(outputs: Any) -> dict[str, tf.Tensor]:
    """Returns a model's outputs by name, or as output_0, output_1, ...

    The names in nested dictionaries and lists are joined: {"a": [x, y]} gives
    a_0 and a_1.
    """
    if isinstance(outputs, Mapping):
        names, values = zip(*_leaves(outputs))
        return dict(zip(_unique(names), values))
    flat = tf.nest.flatten(outputs)
    return {f"output_{index}": value for index, value in enumerate(flat)}


def _leaves(structure: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (joined names, value), in the order of tf.nest.flatten."""
    if isinstance(structure, Mapping):
        inner = [(key, structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        inner = list(enumerate(structure))
    else:
        yield name, structure
        return
    for key, value in inner:
        yield from _leaves(value, f"{name}_{key}" if name else str(key))


def _unique(names: Iterable[str], key: Callable[[str], str] = str) -> list[str]:
    """Returns the names, with numbers where a key is there already."""
    found: dict[str, str] = {}
    for name in names:
        free, number = name, 0
        while key(free) in found:
            number += 1
            free = f"{name}_{number}"
        found[key(free)] = free
    return list(found.values())


def _argument(name: str) -> str:
    """Returns the name as one that arguments of a signature may have."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"input{name}" if name.startswith("_") else name


class Inputs:
    """The inputs of a model, by name.

    Attributes:
      specs: tf.TensorSpec by name; "images" if there is one input, otherwise
        the model's names, or those of the example inputs.
    """

    def __init__(self, model: Any, images: Any = None):
        """Reads the inputs of a model.

        Args:
          model: a built model.
          images: example inputs, for a model without known shapes.

        Raises:
          ValueError: if the shapes are unknown and there are no images.
        """
        tensors = list(getattr(model, "inputs", None) or [])
        # Keras 3 and tf_keras: in the original structure of the model.
        made = getattr(model, "_inputs_struct", None)
        self._structure = getattr(model, "_nested_inputs", made)
        if self._structure is None:
            self._structure = tensors[0] if len(tensors) == 1 else tensors
        if not tensors:
            if images is None:
                raise ValueError(
                    "The model does not know the shape of its input: pass "
                    f"`images`. Received: {type(model).__name__} and "
                    "images=None"
                )
            self._structure = tf.nest.map_structure(_spec, images)
            start = "" if isinstance(images, Mapping) else "images"
            names = [name for name, _ in _leaves(images, start)]
            tensors = tf.nest.flatten(self._structure)
        else:
            tensors = tf.nest.flatten(self._structure)
            names = [str(one.name) for one in tensors]
        if len(tensors) == 1:
            names = ["images"]
        # TensorFlow does not tell "a" and "A" apart in signatures.
        names = _unique(map(_argument, names), str.lower)
        self.specs = {
            name: tf.TensorSpec(
                [None, *one.shape[1:]], tf.as_dtype(one.dtype), name
            )
            for name, one in zip(names, tensors)
        }

    def arguments(self, by_name: Mapping[str, Any]) -> Any:
        """Returns the model's arguments, from tensors by name."""
        flat = [by_name[name] for name in self.specs]
        return tf.nest.pack_sequence_as(self._structure, flat)

    def named(self, images: Any) -> dict[str, Any]:
        """Returns arrays by name, from an array or a structure of inputs.

        Raises:
          ValueError: if the number of arrays or the names do not match.
        """
        flat = None
        keys, values = zip(*_leaves(images))
        if keys == tuple(key for key, _ in _leaves(self._structure)):
            flat = values
        elif isinstance(images, Mapping) and set(images) == set(self.specs):
            flat = [images[name] for name in self.specs]
        elif len(self.specs) == 1:
            flat = [images]
        elif isinstance(images, (list, tuple)):
            flat = values
        if flat is None or len(flat) != len(self.specs):
            raise ValueError(
                f"The model has the inputs {', '.join(self.specs)}: pass "
                "`images` as a dictionary of arrays by these names, or as a "
                f"list in this order. Received: {_described(images)}"
            )
        return dict(zip(self.specs, flat))


def _spec(images: Any) -> tf.TensorSpec:
    """Returns the spec of any number of images, floating ones as float32."""
    images = np.asarray(images)
    dtype = tf.as_dtype(images.dtype)
    return tf.TensorSpec(
        [None, *images.shape[1:]], tf.float32 if dtype.is_floating else dtype
    )


def _described(images: Any) -> str:
    if isinstance(images, Mapping):
        return f"a dictionary of {', '.join(map(str, images))}"
    if isinstance(images, (list, tuple)):
        return f"a {type(images).__name__} of {len(images)}"
    return f"images of shape {np.shape(images)}"


def function(model: Any, spec: Any = None, fold: bool = True) -> Any:
    """Returns the model at inference: {"images": spec} to outputs by name.

    Args:
      model: a built model.
      spec: of its input, [N, H, W, C]; an `Inputs`, or None for the shapes of
        the model's own inputs.
      fold: whether to use the folded form.

    Returns:
      A tf.function with one trace, of a dictionary of tensors by name if the
      model has several inputs.
    """
    inputs = spec if isinstance(spec, Inputs) else None
    if spec is None:
        inputs = Inputs(model)
    if inputs is None or len(inputs.specs) == 1:
        found = spec if inputs is None else inputs.specs["images"]
        found = tf.TensorSpec(found.shape, found.dtype, "images")

        @tf.function(input_signature=[found], autograph=False)
        def serve(images):
            given = (
                images
                if inputs is None
                else inputs.arguments({"images": images})
            )
            return outputs_by_name(model(given, training=False))

    else:

        @tf.function(input_signature=[inputs.specs], autograph=False)
        def serve(by_name):
            given = inputs.arguments(by_name)
            return outputs_by_name(model(given, training=False))

    with inference_form(model) if fold else contextlib.nullcontext():
        serve.get_concrete_function()
    return serve
