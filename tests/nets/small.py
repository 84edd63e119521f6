"""Shared by the tests of networks."""

import contextlib
from unittest import mock

import numpy as np
import tensorflow as tf

from evonorm_tf import layers, legacy

# The size that every recipe is tried at: one block a stage.
DEBUG = {"width": 0.25, "max_depth": 1}


@contextlib.contextmanager
def untraced():
    """Builds graphs of either Keras in which NormAct layers do nothing.

    They have all their weights. What they compute would be most of the graph,
    and of the time that it takes.
    """

    def call(self, inputs, gamma=None, beta=None, training=None):
        return inputs

    with (
        mock.patch.object(legacy.NormAct, "call", call),
        mock.patch.object(layers.NormAct, "call", call),
    ):
        yield


def norm_acts(model):
    """The NormAct layers of a model of either Keras."""
    return [x for x in model.layers if type(x).__name__ == "NormAct"]


def created(model):
    """A functional model's layers, those of a class as they were made.

    The models themselves order theirs by depth, each Keras in its own way.
    """

    def key(layer):
        stem, _, number = layer.name.rpartition("_")
        made = int(number) if stem and number.isdigit() else 0
        return type(layer).__name__, made

    return sorted(model.layers, key=key)


def in_order(build):
    """A model of tf_keras, and its weights by kind, each kind as it was made.

    A functional model orders its layers by depth, where branches tie.
    """
    made = []

    def record(creator, **settings):
        made.append(creator(**settings))
        return made[-1]

    with tf.variable_creator_scope(record):
        model = build()
    kept, kinds = {w.ref() for w in model.weights}, {}
    for weight in made:
        if weight.ref() in kept:  # The rest feed nothing that comes out.
            kind = weight.name.split("/")[-1].partition(":")[0]
            kinds.setdefault(kind, []).append(weight)
    assert sum(map(len, kinds.values())) == len(kept)
    return model, kinds


def copy_kinds(source, target):
    """Weights of one model into another, both as `in_order` has them."""
    assert source.keys() == target.keys()
    for kind, weights in source.items():
        for a, b in zip(weights, target[kind], strict=True):
            assert a.shape == b.shape, f"{a.name} {b.name}"
            b.assign(a)


def copy(source, target):
    """Weights of one model into another, whatever Keras they are of."""
    for a, b in zip(created(source), created(target), strict=True):
        b.set_weights(a.get_weights())


def disturb(model, seed=0):
    """Draws norm weights and statistics: at their start, much looks equal."""
    rng = np.random.default_rng(seed)
    # Small gains, as trained residual branches have: with gains of 1 a
    # ResNet in training mode turns a rounding of its input, 1e-7, into 1e-4
    # of its output.
    ranges = {"gamma": (0.2, 0.5), "v": (0.5, 1.0), "moving_variance": (0.5, 1)}
    for layer in norm_acts(model):
        for weight in layer.weights:
            kind = weight.name.split("/")[-1].partition(":")[0]
            low, high = ranges.get(kind, (-0.2, 0.2))
            weight.assign(rng.uniform(low, high, weight.shape))
