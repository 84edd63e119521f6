"""Every norm site accounted for, and parameters against the paper's table."""

import functools

import numpy as np
import pytest
import tf_keras
from official.vision.modeling import maskrcnn_model

from detection import experiment, model
from evonorm_tf import legacy
from tests.detection import small


@functools.cache
def _r50_fpn(norm_act):
    """The recipe's R-50-FPN at full size."""
    params = experiment.coco_maskrcnn().task.model
    params.norm_act.name = norm_act
    return model.build(params)


def _trained(built):
    return sum(int(np.prod(w.shape)) for w in built.trainable_weights)


def _sites(part):
    """(with activation, without) of a part of the model."""
    found = model.norm_sites(part)
    active = sum(site.activation for site in found)
    return active, len(found) - active


def test_r50_fpn_has_a_norm_act_at_every_site():
    built = _r50_fpn("evonorm_b0")
    assert isinstance(built, maskrcnn_model.MaskRCNNModel)
    # 16 bottlenecks of 3, and one at each of the levels 2 to 5.
    assert _sites(built.backbone) == (52, 0)
    # Levels 2 to 6, each without activation.
    assert _sites(built.decoder) == (0, 5)
    # One convolution, a norm_act for each level.
    assert _sites(built.rpn_head) == (5, 0)
    # Four convolutions; the dense layer has a ReLU and no norm (rank 3).
    assert _sites(built.detection_head[0]) == (4, 0)
    # Four convolutions and the transposed one.
    assert _sites(built.mask_head) == (5, 0)
    assert _sites(built) == (66, 5)


def test_no_other_normalization_is_left():
    kinds = [type(layer) for layer in _r50_fpn("evonorm_b0")._flatten_layers()]
    normalizations = [
        kind
        for kind in kinds
        if issubclass(
            kind,
            (
                tf_keras.layers.BatchNormalization,
                tf_keras.layers.LayerNormalization,
                tf_keras.layers.GroupNormalization,
            ),
        )
    ]
    assert not normalizations
    activations = [
        kind
        for kind in kinds
        if kind in (tf_keras.layers.ReLU, tf_keras.layers.Activation)
    ]
    # The one dense layer's.
    assert activations == [tf_keras.layers.ReLU]


def test_r50_fpn_has_the_parameters_of_the_paper():
    # 46.37 M in Table 4, arXiv:2004.02967. Of the difference of 9 k, 4,096
    # are the pre-activation backbone's and 2,048 the dense layer's BatchNorm.
    counts = {n: _trained(_r50_fpn(n)) for n in ("bn_relu", "evonorm_b0")}
    assert counts["bn_relu"] == 46_360_945
    assert counts["bn_relu"] / 46.37e6 == pytest.approx(1, abs=5e-4)
    # EvoNorm-B0 has v1 beside gamma and beta where there is an activation.
    channels = sum(
        site.gamma.shape[0]
        for site in model.norm_sites(_r50_fpn("evonorm_b0"))
        if site.activation
    )
    assert counts["evonorm_b0"] - counts["bn_relu"] == channels == 28_096


def test_the_settings_reach_every_site():
    params = small.parameters().task.model
    params.norm_act.synchronized = True
    params.norm_act.epsilon = 1e-3
    sites = model.norm_sites(model.build(params))
    assert {site.synchronized for site in sites} == {True}
    assert {site.epsilon for site in sites} == {1e-3}


def test_weight_decay_is_of_kernels_alone():
    built = _r50_fpn("evonorm_b0")
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
        ({"network": "resnet5"}, "Nearest: resnet50"),
        ({"input_size": [100, 64, 3]}, "multiples of 16"),
        ({"network": "resnet20_cifar"}, "no stage at min_level"),
        ({"roi_sampler": {"cascade_iou_thresholds": [0.6]}}, "Cascade"),
    ],
)
def test_models_that_cannot_be_are_refused(changes, message):
    changes = {"min_level": 3} | changes
    params = small.parameters(model=changes).task.model
    with pytest.raises(ValueError, match=message):
        model.build(params)
