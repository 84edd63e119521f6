"""What users do to layers besides training them, and devices to batches."""

import copy
import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf import catalog
from evonorm_tf.ops import tensorflow as backend
from tests import cases


def _replicated_step(mirrored, layers, case, synchronized, x):
    """A layer after a step on x; the second replica gets one sample less."""
    with mirrored.scope():
        layer = layers.NormAct(case.name, synchronized=synchronized, xla=False)
        layer.build((None, *cases.SHAPE[1:]))

    def part(context):
        return tf.constant(x[context.replica_id_in_sync_group :])

    parts = mirrored.experimental_distribute_values_from_function(part)

    @tf.function
    def step(x):
        def replica(x):
            source = cases.variable(layer, "gamma")
            with tf.GradientTape() as tape:
                y = layer(x, training=True)
            return y, tape.gradient(y, source)

        return mirrored.run(replica, args=(x,))

    y, gradient = step(parts)
    for value in (*y.values, *gradient.values):
        assert np.isfinite(value.numpy()).all()
    return layer


@pytest.mark.parametrize("synchronized", [False, True])
@cases.both_kerases
@cases.every_moving
def test_an_empty_replica_harms_nobody(mirrored, kit_name, case, synchronized):
    """A last batch of one sample leaves the second replica without any."""
    layers = cases.kit(kit_name).layers
    x = cases.draw().astype(np.float32)[:1]
    layer = _replicated_step(mirrored, layers, case, synchronized, x)
    whole = layers.NormAct(case.name, xla=False)
    whole(x, training=True)
    for name, initial in layer.row.kernel.statistics:
        fresh = np.asarray(cases.variable(whole, name))
        # Its own statistics: the empty one wrote the old value, and the
        # mean of both is kept. Pooled ones are everybody's.
        wanted = fresh if synchronized else (fresh + initial) / 2
        for value in cases.variable(layer, name).values:
            cases.assert_close(value.numpy(), wanted, 1e-5, name)


@pytest.mark.parametrize("synchronized", [False, True])
@cases.both_kerases
@cases.every_moving
def test_an_empty_batch_moves_nothing(mirrored, kit_name, case, synchronized):
    """No replica has a sample: the moving statistics stay, also if pooled."""
    layers = cases.kit(kit_name).layers
    x = cases.draw().astype(np.float32)[:0]
    layer = _replicated_step(mirrored, layers, case, synchronized, x)
    alone = layers.NormAct(case.name, synchronized=synchronized)
    assert alone(x, training=True).shape == x.shape
    for name, initial in layer.row.kernel.statistics:
        for value in cases.variable(layer, name).values:
            np.testing.assert_array_equal(value, np.full(8, initial))
        kept = cases.variable(alone, name)
        np.testing.assert_array_equal(kept, np.full(8, initial))


@cases.both_kerases
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_are_float32_under_a_narrow_policy(kit_name, dtype):
    layer = cases.kit(kit_name).layers.NormAct("evonorm_b0", dtype=dtype)
    x = tf.cast(tf.random.stateless_normal([4, 8, 8, 8], [1, 2]) * 600, dtype)
    for _ in range(60):
        layer(x, training=True)
    assert {tf.as_dtype(w.dtype) for w in layer.weights} == {tf.float32}
    wide = tf.cast(x, tf.float64).numpy()
    moving = np.asarray(cases.variable(layer, "moving_variance"))
    # 0.9 ** 60 = 0.002 of the initial 1 is left: nothing, of 3.6e5.
    np.testing.assert_allclose(moving, wide.var((0, 1, 2)), rtol=3e-3)
    assert np.isfinite(tf.cast(layer(x), tf.float32).numpy()).all()


@cases.both_kerases
@pytest.mark.parametrize("name", ["evonorm_s0", "evonorm_b1", "bn_relu"])
def test_other_channels_than_built_for_are_refused(kit_name, name):
    kit = cases.kit(kit_name)
    layer = kit.layers.NormAct(name)
    layer(tf.zeros([2, 4, 4, 8]))
    for x in (tf.zeros([2, 4, 4, 16]), kit.keras.Input((4, 4, 16))):
        with pytest.raises(ValueError, match="16"):
            layer(x)


