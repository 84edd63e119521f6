"""Nested arguments, values of weights and calls of layers, for either Keras."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from evonorm_tf import validation


def tensorflow() -> ModuleType | None:
    """Returns TensorFlow if it is imported, as it is for its models."""
    return sys.modules.get("tensorflow")


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves of nested lists, tuples and dictionaries."""
    return _tree().flatten(structure)


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """Applies `function` to each leaf of a structure."""
    return _tree().map_structure(function, structure)


def _tree() -> Any:
    found = tensorflow()
    return sys.modules["keras"].tree if found is None else found.nest


def value(weight: Any) -> np.ndarray:
    """Returns the value of a variable of either Keras."""
    found = tensorflow()
    if found is not None and not hasattr(weight, "__array__"):
        weight = found.convert_to_tensor(weight)
    return np.asarray(weight)


def is_constant(leaf: Any) -> bool:
    """Returns whether a leaf of arguments is an array with values."""
    symbolic = type(leaf).__name__ == "KerasTensor"
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not symbolic


def constant_like(values: np.ndarray, symbol: Any) -> Any:
    """Returns an array to call layers on instead of a symbolic tensor."""
    dtype = validation.dtype_name(symbol)
    if type(symbol).__module__.split(".")[0] == "keras":
        return sys.modules["keras"].ops.convert_to_tensor(values, dtype)
    return tensorflow().constant(values, dtype)


@contextlib.contextmanager
def replaced_calls(
    calls: list[tuple[Any, Callable[..., Any]]],
) -> Iterator[None]:
    """Replaces the `call` of layer objects, but of no class, in the block.

    Args:
      calls: (layer, function) pairs.
    """
    # Those of this block, in case blocks are nested.
    before = [(layer, vars(layer).get("call")) for layer, _ in calls]
    try:
        for layer, function in calls:
            layer.call = function
        yield
    finally:
        for layer, call in before:
            if "call" in vars(layer):
                del layer.call
            if call is not None:
                layer.call = call
