"""Exact parameter counts, the conditional gain, errors that say the way out."""

import numpy as np
import pytest
import tensorflow as tf
import yaml

from evonorm_tf import legacy
from evonorm_tf.training import config
from gan import blocks, experiment, networks, spectral
from tests.gan import small


def _count(variables):
    return sum(variable.shape.num_elements() for variable in variables)


def _build(model, builder=networks.build):
    # In a graph nothing is computed: 160 million weights cost no memory.
    with tf.Graph().as_default():
        return builder(model)


def _model(norm_act="bn_relu", **changes):
    model = experiment.Model(**changes)
    model.norm_act.name = norm_act
    return model


def test_biggan128_has_the_published_counts():
    generator, discriminator = _build(_model())
    assert _count(generator.trainable_variables) == 70_433_988
    assert _count(discriminator.trainable_variables) == 87_982_370


@pytest.mark.parametrize("name, moving", [("evonorm_b0", 1), ("evonorm_s0", 0)])
def test_evonorm_adds_v_alone(name, moving):
    generator = _build(_model(name), networks.build_generator)
    # 7,488 channels are normalized; `u` has 48,627 entries.
    assert _count(generator.trainable_variables) == 70_433_988 + 7_488
    states = _count(generator.non_trainable_variables)
    assert states == 48_627 + 7_488 * moving


def test_biggan256_has_the_published_counts():
    model = _model(architecture="biggan256", latent_size=140)
    generator, discriminator = _build(model)
    assert _count(generator.trainable_variables) == 82_097_604
    # With a learned shortcut in the pooled block that keeps its width.
    assert _count(discriminator.trainable_variables) == 99_225_890


def test_cifar10_recipe_has_the_published_counts():
    params = config.parse("biggan", ["configs/gan/cifar10.yaml"], "bn_relu")
    generator, discriminator = _build(params.task.model)
    assert _count(generator.trainable_variables) == 4_304_387
    assert _count(discriminator.trainable_variables) == 4_207_361


@pytest.mark.parametrize("name", ["cifar10", "cifar10_small"])
def test_recipes_change_what_they_name(name):
    path = f"configs/gan/{name}.yaml"
    with open(path, encoding="utf-8") as file:
        recipe = yaml.safe_load(file)
    task = config.parse("biggan", [path]).task
    assert (
        task.model.generator_width == recipe["task"]["model"]["generator_width"]
    )
    assert task.train_data.dataset == "cifar10"


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
    generator, discriminator = networks.build(small.parameters().task.model)
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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "biggan127"}, "Nearest: biggan128"),
        ({"latent_size": 121}, "multiple of 6"),
        ({"class_embedding": 0}, "hierarchical=false"),
        ({"initializer": "he"}, "orthogonal"),
    ],
)
def test_models_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        networks.build(_model(**changes))
