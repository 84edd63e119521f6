"""Gradients of every row, first and second order.

Judged in float64 by TensorFlow's autodiff of the plain formula, which
test_reference.py compares with finite differences, and once in float32.
The drawn inputs keep clear of the kinks of max and ReLU: a kink nearer
than the step would show as an error of order 1.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, reference

# Differences: step 1e-5 squared, times third derivatives of order 100.
DIFFERENCES = 1e-7
# The same formula in another order of float64 operations.
AUTODIFF = 1e-11


def _keywords(case):
    return {"groups": 4} if case.grouped else {}


def _plain(case, weights, x=None, moving=None):
    return cases.plain_gradients(
        case.name,
        cases.draw() if x is None else x,
        weights,
        cases.draw(seed=5),
        moving=moving,
        **_keywords(case),
    )


def _assert_all_close(found, wanted, tolerance):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        got = found[name]
        if got is None:  # no path: then the true gradient must be zero
            got = np.zeros_like(value)
        cases.assert_close(got, value, tolerance, f"d {name}")


@cases.both_ways
@cases.both_kerases
@cases.every_case
def test_float64(kit_name, xla, case):
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    layer = cases.make(
        kit_name, case, values, dtype="float64", xla=xla, **_keywords(case)
    )
    _, found = cases.gradients(layer, cases.draw(), cases.draw(seed=5))
    _assert_all_close(found, _plain(case, weights), AUTODIFF)


@cases.both_ways
@cases.every_case
def test_float32(xla, case):
    """1e-5: the promise; some thousand float32 roundings make 1e-6."""
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    layer = cases.make("keras3", case, values, xla=xla, **_keywords(case))
    x = cases.draw().astype(np.float32)
    _, found = cases.gradients(layer, x, cases.draw(seed=5))
    _assert_all_close(found, _plain(case, weights), 1e-5)


@cases.both_ways
@cases.every_case
def test_inference(xla, case):
    """With moving statistics, through which no gradient flows."""
    values = cases.weights_of(case)
    weights, moving = cases.split(values)
    layer = cases.make(
        "keras3", case, values, dtype="float64", xla=xla, **_keywords(case)
    )
    _, found = cases.gradients(
        layer, cases.draw(), cases.draw(seed=5), training=False
    )
    wanted = _plain(case, weights, moving=moving)
    _assert_all_close(found, wanted, AUTODIFF)


@cases.both_ways
@cases.every_case
def test_class_conditional(xla, case):
    """gamma and beta [N, C], given at call time."""
    values = cases.weights_of(case)
    values.pop("gamma"), values.pop("beta")
    weights, _ = cases.split(values)
    layer = cases.make(
        "keras3",
        case,
        values,
        affine=False,
        dtype="float64",
        xla=xla,
        **_keywords(case),
    )
    given = {
        "gamma": cases.draw((4, 8), seed=7, scale=0.3, offset=1.0),
        "beta": cases.draw((4, 8), seed=9, scale=0.3, offset=0.0),
    }
    _, found = cases.gradients(layer, cases.draw(), cases.draw(seed=5), **given)
    wanted = _plain(case, {**weights, **given})
    _assert_all_close(found, wanted, AUTODIFF)
    for name in given:

        def loss(value, name=name):
            parameters = {**weights, **given, name: value}
            y = reference.forward(
                case.name, cases.draw(), parameters, **_keywords(case)
            )
            return np.sum(cases.draw(seed=5) * y)

        numeric = reference.numeric_gradient(loss, given[name])
        cases.assert_close(found[name], numeric, DIFFERENCES, f"d {name}")


@cases.both_ways
@cases.every_case
def test_without_activation(xla, case):
    values = cases.weights_of(case)
    values.pop("v", None)  # The scalars of DyT and Derf stay.
    if not case.name.startswith("bn_"):
        values, _ = cases.split(values)
    weights, _ = cases.split(values)
    layer = cases.make(
        "keras3",
        case,
        values,
        activation=False,
        dtype="float64",
        xla=xla,
        **_keywords(case),
    )
    x, cotangent = cases.draw(), cases.draw(seed=5)
    _, found = cases.gradients(layer, x, cotangent)
    wanted = cases.plain_gradients(
        case.name, x, weights, cotangent, activation=False, **_keywords(case)
    )
    _assert_all_close(found, wanted, AUTODIFF)


@cases.both_ways
@cases.every_case
def test_channels_first(xla, case):
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    n, h, w, c = cases.SHAPE
    layer = cases.make(
        "keras3",
        case,
        values,
        shape=(n, c, h, w),
        axis=1,
        dtype="float64",
        xla=xla,
        **_keywords(case),
    )
    x, cotangent = (
        np.moveaxis(cases.draw(seed=seed), -1, 1) for seed in (0, 5)
    )
    y, found = cases.gradients(layer, x, cotangent)
    wanted = reference.forward(
        case.name, cases.draw(), weights, **_keywords(case)
    )
    cases.assert_close(y, np.moveaxis(wanted, -1, 1), AUTODIFF, "y")
    found["x"] = np.moveaxis(found["x"], 1, -1)
    _assert_all_close(found, _plain(case, weights), AUTODIFF)


@pytest.mark.parametrize("name", ["evonorm_b0", "rs_rej"])
def test_second_order_while_functions_run_eagerly(name):
    """For debugging, TensorFlow can run functions line by line.

    With an analytic gradient and with one by autodiff.
    """
    case = cases.BY_NAME[name]
    make = functools.partial(
        cases.make, "keras3", case, cases.weights_of(case), **_keywords(case)
    )
    cotangent = cases.draw(seed=5)
    wanted = _gradient_of_squared_norm(make(dtype="float64"), case, cotangent)
    tf.config.run_functions_eagerly(True)
    try:
        found = _gradient_of_squared_norm(
            make(dtype="float64"), case, cotangent
        )
    finally:
        tf.config.run_functions_eagerly(False)
    _assert_all_close(found, wanted, 1e-9)


@cases.both_ways
@cases.every_case
def test_second_order(xla, case):
    """The gradient of |gradient|^2 by (x, gamma, beta, v) is 2 H g.

    H g is the derivative of the gradient along g, here by central
    differences of the plain formula's first-order gradient. 1e-6: step
    1e-5 along a unit vector, and a second derivative is less smooth.
    """
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    cotangent = cases.draw(seed=5)
    layer = cases.make(
        "keras3", case, values, dtype="float64", xla=xla, **_keywords(case)
    )
    found = _gradient_of_squared_norm(layer, case, cotangent)

    point = {"x": cases.draw(), **weights}
    direction = _plain(case, weights)
    length = np.sqrt(sum(np.sum(g * g) for g in direction.values()))

    def gradient_at(step):
        moved = {k: p + step * direction[k] for k, p in point.items()}
        return _plain(case, moved, x=moved.pop("x"))

    step = 1e-5 / length
    above, below = gradient_at(step), gradient_at(-step)
    wanted = {k: (above[k] - below[k]) / step for k in point}
    # One scale for all: where a second derivative is exactly zero (beta,
    # say), its difference quotient is rounding and nothing else.
    size = max(np.max(np.abs(value)) for value in wanted.values())
    for name, value in wanted.items():
        error = np.max(np.abs(found[name] - value)) / size
        assert error <= 1e-6, f"d {name}: error {error:.3g}"


def _gradient_of_squared_norm(layer, case, cotangent):
    x = tf.constant(cases.draw())
    sources = {n: cases.variable(layer, n) for n in case.trainable}
    sources = {"x": x, **sources}
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(cotangent * layer(x, training=True))
        first = inner.gradient(
            loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        squared = sum(
            tf.reduce_sum(tf.square(tf.cast(g, tf.float64)))
            for g in first.values()
        )
    second = outer.gradient(
        squared, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return {name: cases.as_numpy(value) for name, value in second.items()}
