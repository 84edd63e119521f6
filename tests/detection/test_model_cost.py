"""Parameters and multiply-adds: the paper's, the Model Garden's, by hand."""

import math

import pytest
import tensorflow as tf

from detection import model_cost
from evonorm_tf import legacy
from tests.detection import full, small

# Table 4, arXiv:2004.02967v1: parameters in M, multiply-adds in B.
PAPER = {
    ("resnet50_postact", "bn_relu"): (46.37, 332.0),
    ("resnet50_postact", "evonorm_b0"): (46.38, 332.3),
    ("resnet50_postact", "gn_relu"): (46.37, 332.3),
    ("resnet50_postact", "evonorm_s0"): (46.38, 331.9),
    ("resnet101_postact", "bn_relu"): (65.36, 409.8),
    ("resnet101_postact", "evonorm_b0"): (65.38, 410.1),
    ("resnet101_postact", "gn_relu"): (65.36, 410.3),
    ("resnet101_postact", "evonorm_s0"): (65.38, 409.7),
}
# Mask R-CNN trained from scratch with BatchNorm, official/vision/
# MODEL_GARDEN.md of github.com/tensorflow/models, likewise.
GARDEN = {
    "spinenet49": (40.8, 215.7),
    "spinenet96": (55.2, 315.0),
    "spinenet143": (79.2, 498.8),
}
# The rest differ by closed forms.
FAST = [("resnet50_postact", "evonorm_b0")]
_DENSE = 49 * 256 * 1024 + 1024 * 91 * (1 + 4)
BOX = 4 * 49 * 9 * 256 * 256 + _DENSE
MASK = 196 * (4 * 9 * 256 * 256 + 4 * 256 * 256) + 784 * 256 * 91


@pytest.mark.parametrize(
    ("network", "norm_act"),
    [
        pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in PAPER
    ],
)
def test_the_paper_prints_these(network, norm_act):
    parameters, multiply_adds = PAPER[network, norm_act]
    params = full.settings(network, norm_act)
    found = full.counted(network, norm_act)
    assert round(found.parameters / 1e6, 2) == parameters
    # The paper's have some element-wise work in them, for they differ by
    # layer: all 0.1 to 0.5 % above.
    excess = multiply_adds * 1e9 / found.training(params) - 1
    assert 0.001 < excess < 0.005


@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=pytest.mark.slow) for n in GARDEN],
)
def test_the_model_garden_prints_these(network):
    parameters, multiply_adds = GARDEN[network]
    params = full.settings(network, "bn_relu")
    found = full.counted(network, "bn_relu")
    assert round(found.parameters / 1e6, 1) == parameters
    excess = multiply_adds * 1e9 / found.inference(params) - 1
    assert 0.001 < excess < 0.005


def test_r50_fpn_counted_by_hand():
    found = full.counted(*FAST[0])  # Layers cost nothing: any of them will do.
    # As torchvision documents its ResNet50 at 224 px, 4.09 billion, without
    # the classifier.
    backbone = (4.089e9 - 2048 * 1000) * (1024 / 224) ** 2
    sides = {level: 1024 >> level for level in range(2, 7)}
    lateral = sum(
        sides[level] ** 2 * (64 << level) * 256 for level in range(2, 6)
    )
    places = sum(side**2 for side in sides.values())
    three = 9 * 256 * 256
    # 3 anchors, each a score and 4 sides.
    rpn = places * (three + 256 * 3 * (1 + 4))
    expected = backbone + lateral + places * three + rpn
    assert found.image == pytest.approx(expected, rel=1e-4)
    assert (found.box, found.mask) == (BOX, MASK)