@cases.both_kerases
@pytest.mark.parametrize("axis", [-1, 1])
def test_channels_may_be_unknown_once_built(kit_name, axis):
    layer = cases.kit(kit_name).layers.NormAct("evonorm_b0", axis=axis)
    x = tf.constant(cases.draw(), tf.float32)
    wanted = layer(x, training=True)

    @tf.function(input_signature=[tf.TensorSpec([None] * 4)])
    def call(x):
        y = layer(x, training=True)
        assert y.shape[axis] == layer._channels
        return y

    cases.assert_close(call(x).numpy(), wanted.numpy(), 1e-5, "y")
    with pytest.raises(tf.errors.InvalidArgumentError):
        call(tf.repeat(x, 2, axis))


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_s0", "pn_relu"])
def test_forward_mode(name):
    """A tape inside a custom gradient would give zeros here, silently."""
    layer = cases.kit("tf_keras").layers.NormAct(name, dtype="float64")
    x, direction = (tf.constant(cases.draw(seed=s)) for s in (1, 2))
    layer(x)
    with tf.autodiff.ForwardAccumulator(x, direction) as forward:
        y = layer(x, training=True)
    step = 1e-6
    up, down = (layer(x + s * direction, training=True) for s in (step, -step))
    wanted = (up - down).numpy() / (2 * step)
    cases.assert_close(forward.jvp(y).numpy(), wanted, 1e-6, name)


@cases.every_case
def test_rows_pickle_by_name(case):
    row = catalog.get(case.name)
    for one in filter(None, (row, row.without_activation)):
        assert pickle.loads(pickle.dumps(one)) is one
        assert copy.deepcopy(one) is one


@cases.both_kerases
def test_a_layer_of_an_unlisted_row_is_stored(kit_name):
    layers = cases.kit(kit_name).layers
    config = layers.NormAct(catalog.AFFINE).get_config()
    assert config["name_or_row"] == "affine"
    assert layers.NormAct.from_config(config).row is catalog.AFFINE
    assert "affine" not in catalog.names()
    with pytest.raises(ValueError, match="already has"):
        catalog.register(dataclasses.replace(catalog.AFFINE))


@cases.both_kerases
def test_a_row_outside_the_catalog_is_not_stored(kit_name):
    row = copy.copy(catalog.get("evonorm_s0"))
    row = catalog.Row("mine", row.formula, row.reference, row.kernel)
    layer = cases.kit(kit_name).layers.NormAct(row)
    with pytest.raises(ValueError, match="register"):
        layer.get_config()


def test_compiled_functions_are_collected_with_their_kernel():
    """A search tries thousands of rows in one process."""
    before = len(backend._compiled)
    kernel = dataclasses.replace(catalog.get("evonorm_s1").kernel)
    row = catalog.Row("mine", "", "", kernel, grouped=True)
    layer = cases.kit("tf_keras").layers.NormAct(row)
    x = tf.zeros(cases.SHAPE)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    tape.gradient(y, x)
    # Two pieces each way, and the full-size one inside the first of each.
    assert len(backend._compiled[kernel]) == 6
    assert len(backend._compiled) == before + 1
    alive = weakref.ref(kernel)
    del kernel, row, layer, tape, y
    gc.collect()
    assert alive() is None
    assert len(backend._compiled) == before


@cases.both_kerases
def test_a_frozen_layer_without_statistics_keeps_its_gradient(kit_name):
    """Frozen, S0 is the same function: as in a GAN's discriminator."""
    layer = cases.kit(kit_name).layers.NormAct("evonorm_s0", groups=4)
    x = tf.constant(cases.draw().astype(np.float32))
    found = []
    for trainable in (True, False):
        layer.trainable = trainable
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        found.append(tape.gradient(y, x).numpy())
    np.testing.assert_array_equal(*found)
