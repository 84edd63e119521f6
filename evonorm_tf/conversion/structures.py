"""Nested arguments and values of weights, for either Keras and any backend."""

import sys
from collections.abc import Callable
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