@pytest.mark.slow
def test_parameters_counted_by_hand():
    # ResNet-50 without its classifier, as in tests/nets/test_counts.py.
    backbone = 25_557_032 - (2048 + 1) * 1000
    channels = (256, 512, 1024, 2048)
    pyramid = sum(c * 256 + 256 for c in channels) + 5 * (9 * 256 * 256 + 256)
    pyramid += 5 * 2 * 256
    rpn = 9 * 256 * 256 + 256 + 5 * 2 * 256 + 257 * 15
    convolutions = 4 * (9 * 256 * 256 + 256 + 2 * 256)
    box = convolutions + (49 * 256 + 1) * 1024 + 1025 * 91 * 5
    mask = convolutions + 4 * 256 * 256 + 256 + 2 * 256 + 257 * 91
    bn = full.counted("resnet50_postact", "bn_relu").parameters
    assert bn == backbone + pyramid + rpn + box + mask == 46_365_041
    # EvoNorms have v beside gamma and beta where there is an activation:
    # stem, two of each bottleneck, and the heads.
    v = 64 + 2 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512)
    v += (5 + 4 + 5) * 256
    evonorm = full.counted("resnet50_postact", "evonorm_b0").parameters
    assert evonorm - bn == v == 11_200
    # 17 bottlenecks of 256 channels inside and 1024 outside.
    block = 2 * 1024 * 256 + 9 * 256 * 256 + 2 * (2 * 256 + 1024) + 2 * 256
    r101 = full.counted("resnet101_postact", "evonorm_s0").parameters
    assert r101 - evonorm == 17 * block


def test_regions_are_those_of_the_settings():
    params = small.parameters().task.model
    found = model_cost.Count(7, 1000, 100, 10)
    assert found.training(params) == 1000 + 8 * 100 + 2 * 10
    params.roi_generator.test_num_proposals = 3
    params.detection_generator.max_num_detections = 5
    assert found.inference(params) == 1000 + 3 * 100 + 5 * 10


@pytest.mark.slow
def test_no_masks_no_mask_head():
    params = small.parameters(model={"include_mask": False}).task.model
    assert model_cost.count(params).mask == 0
    with_masks = model_cost.count(small.parameters().task.model)
    assert with_masks.mask > 0


def test_depthwise_and_transposed_convolutions_count_their_kernels():
    def function(x):
        x = tf.nn.depthwise_conv2d(
            x, tf.ones([3, 3, 4, 2]), [1, 2, 2, 1], "SAME"
        )
        return tf.nn.conv2d_transpose(
            x, tf.ones([2, 2, 5, 8]), [1, 8, 8, 5], 2, "VALID"
        )

    found = model_cost._traced(function, tf.TensorSpec([1, 8, 8, 4]))
    assert found == 4 * 4 * 9 * 4 * 2 + 4 * 4 * 4 * 5 * 8


@pytest.mark.parametrize("layer", ["bn_relu", "evonorm_b0", "evonorm_s0"])
def test_layers_are_not_counted(layer):
    made = legacy.NormAct(layer, groups=4)
    for training in (False, True):
        found = model_cost._traced(
            lambda x, training=training: made(x, training=training),
            tf.TensorSpec([2, 8, 8, 16]),
        )
        assert found == 0


def test_other_contractions_are_not_passed_over():
    with pytest.raises(ValueError, match="not counted"):
        model_cost._traced(
            lambda x: tf.einsum("ij,jk->ik", x, x), tf.TensorSpec([2, 2])
        )


def test_the_command_prints_ours_beside_the_papers(capsys, monkeypatch):
    shown = model_cost.Count(46_365_041, 100 * 10**9, 10**8, 10**9)
    monkeypatch.setattr(model_cost, "count", lambda params: shown)
    model_cost.main(["coco/r50_fpn/bn"])
    line = capsys.readouterr().out.splitlines()[-1].split()
    training, inference = 100 + 51.2 + 128, 100 + 100 + 100
    assert line == [
        *("coco/r50_fpn/bn_relu", "46.37", "46.37"),
        *(f"{training:.1f}", f"{inference:.1f}", "332.0"),
    ]


def test_a_row_with_a_layer_that_the_paper_has_not(capsys, monkeypatch):
    shown = model_cost.Count(1, 1, 1, 1)
    monkeypatch.setattr(model_cost, "count", lambda params: shown)
    model_cost.main(["coco/r50_fpn/evonorm_b1"])
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[0] == "coco/r50_fpn/evonorm_b1"
    assert line[2] == line[5] == "-"


@pytest.mark.parametrize("prefix", ["coco/r51", "imagenet/r50/bn_relu"])
def test_rows_that_are_not_there_are_refused(prefix):
    with pytest.raises(SystemExit, match="No detection row"):
        model_cost.main([prefix])


def test_kernels_are_counted_where_they_lie():
    # 3x3 of stride 2 on 8x8: 4x4 places.
    kernel = [3, 3, 3, 7]
    found = model_cost._traced(
        lambda x: tf.nn.conv2d(x, tf.ones(kernel), 2, "SAME"),
        tf.TensorSpec([1, 8, 8, 3]),
    )
    assert found == 16 * math.prod(kernel)
