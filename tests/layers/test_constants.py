"""Nothing full-size is a constant while a layer's step is compiled.

TensorFlow's XLA bridge computes constants as it compiles, a whole network's at
once: 24 GB for a ResNet-50 at batch 128.
"""

import math

import pytest
import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import (
    function_def_to_graph,
)

from evonorm_tf import catalog, legacy
from evonorm_tf.ops import settings
from evonorm_tf.ops.kernel import Analytic

SHAPE = (2, 6, 5, 8)
CONSTANTS = {"Fill", "ZerosLike", "OnesLike", "Const", "BroadcastTo"}
ROWS = [
    name
    for name in catalog.names()
    if isinstance(catalog.get(name).kernel, Analytic)
]


def _operations(function):
    """All operations of a concrete function and of those it calls."""
    yield from function.graph.get_operations()
    for one in function.graph.as_graph_def().library.function:
        graph = function_def_to_graph(one)
        yield from graph.get_operations()


@pytest.mark.parametrize("name", ROWS)
def test_no_constant_is_full_size(name):
    layer = legacy.NormAct(name)
    layer.build(SHAPE)

    @tf.function(autograph=False)
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        sources = [x, *layer.trainable_variables]
        return tape.gradient(y, sources, output_gradients=dy)

    spec = tf.TensorSpec(SHAPE, tf.float32)
    with settings.using(reduction="sum", moments="one_pass"):  # As exported.
        traced = step.get_concrete_function(spec, spec)
    found = [
        (operation.type, operation.name)
        for operation in _operations(traced)
        if operation.type in CONSTANTS
        for tensor in operation.outputs
        if tensor.consumers()  # What nobody reads is pruned.
        if tensor.shape.is_fully_defined()
        and tensor.shape.num_elements() >= math.prod(SHAPE)
    ]
    assert not found
