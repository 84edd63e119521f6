"""Exact parameter counts, the conditional gain, errors with their fixes."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from configs import tables
from evonorm_tf import legacy
from gan import (
    architectures,
    blocks,
    deep,
    experiment,
    networks,
    sampling,
    spectral,
)
from tests.gan import small
from training import config


def _count(variables):
    return sum(variable.shape.num_elements() for variable in variables)


def _build(model, builder=networks.build):
    # In a graph nothing is computed: 160 million weights cost no memory.
    with tf.Graph().as_default():
        return builder(model)


def _model(norm_act="bn_relu", **changes):
    # Orthogonal kernels are as many, and take longer.
    model = experiment.Model(**({"initializer": "normal"} | changes))
    model.norm_act.name = norm_act
    return model


@pytest.mark.parametrize(
    "name, v, moving",
    [
        ("evonorm_b0", 1, 1),
        pytest.param("evonorm_s0", 1, 0, marks=pytest.mark.slow),
        pytest.param("bn_relu", 0, 2, marks=pytest.mark.slow),
    ],
)
def test_biggan128_has_the_published_counts_and_v_alone(name, v, moving):
    generator, discriminator = _build(_model(name))
    # 7,488 channels are normalized; `u` has 48,627 entries.
    assert _count(generator.trainable_variables) == 70_433_988 + 7_488 * v
    states = _count(generator.non_trainable_variables)
    assert states == 48_627 + 7_488 * moving
    assert _count(discriminator.trainable_variables) == 87_982_370


@pytest.mark.slow
def test_biggan256_has_the_published_counts():
    model = _model(architecture="biggan256", latent_size=140)
    generator, discriminator = _build(model)
    assert _count(generator.trainable_variables) == 82_097_604
    # With a learned shortcut in the pooled block that keeps its width.
    assert _count(discriminator.trainable_variables) == 99_225_890


def _conv(entering, units, size):
    return entering * units * size**2 + units


def _deep_generator(ch, latent, classes, shared=128):
    """BigGAN-deep's table at 128 px, added up by hand."""
    condition = latent + shared

    def block(entering, units):
        inside = entering // 4
        convs = _conv(entering, inside, 1) + 2 * _conv(inside, inside, 3)
        norms = 2 * condition * (entering + 3 * inside)
        return convs + _conv(inside, units, 1) + norms

    wide = [16, 16, 8, 4, 2, 1]
    stages = sum(
        block(ch * a, ch * a) + block(ch * a, ch * b)
        for a, b in itertools.pairwise(wide)
    )
    start = condition * 16 * 16 * ch + 16 * 16 * ch
    ends = classes * shared + start + 2 * ch + _conv(ch, 3, 3)
    return stages + _attention(2 * ch) + ends


def _deep_discriminator(ch, classes):
    def block(entering, units):
        inside = units // 4
        convs = _conv(entering, inside, 1) + 2 * _conv(inside, inside, 3)
        missing = units - entering
        shortcut = _conv(entering, missing, 1) if missing else 0
        return convs + _conv(inside, units, 1) + shortcut

    wide = [1, 2, 4, 8, 16, 16]
    stages = sum(
        block(ch * a, ch * b) + block(ch * b, ch * b)
        for a, b in itertools.pairwise(wide)
    )
    ends = _conv(3, ch, 3) + 16 * ch + 1 + classes * 16 * ch
    return stages + _attention(2 * ch) + ends


