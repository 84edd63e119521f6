"""Every norm site accounted for; models that are refused; the decay."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling import maskrcnn_model

from detection import model
from evonorm_tf import legacy
from tests.detection import full, small

NETWORKS = ("resnet50_postact", "resnet50", "spinenet49")
# And one of two blocks per stage.
SHORT = "resnet50_postact, short"
# (with activation, without) in the backbone.
BACKBONE = {
    # The stem's, two of each of 16 bottlenecks; their last and, at the four
    # stages' first, that of the projection.
    "resnet50_postact": (1 + 2 * 16, 16 + 4),
    SHORT: (1 + 2 * 8, 8 + 4),
    # Three of each, and one at each of the levels 2 to 5.
    "resnet50": (3 * 16 + 4, 0),
    # Counted in tests/nets/test_spinenet.py, here with one block a node.
    "spinenet49": (1 + 2 * 2 + 30 + 16 + 11 * 2 + 4 + 5, 2 + 1 + 30 + 11 + 4),
}
# ReLUs that belong to no norm: after sums (a SpineNet's nodes have one before
# their blocks too), and the dense layer's of the box head.
RELUS = {
    "resnet50_postact": 16 + 1,
    SHORT: 8 + 1,
    "resnet50": 1,
    "spinenet49": 2 + 30 + 1,
}
LAYERS = tf_keras.layers


def _sites(part):
    """(with activation, without) of a part of the model."""
    found = model.norm_sites(part)
    active = sum(site.activation for site in found)
    return active, len(found) - active


# The others repeat its blocks, or have the same sites in another order.
_NETWORKS = pytest.mark.parametrize(
    "network",
    [SHORT, *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS)],
)


def _built(network):
    if network == SHORT:
        return full.built(NETWORKS[0], "evonorm_b0", 2)
    return full.built(network, "evonorm_b0")


@_NETWORKS
def test_every_site_is_a_norm_act(network):
    built = _built(network)
    assert isinstance(built, maskrcnn_model.MaskRCNNModel)
    assert _sites(built.backbone) == BACKBONE[network]
    if network == "spinenet49":
        assert built.decoder is None
    else:  # Levels 2 to 6, each without activation.
        assert _sites(built.decoder) == (0, 5)
    # One convolution, a norm_act for each of five levels.
    assert _sites(built.rpn_head) == (5, 0)
    # Four convolutions; the dense layer has a ReLU and no norm (rank 3).
    assert _sites(built.detection_head[0]) == (4, 0)
    # Four convolutions and the transposed one.
    assert _sites(built.mask_head) == (5, 0)
    parts = [built.backbone, built.decoder, built.rpn_head, built.mask_head]
    parts = [*parts, *built.detection_head]
    total = np.sum([_sites(part) for part in parts if part], axis=0)
    assert _sites(built) == tuple(total)


@_NETWORKS
def test_no_other_normalization_is_left(network):
    built = _built(network)
    every = list(built._flatten_layers())
    normalizations = (
        LAYERS.BatchNormalization,
        LAYERS.LayerNormalization,
        LAYERS.GroupNormalization,
        LAYERS.UnitNormalization,
    )
    assert not [x for x in every if isinstance(x, normalizations)]
    relus = [x for x in every if isinstance(x, LAYERS.ReLU)]
    assert len(relus) == RELUS[network]
    assert not [x for x in every if isinstance(x, LAYERS.Activation)]
    # What the Model Garden's heads put behind a layer of norm_act.
    heads = (built.rpn_head, *built.detection_head, built.mask_head)
    x = tf.constant([-1.0, 2.0])
    for head in heads:
        np.testing.assert_array_equal(head._activation(x), x)


def test_the_settings_reach_every_site():
    params = small.parameters().task.model
    params.norm_act.synchronized = True
    params.norm_act.epsilon = 1e-3
    built = model.build(params)
    sites = model.norm_sites(built)
    # The Model Garden leaves its mask head's BatchNorm out.
    assert {id(site) for site in sites} >= {
        id(site) for site in model.norm_sites(built.mask_head)
    }
    assert {site.synchronized for site in sites} == {True}
    assert {site.epsilon for site in sites} == {1e-3}


@pytest.mark.slow
def test_spinenets_heads_see_the_channels_of_its_levels():
    params = small.parameters(
        "bn_relu",
        model={
            "network": "spinenet49",
            "width": 0.125,
            "input_size": [128, 128, 3],
            "min_level": 3,
            "max_level": 7,
        },
    ).task.model
    with tf.Graph().as_default():
        built = model.build(params)
        levels = list(built.backbone.output.values())
        weights = built.backbone.trainable_weights
        gradients = tf.gradients(levels, weights)
    # Nothing was made that no level depends on.
    assert None not in gradients
    shapes = {k: tuple(x.shape) for k, x in built.backbone.output.items()}
    assert shapes == {
        str(level): (None, 128 >> level, 128 >> level, 32)
        for level in range(3, 8)
    }
    # Not fpn_filters, 16, which are a ResNet's.
    heads = (built.rpn_head, *built.detection_head, built.mask_head)
    for head in heads:
        first = head._convs[0].kernel
        assert first.shape[2] == 32


def test_weight_decay_is_of_kernels_alone():
    built = _built(SHORT)
    decayed = {id(weight) for weight in model.decayed_weights(built)}
    kernels = {
        id(layer.kernel)
        for layer in built._flatten_layers()
        if isinstance(layer, (tf_keras.layers.Conv2D, tf_keras.layers.Dense))
    }
    assert decayed == kernels
    owned = [
        w
        for layer in built._flatten_layers()
        if isinstance(layer, legacy.NormAct)
        for w in layer.weights
    ]
    assert owned and not decayed & {id(weight) for weight in owned}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "resnet5"}, "Did you mean resnet50"),
        ({"network": "spinenet94"}, "Did you mean spinenet9"),
        ({"input_size": [100, 64, 3]}, "multiples of 16"),
        ({"network": "resnet20_cifar"}, "no stage at min_level"),
        ({"network": "spinenet49"}, "multiples of 128"),
        ({"roi_sampler": {"cascade_iou_thresholds": [0.6]}}, "Cascade"),
        (
            {"detection_head": {"cascade_class_ensemble": True}},
            "cascade_class_ensemble=True",
        ),
        (
            {"detection_generator": {"soft_nms_sigma": 0.5}},
            r"soft_nms_sigma=0\.5, nms_version='v2'",
        ),
        ({"detection_generator": {"apply_nms": False}}, "apply_nms=False"),
        ({"detection_generator": {"nms_version": "v3"}}, "nms_version='v3'"),
    ],
)
def test_models_that_cannot_be_are_refused(changes, message):
    changes = {"min_level": 3} | changes
    params = small.parameters(model=changes).task.model
    with pytest.raises(ValueError, match=message):
        model.build(params)


def test_channels_first_is_refused():
    params = small.parameters().task.model
    try:
        tf_keras.backend.set_image_data_format("channels_first")
        with pytest.raises(ValueError, match="='channels_first'"):
            model.build(params)
    finally:
        tf_keras.backend.set_image_data_format("channels_last")
