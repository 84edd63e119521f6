"""What a process builds, trains and drops leaves its memory.

Counted in graphs: one holds every operation of a traced model or candidate,
and megabytes. `fit` is left out, for both Kerases keep the graphs of its steps
whatever the layers are.
"""

import gc

import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from evonorm_tf import graphs
from evonorm_tf.ops.custom_gradient import custom_gradient
from evonorm_tf.search import data, proxy
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.evolution import Evolution
from tests import cases

SETTINGS = settings_lib.make(
    settings_lib.DEBUG, {"algorithm": "random", "width": 4}
)
# The first few fill caches.
WARM_UP = 2
# Megabytes that the allocator may keep of what was freed.
SLACK = 60


@pytest.fixture(scope="module")
def candidate():
    """Trains the next candidate of a search for one step."""
    task = proxy.Proxy(SETTINGS, data.load(SETTINGS))
    evolution = Evolution(SETTINGS)
    proposals = iter(range(1000))

    def train():
        graph = evolution.ask(next(proposals)).graph
        task.train(graphs.row(graph), "resnet", 1)

    return train


def _model(kit_name):
    """Builds a model, with layers of two kinds, and takes a training step."""
    kit = cases.kit(kit_name)
    keras = kit.keras
    inputs = x = keras.Input((8, 8, 3))
    for name in ("evonorm_b0", "evonorm_s0"):
        x = keras.layers.Conv2D(8, 3)(x)
        x = kit.layers.NormAct(name, groups=2)(x)
    model = keras.Model(inputs, x)

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True))
        weights = model.trainable_weights
        for weight, gradient in zip(weights, tape.gradient(loss, weights)):
            weight.assign_sub(0.1 * gradient)

    step(tf.zeros([2, 8, 8, 3]))


def _graphs():
    gc.collect()
    return sum(isinstance(found, FuncGraph) for found in gc.get_objects())


def _check(make, count):
    """Makes so many and some more, and compares what is alive."""
    for _ in range(WARM_UP):
        make()
    before, memory = _graphs(), psutil.Process().memory_info().rss
    for _ in range(count):
        make()
    assert _graphs() <= before
    grown = (psutil.Process().memory_info().rss - memory) / 2**20
    # A model that stays takes 4 MB or more.
    assert grown < SLACK


COUNTS = [1, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "kit_name",
    ["keras3", pytest.param("tf_keras", marks=pytest.mark.slow)],
)
def test_models(kit_name, count):
    _check(lambda: _model(kit_name), count)


@pytest.mark.parametrize("count", COUNTS)
def test_candidates(candidate, count):
    _check(candidate, count)


@pytest.mark.parametrize(
    "kit_name",
    ["keras3", pytest.param("tf_keras", marks=pytest.mark.slow)],
)
def test_the_gradient_of_a_gradient_goes_with_its_graph(kit_name):
    layer = cases.make(kit_name, cases.BY_NAME["evonorm_b0"])

    def make():
        @tf.function(autograph=False)
        def second(x):
            (first,) = tf.gradients(tf.reduce_sum(layer(x, training=True)), x)
            return tf.gradients(tf.reduce_sum(tf.square(first)), x)

        (found,) = second(tf.constant(cases.draw(), tf.float32))
        assert np.isfinite(found).all()

    _check(make, 1)


def test_the_missing_gradient_of_a_copied_graph_is_named():
    """The graph is gone, and its copy knows the gradient's name alone."""

    @custom_gradient
    def double(x):
        return 2.0 * x, lambda dy: 2.0 * dy

    def definition():
        with tf.Graph().as_default() as graph:
            double(tf.ones([3], name="x"))
            return graph.as_graph_def()

    copied = definition()
    gc.collect()
    with tf.Graph().as_default():
        tf.import_graph_def(copied, name="")
        x = tf.compat.v1.get_default_graph().get_tensor_by_name("x:0")
        y = tf.compat.v1.get_default_graph().get_operations()[-1].outputs[0]
        with pytest.raises(RuntimeError, match="experimental_custom_gradients"):
            tf.gradients(y, x)