def _attention(channels):
    return 2 * channels * (channels // 8) + 2 * channels * (channels // 2) + 1


@pytest.mark.slow
def test_biggan_deep_has_the_counts_of_its_table():
    row = tables.find("imagenet128/biggan_deep/evonorm_s0")
    model = config.parse(row=row).task.model
    assert (model.generator_width, model.latent_size) == (128, 128)
    generator, discriminator = _build(model)
    # v: both blocks of a stage have C + 3 C / 4 channels; and the last layer.
    v = 2 * (7 * 128 * (16 + 16 + 8 + 4 + 2)) // 4 + 128
    found = _count(generator.trainable_variables)
    assert found == _deep_generator(128, 128, 1000) + v == 50_244_484 + v
    found = _count(discriminator.trainable_variables)
    assert found == _deep_discriminator(128, 1000) == 34_590_210
    norms = [
        layer
        for layer in generator._flatten_layers()
        if isinstance(layer, legacy.NormAct)
    ]
    assert len(norms) == 5 * 2 * 4 + 1


def test_deep_blocks_keep_what_they_pass_on():
    def zeros():
        return tf_keras.initializers.Zeros()

    x = tf.random.stateless_normal([2, 4, 4, 16], [0, 1])
    block = deep.DiscriminatorBlock(
        24, True, networks.INITIALIZERS["orthogonal"]
    )
    block(x)
    block._convs[-1].kernel.assign(tf.ones_like(block._convs[-1].kernel))
    y = block(x)
    assert y.shape == [2, 2, 2, 24]
    made = y - tf.concat(
        [blocks.average_pool(x), block._missing(blocks.average_pool(x))], -1
    )
    # A kernel of ones gives every channel the same.
    np.testing.assert_allclose(made, made[..., :1] + 0 * made, atol=1e-5)
    norms = [
        blocks.ConditionalNormAct(
            legacy.norm_act("gn_relu", groups=2, affine=False),
            lambda width=width: blocks.Table(3, width, zeros()),
        )
        for width in (16, 4, 4, 4)
    ]
    block = deep.GeneratorBlock(
        16, 8, True, networks.INITIALIZERS["orthogonal"], norms
    )
    block(x, tf.constant([0, 2]))
    block._convs[-1].kernel.assign(tf.ones_like(block._convs[-1].kernel))
    made = block(x, tf.constant([0, 2])) - blocks.upsample(x[..., :8])
    assert made.shape == [2, 8, 8, 8]
    np.testing.assert_allclose(made, made[..., :1] + 0 * made, atol=1e-5)


def test_deep_generator_gives_the_latent_to_every_stage():
    row = architectures.Architecture(
        resolution=8,
        generator=(4, 4),
        discriminator=(2, 4),
        pooled=1,
        deep=True,
    )
    architectures.ARCHITECTURES["tiny_deep"] = row
    try:
        model = small.parameters().task.model.replace(architecture="tiny_deep")
        generator, discriminator = networks.build(model)
        shallow = model.replace(hierarchical=False)
        with pytest.raises(ValueError, match="hierarchical=true"):
            networks.build(shallow)
    finally:
        del architectures.ARCHITECTURES["tiny_deep"]
    z = tf.random.stateless_normal([2, 8], [0, 1])
    image = generator(z, tf.constant([3, 3]))
    assert image.shape == [2, 8, 8, 3]
    assert discriminator(image, tf.constant([3, 3])).shape == [2]
    (stage,) = generator._stages
    for block in stage:
        for norm in block._norms:
            assert norm._gain.kernel.shape[0] == 8 + 8  # class and latent


@pytest.mark.parametrize(
    "name, side, latent",
    [
        pytest.param("biggan64", 64, 20, marks=pytest.mark.slow),
        ("biggan32", 32, 20),
    ],
)
def test_other_sizes_make_images_of_theirs(name, side, latent):
    model = _model(
        architecture=name,
        latent_size=latent,
        generator_width=8,
        discriminator_width=8,
        num_classes=10,
    )

    @tf.autograph.experimental.do_not_convert
    def check():
        z, labels = tf.zeros([1, latent]), tf.zeros([1], tf.int32)
        image = networks.Generator(model)(z, labels)
        assert image.shape == [1, side, side, 3]
        assert networks.Discriminator(model)(image, labels).shape == [1]

    with tf.Graph().as_default():
        check()


def test_cifar10_recipe_has_the_published_counts():
    params = config.parse("biggan", ["configs/gan/cifar10.yaml"], "bn_relu")
    generator, discriminator = _build(params.task.model)
    assert _count(generator.trainable_variables) == 4_304_387
    assert _count(discriminator.trainable_variables) == 4_207_361


def test_gain_is_centred_at_one():
    layer = blocks.ConditionalNormAct(
        legacy.norm_act("gn_relu", groups=2, affine=False),
        lambda: blocks.Table(3, 4, "zeros"),
    )
    x = tf.random.stateless_normal([2, 3, 3, 4], [0, 1])
    alone = legacy.norm_act("gn_relu", groups=2)
    np.testing.assert_array_equal(layer(x, tf.constant([0, 2])), alone(x))


def test_attention_starts_as_identity_and_then_is_none():
    layer = blocks.Attention(16, networks.INITIALIZERS["orthogonal"])
    x = tf.random.stateless_normal([2, 4, 4, 16], [0, 1])
    np.testing.assert_array_equal(layer(x), x)
    layer.gamma.assign(1.0)
    y = layer(x) - x
    # A convex combination of pooled values: permuting the pixels within one
    # pooled window permutes queries alone, and so the output.
    flipped = tf.reverse(x, [1])
    np.testing.assert_allclose(
        layer(flipped) - flipped, tf.reverse(y, [1]), atol=1e-5
    )
    assert float(tf.reduce_max(tf.abs(y))) > 1e-3


def test_generator_uses_class_and_every_part_of_the_latent():
    generator = networks.build_generator(small.parameters().task.model)
    z = tf.random.stateless_normal([1, 8], [0, 1])
    image = generator(z, tf.constant([3]))
    assert image.shape == [1, 8, 8, 3]
    assert float(tf.reduce_max(tf.abs(image))) <= 1.0

    def moved(z, label):
        return float(
            tf.reduce_max(tf.abs(generator(z, tf.constant([label])) - image))
        )

    assert moved(z, 3) == 0
    assert moved(z, 4) > 1e-4
    for part in range(2):  # The first layer's, and the block's.
        change = tf.one_hot([4 * part], 8)
        assert moved(z + change, 3) > 1e-4


def test_discriminator_judges_the_pair_of_image_and_class():
    _, discriminator = networks.build(small.parameters().task.model)
    images = tf.random.stateless_uniform([2, 8, 8, 3], [0, 1], -1.0, 1.0)
    one = discriminator(images, tf.constant([0, 1]))
    other = discriminator(images, tf.constant([0, 2]))
    assert one.shape == [2]
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_only_generator_sites_are_norm_acts():
    model = small.parameters().task.model
    row = dataclasses.replace(small.TINY, discriminator_attention=4)
    architectures.ARCHITECTURES["tiny_attentive"] = row
    try:
        generator, discriminator = networks.build(
            model.replace(architecture="tiny_attentive")
        )
    finally:
        del architectures.ARCHITECTURES["tiny_attentive"]
    norms = [
        layer
        for layer in generator._flatten_layers()
        if isinstance(layer, legacy.NormAct)
    ]
    assert len(norms) == 2 + 1
    assert sum(layer.affine for layer in norms) == 1
    assert not any(
        isinstance(layer, legacy.NormAct)
        for layer in discriminator._flatten_layers()
    )
    assert len(spectral.layers(discriminator)) == 2 * 2 + 2 + 4 + 2


def test_standing_statistics_are_those_of_one_replica(mirrored):
    task = small.parameters("bn_relu").task
    start, settled = None, []
    with small.eagerly():
        for devices in (tf.distribute.get_strategy(), mirrored):
            with devices.scope():
                generator = networks.build_generator(task.model)
                start = start or generator.get_weights()
                generator.set_weights(start)
                sampling.Sampler(generator, task, devices).settle()
            settled.append(generator.get_weights())
    assert any((a != b).any() for a, b in zip(start, settled[0]))
    for one, two in zip(*settled, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "biggan127"}, "Did you mean biggan128"),
        ({"latent_size": 121}, "multiple of 6"),
        ({"class_embedding": 0}, "hierarchical=false"),
        ({"initializer": "he"}, "orthogonal"),
        ({"latent_size": 0, "hierarchical": False}, "latent_size=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"discriminator_width": -1}, "discriminator_width=-1"),
        ({"class_embedding": -1}, "class_embedding=-1"),
    ],
)
def test_models_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        networks.build(_model(**changes))


@pytest.mark.parametrize(
    "name, widths, channels",
    [
        pytest.param(
            *("biggan128", {"discriminator_width": 4}, 4),
            marks=pytest.mark.slow,
        ),
        ("biggan_deep128", {"generator_width": 2}, 4),
    ],
)
def test_attention_of_too_few_channels_is_refused(name, widths, channels):
    model = _model("evonorm_s0", architecture=name, **widths)
    with pytest.raises(ValueError, match=f"8 channels.*channels={channels}"):
        _build(model)
