"""The registry, sizes, stochastic depth; and the search's anchors."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from evonorm_tf import catalog, legacy, nets
from evonorm_tf.nets import mobile, resnet
from evonorm_tf.search import anchors
from tests.nets.small import DEBUG, copy, created, norm_acts

layers = tf_keras.layers
BN = functools.partial(legacy.norm_act, "bn_relu")
# Side of an image over the side of its features.
STRIDES = {
    "resnet50_cifar": 8,
    "mobilenet_v2_cifar": 8,
    "efficientnet_b0_cifar": 8,
    "resnet8_cifar": 4,
    "resnet20_cifar": 4,
    "resnet56_cifar": 4,
}


def _model(size, norm_act=BN, side=64, library=tf_keras):
    images = library.layers.Input((side, side, 3))
    features = nets.build(size, images, library.layers, norm_act)
    return library.Model(images, features)


# Others of their families differ in the numbers of blocks and channels.
_SCALED = ("resnet18", "resnet101", "resnet101_postact", "resnet20_cifar")
_SCALED += ("resnet50_cifar", "efficientnet_lite0", "efficientnet_b0_cifar")
_SCALED += tuple(f"efficientnet_b{i}" for i in range(1, 6))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n in _SCALED else ())
        for n in nets.names()
    ],
)
def test_every_network_shrinks_to_the_debug_size(name):
    size = nets.scaled(name, **DEBUG)
    model = _model(size)
    side = 64 // STRIDES.get(name, 32)
    assert model.output_shape[1:3] == (side, side)
    found = len(norm_acts(model))
    assert found == nets.sites(size)
    # Of one block a stage: what is left of the sites of all blocks.
    assert found < nets.sites(nets.get(name).size) or name == "resnet8_cifar"


def test_the_registry_has_the_networks_own_settings():
    found = {
        name: (n.image_size, n.dropout, n.stochastic_depth)
        for name in nets.names()
        if (n := nets.get(name)) and not name.endswith("_cifar")
    }
    plain = ("resnet18", "resnet50", "resnet101")
    plain += ("resnet50_postact", "resnet101_postact")
    # arXiv:1905.11946's code: width, depth, resolution, dropout.
    efficient = ((224, 0.2), (240, 0.2), (260, 0.3), (300, 0.3))
    efficient += ((380, 0.4), (456, 0.4))
    assert found == {
        **dict.fromkeys(plain, (224, 0.0, 0.0)),
        "mobilenet_v2": (224, 0.2, 0.0),
        "mnasnet_b1": (224, 0.2, 0.0),
        "efficientnet_lite0": (224, 0.2, 0.2),
        **{
            f"efficientnet_b{i}": (*entry, 0.2)
            for i, entry in enumerate(efficient)
        },
    }
    cifar = [n for n in nets.names() if n.endswith("_cifar")]
    assert {nets.get(n).image_size for n in cifar} == {32}


def test_widths_follow_the_references():
    def channels(name, width):
        size = nets.scaled(name, width)
        if isinstance(size, mobile.Size):
            filters = [s.filters for s in size.stages]
            return [size.stem_filters, *filters, size.head_filters]
        return [size.stem_filters, *size.filters]

    # Table 2, arXiv:1801.04381, at 0.5; the last convolution keeps its 1280.
    half = [16, 8, 16, 16, 32, 48, 80, 160, 1280]
    assert channels("mobilenet_v2", 0.5) == half
    # As keras.applications has it: of 32 * 0.35 = 11.2 come 16 channels, for
    # the nearest, 8, are less than 90 %.
    narrow = [16, 8, 8, 16, 24, 32, 56, 112, 1280]
    assert channels("mobilenet_v2", 0.35) == narrow
    assert channels("mobilenet_v2", 1.4)[-1] == 1792
    assert channels("mnasnet_b1", 1.4)[-1] == 1280
    # EfficientNet shrinks all: 0.5 of 40, 112 and 320, and of the head.
    narrow = [16, 8, 16, 24, 40, 56, 96, 160, 640]
    assert channels("efficientnet_b0_cifar", 0.5) == narrow
    assert channels("resnet50_cifar", 0.25) == [16, 16, 32, 64, 128]


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_kernels_start_with_the_references_spread(library):
    # Standard deviation sqrt(2 / fan-out), of n values known to 1 in
    # sqrt(2 n): five of these are allowed.
    made = nets.parts.conv(library.layers, 128, 3)
    made.build((None, 8, 8, 32))
    deep = nets.parts.depthwise(library.layers, 5)
    deep.build((None, 8, 8, 1024))
    for layer, fan_out in ((made, 9 * 128), (deep, 25)):
        kernel = layer.get_weights()[0]
        ratio = kernel.std() / np.sqrt(2 / fan_out)
        assert abs(ratio - 1) < 5 / np.sqrt(2 * kernel.size)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"Did you mean .*efficientnet_b0"):
        nets.get("efficientnetb0")
    wrong = (("width", 0.0), ("width", float("nan")), ("max_depth", -1))
    for key, value in wrong:
        for name in ("resnet50", "mobilenet_v2"):
            with pytest.raises(ValueError, match=f"Received: {key}"):
                nets.scaled(name, **{key: value})
    for rate in (1.0, -0.1, "0.1", True, float("nan")):
        with pytest.raises(ValueError, match=f"stochastic_depth={rate!r}"):
            nets.scaled("resnet50", stochastic_depth=rate)
        with pytest.raises(ValueError, match=f"dropout={rate!r}"):
            nets.classifier(tf.ones([1, 2, 2, 3]), layers, 5, rate)
    with pytest.raises(ValueError, match="head_scaling"):
        mobile.Size((), head_scaling="half")
    with pytest.raises(ValueError, match="one entry per stage"):
        resnet.Size((1, 1))


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_networks_are_channels_last_whatever_keras_is_configured_for(library):
    stage = mobile.Stage(1, 3, 2, expansion=2, filters=16)
    sizes = (
        resnet.Size((1,), (8,), (2,)),
        resnet.Size(
            *((1,), (8,), (2,)),
            preactivation=False,
            stem="deep",
            average_shortcut=True,
            padding="symmetric",
        ),
        mobile.Size((stage,), excitation=0.25),
    )
    make = legacy if library is tf_keras else evonorm_tf
    bn = functools.partial(make.norm_act, "bn_relu")

    def models():
        for size in sizes:
            images = library.layers.Input((16, 24, 3))
            features = nets.build(size, images, library.layers, bn)
            logits = nets.classifier(features, library.layers, 5)
            yield library.Model(images, logits)
        images = library.layers.Input((None, None, 3))
        x = nets.parts.upsample(library.layers, images, 2)
        x = nets.parts.max_pool(library.layers, 3, 2)(x)
        yield library.Model(images, x)

    def shapes(model):
        return [tuple(w.shape) for x in created(model) for w in x.weights]

    configured = library.backend.image_data_format()
    want = list(models())
    try:
        library.backend.set_image_data_format("channels_first")
        got = list(models())
    finally:
        library.backend.set_image_data_format(configured)
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 3))
    for one, same in zip(got, want, strict=True):
        assert shapes(one) == shapes(same)
        copy(same, one)
        y = np.array(one(images.astype("float32")))
        np.testing.assert_array_equal(y, same(images.astype("float32")))


# -- stochastic depth ---------------------------------------------------------


def _rates(model):
    return [x.rate for x in created(model) if type(x).__name__ == "Dropout"]


@pytest.mark.slow
def test_stochastic_depth_grows_with_depth_where_there_is_a_shortcut():
    # EfficientNet-B0 has 16 blocks, of which those at 2, 4, 6, 7, 9, 10, 12,
    # 13 and 14 keep shape and size.
    size = nets.scaled("efficientnet_b0", 0.25)
    inside = [2, 4, 6, 7, 9, 10, 12, 13, 14]
    expected = [0.2 * i / 16 for i in inside]
    np.testing.assert_allclose(_rates(_model(size)), expected)
    for name in ("resnet50", "resnet50_postact"):
        size = nets.scaled(name, 0.25, 2, stochastic_depth=0.4)
        expected = [0.4 * i / 8 for i in range(1, 8)]  # 0 drops nothing
        np.testing.assert_allclose(_rates(_model(size)), expected)


def test_stochastic_depth_can_be_left_out():
    size = nets.scaled("efficientnet_b0", **DEBUG, stochastic_depth=0.0)
    assert not _rates(_model(size))


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_dropped_branch_is_whole_and_the_mean_is_kept(library):
    branch = tf.ones([4000, 2, 3, 2])
    out = nets.parts.residual(library.layers, branch, 0 * branch, 0.3)
    # Outside training, all of it.
    np.testing.assert_array_equal(out, branch)
    images = library.layers.Input((2, 3, 2))
    out = nets.parts.residual(library.layers, images, images, 0.3)
    model = library.Model(images, out)
    samples = np.reshape(model(branch, training=True), [4000, -1]) - 1
    assert np.all(samples == samples[:, :1])  # A sample as a whole.
    kept = samples[:, 0] > 0
    np.testing.assert_allclose(samples[kept], 1 / 0.7, rtol=1e-6)
    # Binomial: five standard deviations of the share of 4000.
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / 4000)


# -- the search's anchors -----------------------------------------------------

ANCHOR_SIZES = {
    **{name: make(8) for name, make in anchors.ANCHORS.items()},
    "resnet50_cifar": nets.scaled("resnet50_cifar", 0.25, 2),
    "mobilenet_v2_cifar": nets.scaled("mobilenet_v2_cifar", 0.5, 2),
    "efficientnet_b0_cifar": nets.scaled(
        "efficientnet_b0_cifar", 0.5, 2, stochastic_depth=0.0
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in anchors.ANCHORS else pytest.mark.slow)
        for n in ANCHOR_SIZES
    ],
)
def test_the_search_walks_through_the_same_networks(name):
    """Equal weights, equal features, without Keras and with."""
    size = ANCHOR_SIZES[name]
    b0 = functools.partial(legacy.norm_act, "evonorm_b0", xla=False)
    model = _model(size, b0, side=16)
    walk = anchors._Pass(catalog.get("evonorm_b0"), groups=1, training=True)
    walk.rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        nets.build(size, tf.zeros([2, 16, 16, 3]), walk, walk.norm_act)
    weights, moving = iter(walk.drawn), iter(walk.drawn_moving)
    made = [x for x in created(model) if x.weights]
    kernels = [w for w, decays in zip(walk.drawn, walk.decays) if decays]
    # Kernels in the order they are made, class by class; biases stay 0.
    for kind in ("Conv2D", "DepthwiseConv2D"):
        deep = kind == "DepthwiseConv2D"
        mine = [k for k in kernels if (k.shape[-1] == 1) == deep]
        theirs = [x for x in made if type(x).__name__ == kind]
        for kernel, layer in zip(mine, theirs, strict=True):
            layer.set_weights([kernel, *layer.get_weights()[1:]])
    active = [x for x in norm_acts(model) if x.activation]
    assert len(walk.drawn_moving) == len(active)
    images = tf.random.normal([2, 16, 16, 3], seed=1)
    walk = anchors._Pass(catalog.get("evonorm_b0"), groups=1, training=True)
    walk.weights, walk.moving = weights, moving
    got = nets.build(size, images, walk, walk.norm_act)
    assert next(weights, None) is None
    want = model(images, training=True)
    # The layer's own arithmetic sums in another order.
    scale = np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * scale)
