"""SpineNet against the Model Garden's: sizes, topology, outputs."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf.layers
from evonorm_tf import legacy
from evonorm_tf.nets import spinenet
from tests.nets.small import copy_kinds, disturb, in_order, norm_acts

peer = pytest.importorskip("official.vision.modeling.backbones.spinenet")

layers = tf_keras.layers
# Two blocks per node and a width that int() cuts: 0.3 * 64 = 19.2.
SIZE = spinenet.Size(32, filter_scale=0.3, resample_alpha=0.5, repeats=2)
HEIGHT, WIDTH = 128, 256  # The coarsest block sees one row of two pixels.
# The peer's BatchNorm has epsilon 1e-3. Not compiled: a compilation a shape
# would take longer than the tests.
bn_relu = functools.partial(legacy.norm_act, "bn_relu", epsilon=1e-3, xla=False)


def _model(levels=range(3, 8), size=SIZE, norm_act=bn_relu):
    images = layers.Input((HEIGHT, WIDTH, 3))
    outputs = spinenet.spinenet(images, layers, norm_act, size, levels)
    return tf_keras.Model(images, outputs)


def _peers(levels=range(3, 8)):
    return peer.SpineNet(
        layers.InputSpec(shape=(None, HEIGHT, WIDTH, 3)),
        min_level=levels[0],
        max_level=levels[-1],
        endpoints_num_filters=SIZE.endpoint_filters,
        resample_alpha=SIZE.resample_alpha,
        block_repeats=SIZE.repeats,
        filter_size_scale=SIZE.filter_scale,
    )


def _pair(levels):
    """Our model and the peer, with equal weights."""
    ours, source = in_order(lambda: _model(levels))
    disturb(ours)
    theirs, target = in_order(lambda: _peers(levels))
    copy_kinds(source, target)
    return ours, theirs


def _error(ours, theirs, training):
    """Largest difference of a level, over the level's largest value."""
    shape = [3, HEIGHT, WIDTH, 3]
    images = tf.random.normal(shape, seed=1, dtype=ours.input.dtype)
    want = theirs(images, training=training)
    got = ours(images, training=training)
    assert got.keys() == want.keys()
    return max(
        np.abs(got[level] - want[level]).max() / np.abs(want[level]).max()
        for level in want
    )


@pytest.fixture(scope="module")
def pair():
    # In float64: in training the statistics of level 7 are those of 6 values,
    # and carry roundings of float32 on to 4 % of the outputs.
    # By the policy: once one was set, floatx is no longer looked at.
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float64")
    try:
        return _pair(range(3, 8))
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


@pytest.mark.slow
def test_outputs_equal_the_model_gardens(pair):
    # float64 has 2e-16.
    assert _error(*pair, training=False) < 1e-12
    assert _error(*pair, training=True) < 1e-9


@pytest.mark.slow
def test_a_detail_of_one_layer_is_seen(pair):
    ours, theirs = pair
    site = norm_acts(ours)[-1]
    before = site.epsilon
    site.epsilon = 2 * before
    try:
        assert _error(ours, theirs, training=False) > 1e-4
    finally:
        site.epsilon = before


@pytest.mark.slow
@pytest.mark.parametrize("levels", [range(2, 8), range(4, 7)])
def test_other_levels_equal_the_model_gardens(levels):
    assert _error(*_pair(levels), training=False) < 1e-5


@pytest.mark.parametrize("name", spinenet.SIZES)
def test_sizes_are_the_model_gardens(name):
    size = spinenet.SIZES[name]
    assert peer.SCALING_MAP[name.removeprefix("spinenet").upper()] == {
        "endpoints_num_filters": size.endpoint_filters,
        "filter_size_scale": size.filter_scale,
        "resample_alpha": size.resample_alpha,
        "block_repeats": size.repeats,
    }


@pytest.mark.slow
def test_every_site_is_made_by_norm_act(pair):
    # Stem: 1, and two groups of 2 bottlenecks (3 sites, the last without
    # activation), of which the first projects (1 without). Levels 3 to 7 are
    # 15 blocks (that of level 2 feeds no other): 30 parents, each with a norm
    # before and, without activation, after; 14 of them go down, by a
    # convolution with a norm of its own. 11 groups of bottlenecks and 4 of
    # two convolutions, of 2 each. One norm a level.
    down = sum(
        spinenet.BLOCKS[i].level > level
        for i in range(15)
        for level in (
            2 if p < 2 else spinenet.BLOCKS[p - 2].level
            for p in spinenet.BLOCKS[i].parents
        )
    )
    assert down == 16
    active = 1 + 2 * 2 * 2 + 30 + down + 11 * 2 * 2 + 4 * 2 * 1 + 5
    plain = 2 * 2 + 1 + 30 + 11 * 2 + 4 * 2
    sites = norm_acts(pair[0])
    assert sum(site.activation for site in sites) == active
    assert sum(not site.activation for site in sites) == plain
    assert not any(
        isinstance(layer, layers.BatchNormalization) for layer in pair[0].layers
    )


def test_scaling_keeps_the_shape_of_the_network():
    size = spinenet.scaled(spinenet.SIZES["spinenet96"], 0.25, max_depth=1)
    assert size == spinenet.Size(64, filter_scale=0.25)
    assert spinenet.scaled(spinenet.SIZES["spinenet49"]) == spinenet.Size()


@pytest.mark.slow
def test_stochastic_depth_grows_with_the_block():
    size = spinenet.Size(8, 0.1, stochastic_depth=0.32)
    drops = [
        layer.rate
        for layer in _model(range(2, 8), size).layers
        if isinstance(layer, layers.Dropout)
    ]
    # Block i of 16, from 1; the stem has none.
    assert sorted(drops) == pytest.approx([0.02 * i for i in range(1, 17)])


@pytest.mark.slow
def test_keras_3_builds_the_same_network():
    norm_act = functools.partial(evonorm_tf.layers.norm_act, "evonorm_s0")
    size = spinenet.Size(8, 0.1)
    images = keras.Input((128, 128, 3))
    outputs = spinenet.spinenet(images, keras.layers, norm_act, size)
    new = keras.Model(images, outputs)
    old = _model(
        size=size, norm_act=functools.partial(legacy.norm_act, "evonorm_s0")
    )
    assert new.count_params() == old.count_params()
    assert {k: v.shape for k, v in outputs.items()} == {
        str(level): (None, 128 >> level, 128 >> level, 8)
        for level in range(3, 8)
    }


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [
        ((128, 192, 3), range(3, 8), "multiples of 128"),
        ((128, 128, 3), range(1, 8), "levels 2 to 7"),
        ((128, 128, 3), range(3, 9), "levels 2 to 7"),
        ((128, 128, 3), range(3, 3), "levels 2 to 7"),
        ((128, 128, 3), (5, 9, 3), "levels 2 to 7"),
        ((128, 128, 3), (3, 4.0), "levels 2 to 7"),
    ],
)
def test_what_cannot_be_is_refused(shape, levels, message):
    images = layers.Input(shape)
    with pytest.raises(ValueError, match=message):
        spinenet.spinenet(images, layers, bn_relu, SIZE, levels)
