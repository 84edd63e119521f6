"""Two replicas on two logical CPUs (tests/conftest.py makes them).

A strategy sums parameter gradients over its replicas, so the loss here is
a sum over samples, and the whole is one device with the whole batch.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, reference

# The two halves are summed in another order than the whole, in float32.
TOLERANCE = 1e-5
HALF = cases.SHAPE[0] // 2


@pytest.fixture
def strategy(mirrored):
    return mirrored


def _halves(strategy, array):
    array = array.astype(np.float32)

    def half(context):
        start = context.replica_id_in_sync_group * HALF
        return tf.constant(array[start : start + HALF])

    return strategy.experimental_distribute_values_from_function(half)


def _run(strategy, layer, case, x, cotangent):
    """One training step; y and dx joined, parameter gradients summed."""
    names = case.trainable

    @tf.function
    def step(x, cotangent):
        def replica(x, cotangent):
            sources = [cases.variable(layer, name) for name in names]
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                loss = tf.reduce_sum(y * cotangent)
            found = tape.gradient(
                loss,
                [x, *sources],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return y, found

        return strategy.run(replica, args=(x, cotangent))

    y, (dx, *rest) = step(_halves(strategy, x), _halves(strategy, cotangent))
    joined = [
        np.concatenate([part.numpy() for part in value.values])
        for value in (y, dx)
    ]
    sums = {
        name: sum(part.numpy() for part in value.values)
        for name, value in zip(names, rest, strict=True)
    }
    return joined[0], {"x": joined[1], **sums}


def _make(strategy, kit_name, case, values, **keywords):
    with strategy.scope():
        return cases.make(kit_name, case, values, **keywords)


def _replicas(layer, name):
    """A mirrored variable's value on each replica."""
    return [part.numpy() for part in cases.variable(layer, name).values]


def _inputs():
    """Halves that differ in mean and spread, so that pooling shows."""
    x = cases.draw()
    x[HALF:] = 2.0 * x[HALF:] + 1.0
    return x, cases.draw(seed=5)


@cases.both_kerases
@cases.both_ways
@cases.every_moving
def test_synchronised_halves_equal_the_whole(strategy, kit_name, xla, case):
    values = cases.weights_of(case)
    weights, moving = cases.split(values)
    x, cotangent = _inputs()
    layer = _make(strategy, kit_name, case, values, synchronized=True, xla=xla)
    y, found = _run(strategy, layer, case, x, cotangent)
    wanted = reference.forward(case.name, x, weights)
    cases.assert_close(y, wanted, TOLERANCE, "y")
    plain = cases.plain_gradients(case.name, x, weights, cotangent)
    for name, value in plain.items():
        cases.assert_close(found[name], value, TOLERANCE, f"d {name}")
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(moving[name], fresh)
        for value in _replicas(layer, name):
            cases.assert_close(value, wanted, TOLERANCE, name)


@cases.both_kerases
@cases.both_ways
@cases.every_moving
def test_unsynchronised_replicas_share_the_mean(strategy, kit_name, xla, case):
    """Each normalises by its own half; the moving averages are one value.

    It is the mean of the replicas' own statistics, not the pooled one.
    """
    values = cases.weights_of(case)
    weights, moving = cases.split(values)
    x, cotangent = _inputs()
    layer = _make(strategy, kit_name, case, values, xla=xla)
    y, found = _run(strategy, layer, case, x, cotangent)
    halves = [(part[:HALF], part[HALF:]) for part in (x, cotangent)]
    alone = [reference.forward(case.name, part, weights) for part in halves[0]]
    cases.assert_close(y, np.concatenate(alone), TOLERANCE, "y")
    plain = [
        cases.plain_gradients(case.name, part, weights, by)
        for part, by in zip(*halves, strict=True)
    ]
    for name in weights:
        wanted = plain[0][name] + plain[1][name]
        cases.assert_close(found[name], wanted, TOLERANCE, f"d {name}")
    wanted = np.concatenate([plain[0]["x"], plain[1]["x"]])
    cases.assert_close(found["x"], wanted, TOLERANCE, "d x")
    fresh = [reference.batch_statistics(case.name, p) for p in halves[0]]
    for name, old in moving.items():
        mean = (fresh[0][name] + fresh[1][name]) / 2.0
        first, second = _replicas(layer, name)
        np.testing.assert_array_equal(first, second)
        wanted = reference.moved(old, mean)
        cases.assert_close(first, wanted, TOLERANCE, name)


@cases.both_kerases
@cases.both_ways
@cases.every_stateless
def test_a_step_under_a_strategy_for_every_row(strategy, kit_name, xla, case):
    """Rows without batch statistics do not care how a batch is split."""
    values = cases.weights_of(case)
    keywords = {"groups": 4} if case.grouped else {}
    x, cotangent = _inputs()
    layer = _make(strategy, kit_name, case, values, xla=xla, **keywords)
    y, found = _run(strategy, layer, case, x, cotangent)
    wanted = reference.forward(case.name, x, values, **keywords)
    cases.assert_close(y, wanted, TOLERANCE, "y")
    plain = cases.plain_gradients(case.name, x, values, cotangent, **keywords)
    for name, value in plain.items():
        cases.assert_close(found[name], value, TOLERANCE, f"d {name}")


@cases.both_kerases
@cases.every_moving
def test_synchronised_without_a_strategy_is_local(kit_name, case):
    """One replica: synchronised means the batch itself."""
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    layer = cases.make(kit_name, case, values, synchronized=True)
    y = layer(cases.draw().astype(np.float32), training=True)
    wanted = reference.forward(case.name, cases.draw(), weights)
    cases.assert_close(y, wanted, TOLERANCE, case.name)
