"""Bytes that a layer saves in the forward pass for the backward pass.

These are read from the graph: the tensors that the forward part produces (x
among them) and the backward part reads, each buffer once. The layer's output is
not counted, because the next layer saves its input anyway.
"""

import math
from typing import Any

import tensorflow as tf

# Operations whose output shares the buffer of their first input.
_VIEWS = {"Identity", "IdentityN", "StopGradient", "Reshape", "ExpandDims"}
_VIEWS |= {"PreventGradient", "Squeeze"}
# Constants and weights, which are neither activations nor statistics.
_FREE = {"Const", "ReadVariableOp", "Shape", "VarHandleOp"}


def _buffer(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type in _VIEWS:
        index = tensor.value_index if tensor.op.type == "IdentityN" else 0
        tensor = tensor.op.inputs[index]
    return tensor


def _size(tensor: tf.Tensor) -> int:
    if tensor.shape.rank is None:
        # FusedBatchNorm's third reserve space, which is empty on a CPU.
        return 0
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size


def kept_bytes(layer: Any, shape: tuple[int, ...]) -> int:
    """Returns the bytes saved for the backward pass.

    Args:
      layer: called with x [N, H, W, C]; has `weights`, a list of variables.
      shape: of x, float32.

    Returns:
      The sum of the sizes of the distinct buffers.
    """
    forward, output = set(), []

    @tf.function(autograph=False)
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        graph = tf.compat.v1.get_default_graph()
        forward.update(op.name for op in graph.get_operations())
        output.append(_buffer(y).ref())
        return tape.gradient(y, [x, *layer.weights], output_gradients=dy)

    spec = tf.TensorSpec(shape)
    graph = step.get_concrete_function(spec, spec).graph
    dy = graph.inputs[1]
    buffers = {}
    for op in graph.get_operations():
        for tensor in op.inputs if op.name not in forward else ():
            source = _buffer(tensor)
            outside = source.op.name not in forward or source is dy
            if outside or source.ref() in output or source.op.type in _FREE:
                continue
            if source.dtype != tf.resource:
                buffers[source.ref()] = _size(source)
    return sum(buffers.values())
