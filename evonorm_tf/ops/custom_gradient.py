"""`tf.custom_gradient` that lets go of what it was traced in.

TensorFlow registers the gradient function of every traced operation by a name
of its own, for the life of the process. That function refers to its tensors,
and they to their graph: each model that was traced would stay in memory.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

# The attribute of a graph that holds its gradient functions by name.
_HELD = "_evonorm_tf_gradients"


def custom_gradient(function: Callable) -> Callable:
    """As `tf.custom_gradient`, without keeping the traced graph alive.

    Args:
      function: takes tensors, returns a tensor or several and the gradient
        function, as for `tf.custom_gradient`.

    Returns:
      The function of the tensors with that gradient. Differentiating a copy of
      a graph after the graph itself was deleted raises a RuntimeError.
    """
    differentiable = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        result = differentiable(*args)
        first = tf.nest.flatten(result)[0]
        if hasattr(first, "graph"):
            _hold_in_graph(first.op)
        return result

    return call


def _hold_in_graph(operation: tf.Operation) -> None:
    """Leaves a weak reference to the gradient function in the registry."""
    name = operation.get_attr("_gradient_op_type").decode()
    entry = gradient_registry._registry[name]
    graph = operation.graph
    if not hasattr(graph, _HELD):
        setattr(graph, _HELD, {})
    getattr(graph, _HELD)[name] = entry["type"]
    alive = weakref.ref(graph)

    @tf.autograph.experimental.do_not_convert
    def gradient(operation: tf.Operation, *upstream: tf.Tensor) -> Any:
        graph = alive()
        if graph is None:
            raise RuntimeError(
                "The gradient of a normalization-activation layer is missing, "
                "because the graph in which the layer was traced was deleted. "
                "To differentiate a SavedModel, save it with "
                "tf.saved_model.SaveOptions(experimental_custom_gradients="
                f"True). Received: operation={operation.name!r}"
            )
        return getattr(graph, _HELD)[name](operation, *upstream)

    entry["type"] = gradient
