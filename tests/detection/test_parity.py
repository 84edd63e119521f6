"""Equal weights, equal outputs: pyramid and heads, the Model Garden's and ours.

With bn_relu. The box head's dense layer has no norm here and a BatchNorm
there; at inference theirs is set to leave its input alone.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.decoders import fpn
from official.vision.modeling.heads import (
    dense_prediction_heads,
    instance_heads,
)

from detection import model, pyramid
from evonorm_tf import legacy
from tests.nets.small import copy_kinds, in_order

EPSILON = 1e-3  # The peers'.
FILTERS = 8
LEVELS = range(2, 7)
SHAPES = {str(level): (2, 64 >> level, 64 >> level, 3) for level in LEVELS}
bn_relu = functools.partial(
    legacy.norm_act, "bn_relu", epsilon=EPSILON, xla=False
)


def _normal(shape):
    """The same numbers, whatever other files have drawn."""
    return tf.random.stateless_normal(shape, [0, 1])


def _features(shapes):
    return {level: _normal(shapes[level]) for level in shapes}


def _disturb(part):
    """Draws weights and statistics: at their start, much looks equal.

    The last convolutions of the peers start near 0, as then do all outputs.
    """
    rng = np.random.default_rng(0)
    for weight in part.trainable_weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0.0, 0.1, weight.shape))
    for layer in model.norm_sites(part):
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def _without_dense_norms(head, kinds):
    """The kinds without the dense layers' norms, which now do nothing."""
    dropped = set()
    for norm in head._fc_norms:
        norm.moving_variance.assign(norm.moving_variance * 0 + 1 - EPSILON)
        dropped |= {weight.ref() for weight in norm.weights}
    return {
        kind: [weight for weight in weights if weight.ref() not in dropped]
        for kind, weights in kinds.items()
    }


def _called(make, inputs):
    """A layer that has made its weights."""

    def build():
        layer = make()
        layer(inputs)
        return layer

    return build


def _assert_equal(ours, theirs, inputs):
    mine = tf.nest.flatten(ours(inputs, training=False))
    for a, b in zip(mine, tf.nest.flatten(theirs(inputs, training=False))):
        # float32, and sums of a few hundred products.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_pyramid():
    given = {level: SHAPES[level] for level in "2345"}
    ours, source = in_order(
        lambda: pyramid.fpn(given, bn_relu, FILTERS, LEVELS)
    )
    _disturb(ours)
    theirs, target = in_order(
        lambda: fpn.FPN(
            {level: tf.TensorShape(given[level]) for level in given},
            min_level=2,
            max_level=6,
            num_filters=FILTERS,
        )
    )
    # The peer makes all lateral convolutions first; both name them.
    for kinds in (source, target):
        for weights in kinds.values():
            weights.sort(key=lambda weight: weight.name)
    copy_kinds(source, target)
    _assert_equal(ours, theirs, _features(given))


@pytest.mark.parametrize(
    ("ours", "theirs", "settings", "inputs"),
    [
        (
            model.RPNHead,
            dense_prediction_heads.RPNHead,
            {
                "min_level": 2,
                "max_level": 6,
                "num_anchors_per_location": 3,
                "num_convs": 2,
            },
            _features(SHAPES),
        ),
        (
            model.DetectionHead,
            instance_heads.DetectionHead,
            {"num_classes": 4, "num_convs": 2, "num_fcs": 2, "fc_dims": 16},
            _normal([2, 5, 7, 7, 3]),
        ),
        (
            model.MaskHead,
            instance_heads.MaskHead,
            {"num_classes": 4, "num_convs": 2},
            [
                _normal([2, 5, 14, 14, 3]),
                tf.constant([[0, 1, 2, 3, 1]] * 2),
            ],
        ),
    ],
    ids=["rpn", "box", "mask"],
)
def test_the_heads(ours, theirs, settings, inputs):
    settings = {"num_filters": FILTERS} | settings
    mine, source = in_order(_called(lambda: ours(bn_relu, **settings), inputs))
    _disturb(mine)
    peer, target = in_order(_called(lambda: theirs(**settings), inputs))
    if theirs is instance_heads.DetectionHead:
        target = _without_dense_norms(peer, target)
    copy_kinds(source, target)
    _assert_equal(mine, peer, inputs)
    # That a detail of one layer is seen.
    model.norm_sites(mine)[-1].epsilon *= 1000
    with pytest.raises(AssertionError):
        _assert_equal(mine, peer, inputs)
    assert isinstance(mine, tf_keras.layers.Layer)
