"""What a step is made of: its data, its random numbers, losses, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf.ops import settings
from gan import latent, trainer
from tests.gan import small


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Nothing is run twice here."""
    with settings.using(xla=False):
        yield


@pytest.fixture(scope="module")
def built():
    """A trainer with two steps of D, each of two parts."""
    task = {"discriminator_steps": 2, "accumulation": 2}
    params = small.parameters("evonorm_s0", task)
    return trainer.Trainer(params, tf.distribute.get_strategy(), [])


@pytest.fixture
def recorded(built, monkeypatch):
    """The steps that a step of the run takes, in order; none is taken."""
    calls = []

    def discriminate(pieces, keys):
        calls.append(("discriminator", pieces, keys))

    def generate(count, keys):
        calls.append(("generator", count, keys))

    monkeypatch.setattr(built, "discriminator_step", discriminate)
    monkeypatch.setattr(built, "generator_step", generate)
    monkeypatch.setattr(built, "average_step", lambda: calls.append(("mean",)))
    return calls


def test_each_step_of_d_has_images_and_latents_of_its_own(built, recorded):
    labels = tf.range(16) % 10
    images = tf.ones([16, 8, 8, 3]) * tf.reshape(tf.range(16.0), [16, 1, 1, 1])
    built.replica_step(images, labels)
    assert [call[0] for call in recorded] == [
        *("discriminator", "discriminator", "generator", "mean")
    ]
    seen, keys = [], []
    for _, pieces, given in recorded[:2]:
        assert [len(part) for _, part in pieces] == [4, 4]
        for part, classes in pieces:
            seen += part[:, 0, 0, 0].numpy().tolist()
            np.testing.assert_array_equal(
                classes, part[:, 0, 0, 0].numpy().astype(int) % 10
            )
        keys += [tuple(key.numpy()) for key in given]
    assert seen == list(range(16))
    _, count, given = recorded[2]
    keys += [tuple(key.numpy()) for key in given]
    assert (count, len(given)) == (4, 2)
    # Four parts of D and two of G, and others at another step.
    assert len(set(keys)) == 6
    before = int(built.global_step.numpy())
    built.global_step.assign(before + 1)
    built.replica_step(images, labels)
    built.global_step.assign(before)
    again = [key for call in recorded[4:6] for key in call[2]]
    assert not set(keys) & {tuple(key.numpy()) for key in again}


def test_losses_are_the_hinge_and_the_mean_score(built):
    networks = (built.generator, built.discriminator)
    kept = [network.get_weights() for network in networks]
    images = tf.random.stateless_uniform([4, 8, 8, 3], [0, 1], -1.0, 1.0)
    labels, key = tf.constant([1, 2, 3, 4]), latent.key(0, 5)
    z, classes = latent.draw(key, 4, 8, 10)

    def scores(one, of):
        found = built.discriminator(one, of, training=True)
        # `u` moves in training: each of these sees what the step sees.
        built.discriminator.set_weights(kept[1])
        return found.numpy()

    made = built.generator(z, classes, training=True)
    built.generator.set_weights(kept[0])
    real, fake = scores(images, labels), scores(made, classes)
    loss, gradients = built._discriminate(images, labels, z, classes)
    expected = np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean()
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    assert len(gradients) == len(built.discriminator.trainable_variables)
    for network, weights in zip(networks, kept):
        network.set_weights(weights)
    loss, gradients = built._generate(z, classes)
    assert float(loss) == pytest.approx(-fake.mean(), abs=1e-5)
    assert len(gradients) == len(built.generator.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    for network, weights in zip(networks, kept):
        network.set_weights(weights)


def test_parts_of_a_batch_give_the_mean_of_their_gradients(built, monkeypatch):
    applied = []

    class Optimizer:
        def apply_gradients(self, pairs):
            applied.extend(pairs)

    monkeypatch.setattr(built, "_optimizers", [Optimizer(), Optimizer()])
    variables = built.discriminator.trainable_variables
    parts = [[tf.ones_like(v) * k for v in variables] for k in (1.0, 4.0)]
    # A table's gradient is of some rows, the same row twice perhaps.
    rows = tf.IndexedSlices(
        tf.ones([2, variables[-1].shape[1]]), tf.constant([1, 1])
    )
    rows = tf.IndexedSlices(
        rows.values, rows.indices, tf.constant(variables[-1].shape)
    )
    parts[0][-1] = rows
    built._apply(tuple(parts), built.discriminator, 1)
    assert [v is w for (_, v), w in zip(applied, variables, strict=True)]
    for gradient, _ in applied[:-1]:
        np.testing.assert_array_equal(gradient, np.full(gradient.shape, 2.5))
    table = applied[-1][0].numpy()
    assert (table[1] == 3.0).all() and (np.delete(table, 1, 0) == 2.0).all()


def test_a_step_is_two_of_the_discriminator_and_one_of_the_generator(built):
    networks = (built.generator, built.discriminator)
    before = [
        [v.numpy() for v in network.trainable_variables] for network in networks
    ]
    built.train_loop_begin()
    images = tf.random.stateless_uniform([16, 8, 8, 3], [0, 1], -1.0, 1.0)
    built.replica_step(images, tf.range(16) % 10)
    generator, discriminator = built._optimizers
    assert (int(generator.iterations), int(discriminator.iterations)) == (1, 2)
    assert all(np.isfinite(mean) for mean in built.train_loop_end().values())
    # Attention starts with a weight of 0, before its four kernels. A bias of
    # all scores is as much too high for real images as for made ones.
    for network, old, still in zip(networks, before, (4, 1), strict=True):
        moved = [
            np.abs(a - b.numpy()).max()
            for a, b in zip(old, network.trainable_variables, strict=True)
        ]
        assert all(np.isfinite(moved))
        assert sum(change > 0 for change in moved) >= len(moved) - still
    # Before `average_start` it is a copy.
    for one, other in zip(
        built.average.trainable_variables,
        built.generator.trainable_variables,
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
