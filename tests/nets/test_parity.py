"""Equal weights, equal outputs: ours and the Model Garden's networks.

The peers' BatchNorm has epsilon 1e-3, so that ours is given it here, and
MobileNetV2's activation is ReLU6 there. Its EfficientNet has one rate of
stochastic depth for all blocks, not a growing one; it is off here. Both pad
"same".
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from evonorm_tf import legacy, nets
from evonorm_tf.nets import resnet
from tests.nets.small import created, disturb, norm_acts

backbones = pytest.importorskip("official.vision.modeling.backbones")
from official.vision.modeling.layers import nn_blocks  # noqa: E402

layers = tf_keras.layers
SIDE = 64
SPECS = layers.InputSpec(shape=(None, SIDE, SIDE, 3))


# Not compiled: a compilation a shape would take longer than the tests.
_norm_act = functools.partial(legacy.norm_act, epsilon=1e-3, xla=False)


def _bn_relu6(activation=True):
    norm = _norm_act("bn_relu", activation=False)
    return (lambda x: tf.nn.relu6(norm(x))) if activation else norm


def _ours(name, max_depth=0):
    norm_act = PEERS[name][1]
    images = layers.Input((SIDE, SIDE, 3))
    features = nets.backbone(
        *(name, images, layers, norm_act),
        max_depth=max_depth,
        stochastic_depth=0.0,
    )
    model = tf_keras.Model(images, features)
    disturb(model)
    return model


def _mnasnet():
    """MnasNet-B1 of the Model Garden's blocks, in the authors' notation."""
    code = (
        "r1_k3_s1_e1_i32_o16 r3_k3_s2_e3_i16_o24 r3_k5_s2_e3_i24_o40 "
        "r3_k5_s2_e6_i40_o80 r2_k3_s1_e6_i80_o96 r4_k5_s2_e6_i96_o192 "
        "r1_k3_s1_e6_i192_o320"
    )

    def conv_bn(x, filters, kernel, stride):
        x = layers.Conv2D(
            filters, kernel, stride, padding="same", use_bias=False
        )(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    images = layers.Input((SIDE, SIDE, 3))
    x = conv_bn(images, 32, 3, 2)
    for stage in code.split():
        r, k, s, e, i, o = (int(part[1:]) for part in stage.split("_"))
        for index in range(r):
            x = nn_blocks.InvertedBottleneckBlock(
                in_filters=o if index else i,
                out_filters=o,
                expand_ratio=e,
                strides=1 if index else s,
                kernel_size=k,
                norm_epsilon=1e-3,
            )(x)
    return tf_keras.Model(images, conv_bn(x, 1280, 1, 1))


def _mobilenet():
    return backbones.MobileNet("MobileNetV2", input_specs=SPECS)


def _efficientnet(number):
    return backbones.EfficientNet(
        f"b{number}",
        input_specs=SPECS,
        se_ratio=0.25,
        activation="swish",
        se_inner_activation="swish",
    )


def _resnet():
    return backbones.ResNet(50, input_specs=SPECS)


PEERS = {
    "mobilenet_v2": (_mobilenet, _bn_relu6),
    "mnasnet_b1": (_mnasnet, functools.partial(_norm_act, "bn_relu")),
    **{
        f"efficientnet_b{number}": (
            functools.partial(_efficientnet, number),
            functools.partial(_norm_act, "bn_silu"),
        )
        for number in (0, 3)
    },
    "resnet50_postact": (_resnet, functools.partial(_norm_act, "bn_relu")),
}


def _kinds(weights):
    """Weights by the last part of their names, in order."""
    kinds = {}
    for weight in weights:
        kind = weight.name.split("/")[-1].partition(":")[0]
        kinds.setdefault(kind, []).append(weight)
    return kinds


def _copy(ours, theirs):
    """In the order in which both made them, kind by kind."""
    source = _kinds(w for layer in created(ours) for w in layer.weights)
    target = _kinds(theirs.weights)
    assert source.keys() == target.keys()
    for kind, weights in source.items():
        for a, b in zip(weights, target[kind], strict=True):
            assert a.shape == b.shape, f"{a.name} {b.name}"
            b.assign(a)


def _error(ours, theirs, training):
    """Largest difference of the features, over their largest value."""
    images = tf.random.normal([4, SIDE, SIDE, 3], seed=1)
    want = theirs(images, training=training)
    if isinstance(want, dict):  # {level: features}
        want = want[max(want)]
    got = ours(images, training=training)
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize(
    ("name", "max_depth"),
    [
        # One of each family.
        *[("mobilenet_v2", 0), ("resnet50_postact", 2)],
        *(
            pytest.param(n, 0, marks=pytest.mark.slow)
            for n in PEERS
            if n != "mobilenet_v2"
        ),
    ],
)
def test_outputs_equal_the_model_gardens(name, max_depth, monkeypatch):
    if max_depth:  # Of a ResNet.
        stages = [
            (block, filters, min(count, max_depth))
            for block, filters, count in backbones.resnet.RESNET_SPECS[50]
        ]
        monkeypatch.setitem(backbones.resnet.RESNET_SPECS, 50, stages)
    ours, theirs = _ours(name, max_depth), PEERS[name][0]()
    _copy(ours, theirs)
    # float32: 2e-6 with given statistics. Those of a batch of 16 pixels carry
    # roundings on: ResNet-50 then has 6e-5 to 1.2e-4, by the number of threads,
    # and as much against itself when its input is changed in the last bit.
    assert _error(ours, theirs, training=False) < 1e-5
    assert _error(ours, theirs, training=True) < 5e-4
    if name == "mobilenet_v2":  # That a detail of one layer is seen.
        norm_acts(ours)[-1].epsilon *= 2
        assert _error(ours, theirs, training=False) > 1e-4


def test_preactivation_blocks_are_where_the_paper_has_them():
    """Against the equations, written out in NumPy and plain convolutions.

    The Model Garden has no pre-activation ResNet.
    """
    size = resnet.scaled(resnet.SIZES["resnet50"], 0.25, max_depth=2)
    images = layers.Input((SIDE, SIDE, 3))
    norm_act = functools.partial(legacy.norm_act, "bn_relu")
    model = tf_keras.Model(
        images, resnet.resnet(images, layers, norm_act, size)
    )
    disturb(model)
    convs = iter([x for x in created(model) if isinstance(x, layers.Conv2D)])
    norms = iter([x for x in created(model) if isinstance(x, legacy.NormAct)])

    def conv(x, stride=1):
        return tf.nn.conv2d(x, next(convs).kernel, stride, "SAME")

    def norm(x):
        n = next(norms)
        z = (x - n.moving_mean) / np.sqrt(n.moving_variance + 1e-5)
        return np.maximum(z * n.gamma + n.beta, 0)

    start = tf.random.normal([2, SIDE, SIDE, 3], seed=1)
    x = tf.nn.max_pool2d(conv(start, 2), 3, 2, "SAME")
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            h = norm(x)
            shortcut = conv(h, stride) if block == 0 else x
            h = conv(h)
            h = conv(norm(h), stride)
            x = conv(norm(h)) + shortcut
    want = norm(x)
    assert next(convs, None) is None and next(norms, None) is None
    np.testing.assert_allclose(model(start), want, rtol=1e-4, atol=1e-4)
