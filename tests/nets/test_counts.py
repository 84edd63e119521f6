"""Numbers of parameters, to the unit, and of norm-act sites.

Each number is known from elsewhere, and is counted a second time by the sums
below, which take channels and repeats from the literature, written out, and
nothing from the code.
"""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from evonorm_tf import nets
from tests.nets.small import norm_acts, untraced

CLASSES = 1000
# Kernel and expansion of MobileNetV2, MnasNet-B1 and EfficientNet stages.
BLOCKS = {
    "mobilenet_v2": ((3, 1), *[(3, 6)] * 6),
    "mnasnet_b1": ((3, 1), (3, 3), (5, 3), (5, 6), (3, 6), (5, 6), (3, 6)),
    "efficientnet": ((3, 1), (3, 6), (5, 6), (3, 6), (5, 6), (5, 6), (3, 6)),
}
# Channels of stem, stages and head; blocks of each stage.
MOBILE = {
    "mobilenet_v2": (
        (32, 16, 24, 32, 64, 96, 160, 320, 1280),
        (1, 2, 3, 4, 3, 3, 1),
    ),
    "mnasnet_b1": (
        (32, 16, 24, 40, 80, 96, 192, 320, 1280),
        (1, 3, 3, 3, 2, 4, 1),
    ),
    "efficientnet_b0": (
        (32, 16, 24, 40, 80, 112, 192, 320, 1280),
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_lite0": (
        (32, 16, 24, 40, 80, 112, 192, 320, 1280),
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_b1": (
        (32, 16, 24, 40, 80, 112, 192, 320, 1280),
        (2, 3, 3, 4, 4, 5, 2),
    ),
    "efficientnet_b2": (
        (32, 16, 24, 48, 88, 120, 208, 352, 1408),
        (2, 3, 3, 4, 4, 5, 2),
    ),
    "efficientnet_b3": (
        (40, 24, 32, 48, 96, 136, 232, 384, 1536),
        (2, 3, 3, 5, 5, 6, 2),
    ),
    "efficientnet_b4": (
        (48, 24, 32, 56, 112, 160, 272, 448, 1792),
        (2, 4, 4, 6, 6, 8, 2),
    ),
    "efficientnet_b5": (
        (48, 24, 40, 64, 128, 176, 304, 512, 2048),
        (3, 5, 5, 7, 7, 9, 3),
    ),
}
RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}

# (trained, not trained, sites) of bn_relu. The trained ones are what
# torchvision documents as num_params of ResNet50, ResNet101, MobileNet_V2,
# MNASNet1_0 and EfficientNet_B0 to B5. The pre-activation ResNets have no
# norms after the stem (64 channels) and the projections (256, 512, 1024,
# 2048) but one before the pooling (2048), and one at the entrance of a block
# (its C_in channels) instead of at its end (4 * f).
LITERATURE = {
    "resnet50": (25_549_352, 45_440, 49),
    "resnet101": (44_541_480, 97_664, 100),
    "resnet50_postact": (25_557_032, 53_120, 53),
    "resnet101_postact": (44_549_160, 105_344, 104),
    "mobilenet_v2": (3_504_872, 34_112, 52),
    "mnasnet_b1": (4_383_312, 37_920, 52),
    "efficientnet_b0": (5_288_548, 42_016, 49),
    "efficientnet_lite0": (4_652_008, 42_016, 49),
    "efficientnet_b1": (7_794_184, 62_048, 69),
    "efficientnet_b2": (9_109_994, 67_568, 69),
    "efficientnet_b3": (12_233_232, 87_296, 78),
    "efficientnet_b4": (19_341_616, 125_200, 96),
    "efficientnet_b5": (30_389_784, 172_736, 116),
}


def _resnet(depths, postact):
    """(weights outside norms, channels at sites with / without activation)."""
    weights = 7 * 7 * 3 * 64
    # After the stem, or before the pooling.
    active, affine = (64, 0) if postact else (2048, 0)
    entering = 64
    for f, depth in zip((64, 128, 256, 512), depths):
        weights += entering * 4 * f  # the projection
        affine += 4 * f if postact else 0
        for _ in range(depth):
            weights += entering * f + 9 * f * f + f * 4 * f
            active += 2 * f if postact else entering + 2 * f
            affine += 4 * f if postact else 0
            entering = 4 * f
    return weights + (2048 + 1) * CLASSES, active, affine


def _mobile(name):
    """As `_resnet`."""
    (stem, *filters, head), repeats = MOBILE[name]
    efficient = name.startswith("efficientnet")
    excited = efficient and "lite" not in name
    blocks = BLOCKS["efficientnet" if efficient else name]
    weights, active, affine, entering = 9 * 3 * stem, stem + head, 0, stem
    for (kernel, expansion), leaving, count in zip(blocks, filters, repeats):
        for _ in range(count):
            inner = entering * expansion
            if expansion > 1:
                weights += entering * inner
                active += inner
            weights += kernel * kernel * inner + inner * leaving
            active += inner
            affine += leaving
            if excited:  # Two 1x1 convolutions with biases.
                squeezed = entering // 4
                weights += 2 * inner * squeezed + squeezed + inner
            entering = leaving
    weights += entering * head + (head + 1) * CLASSES
    return weights, active, affine


def _counted(name):
    if name in MOBILE:
        return _mobile(name)
    plain = name.removesuffix("_postact")
    return _resnet(RESNETS[plain], name != plain)


@functools.cache
def _built(name, norm_act, legacy=False):
    """(trained, not trained, sites) of the model."""
    # In a graph of tf_keras weights have shapes and no values.
    graph = tf.Graph().as_default() if legacy else contextlib.nullcontext()
    with graph, untraced():
        model = evonorm_tf.create_model(
            name, norm_act, CLASSES, image_size=64, legacy=legacy
        )
    sizes = [
        sum(int(np.prod(w.shape)) for w in weights)
        for weights in (model.trainable_weights, model.non_trainable_weights)
    ]
    return *sizes, len(norm_acts(model))


# Others of their families differ in the numbers of blocks and channels.
_SCALED = ("resnet101", "resnet101_postact", "efficientnet_lite0")
_SCALED += tuple(f"efficientnet_b{number}" for number in range(1, 6))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n in _SCALED else ())
        for n in LITERATURE
    ],
)
def test_networks_have_the_literatures_parameters(name):
    weights, active, affine = _counted(name)
    norms = active + affine
    # gamma and beta are trained, moving mean and variance are not.
    trained, moving, sites = LITERATURE[name]
    assert (trained, moving) == (weights + 2 * norms, 2 * norms)
    assert _built(name, "bn_relu") == LITERATURE[name]
    assert nets.sites(nets.get(name).size) == sites


@pytest.mark.parametrize(
    "name",
    [pytest.param("resnet50", marks=pytest.mark.slow), "mobilenet_v2"],
)
def test_evonorms_differ_by_their_v_and_their_statistics(name):
    weights, active, affine = _counted(name)
    # Where BatchNorm has an activation they have gamma, beta and v; where it
    # has none, gamma and beta. B0 keeps a variance, S0 keeps nothing.
    trained = weights + 2 * (active + affine) + active
    sites = LITERATURE[name][2]
    assert _built(name, "evonorm_b0") == (trained, active, sites)
    assert _built(name, "evonorm_s0") == (trained, 0, sites)
    extra = {"resnet50": 22_720, "mobilenet_v2": 15_552}[name]
    assert trained - LITERATURE[name][0] == extra


def test_both_kerases_count_the_same():
    name = "mobilenet_v2"
    assert _built(name, "bn_relu", legacy=True) == LITERATURE[name]


def test_every_network_of_the_literature_is_counted():
    small = ("resnet18", "_cifar")  # Counted with the heads that train them.
    rest = [n for n in nets.names() if not n.endswith(small)]
    assert rest == sorted(LITERATURE, key=rest.index)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_efficientnets_count_as_those_of_keras(number):
    build = getattr(tf_keras.applications, f"EfficientNetB{number}")
    theirs = build(weights=None).count_params()
    trained, moving, _ = LITERATURE[f"efficientnet_b{number}"]
    # Its input normalization: mean and variance of three channels, a count.
    assert theirs == trained + moving + 7
