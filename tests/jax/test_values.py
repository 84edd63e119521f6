"""Values and gradients on JAX against the float64 reference.

The promise is 1e-5 relative in float32, as on TensorFlow.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evonorm_tf import graphs, layers
from evonorm_tf.graphs import evaluate
from tests import cases, reference

TOLERANCE = 1e-5
every_shape = pytest.mark.parametrize(
    "shape", [cases.SHAPE, (4, 3, 2, 5, 8)], ids=["images", "volumes"]
)


def _keywords(case):
    return {"groups": 4} if case.grouped else {}


def _make(case, values, shape=cases.SHAPE, **keywords):
    layer = layers.NormAct(case.name, **_keywords(case), **keywords)
    layer.build((None, *shape[1:]))
    for name, value in values.items():
        getattr(layer, name).assign(value.astype(np.float32))
    return layer


def _close(got, wanted, what, tolerance=TOLERANCE):
    cases.assert_close(np.asarray(got, np.float64), wanted, tolerance, what)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("training", [True, False])
@cases.every_case
def test_values(case, training, jit):
    values = cases.weights_of(case)
    layer, x = _make(case, values), cases.draw()
    call = jax.jit(layer.stateless_call, static_argnames="training")
    call = call if jit else layer.stateless_call
    y, state = call(
        [v.value for v in layer.trainable_variables],
        [v.value for v in layer.non_trainable_variables],
        x.astype(np.float32),
        training=training,
    )
    weights, moving = cases.split(values)
    wanted = reference.forward(
        case.name,
        x,
        weights,
        moving=None if training else moving,
        **_keywords(case),
    )
    _close(y, wanted, case.name)
    fresh = reference.batch_statistics(case.name, x)
    names = [v.name for v in layer.non_trainable_variables]
    assert set(names) == set(fresh)
    for name, value in zip(names, state, strict=True):
        moved = reference.moved(moving[name], fresh[name])
        _close(value, moved if training else moving[name], name)


@every_shape
@pytest.mark.parametrize("axis", [-1, 1])
@cases.every_case
def test_gradients(case, axis, shape):
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    x, cotangent = cases.draw(shape), cases.draw(shape, seed=5)
    turned = [
        np.moveaxis(a, -1, axis).astype(np.float32) for a in (x, cotangent)
    ]
    layer = _make(case, values, shape=turned[0].shape, axis=axis)
    state = [v.value for v in layer.non_trainable_variables]

    @jax.jit
    def gradients(x, trainable, cotangent):
        def loss(x, trainable):
            y, _ = layer.stateless_call(trainable, state, x, training=True)
            return jnp.sum(y * cotangent)

        return jax.grad(loss, (0, 1))(x, trainable)

    trainable = [v.value for v in layer.trainable_variables]
    dx, d_weights = gradients(turned[0], trainable, turned[1])
    wanted = cases.plain_gradients(
        case.name, x, weights, cotangent, **_keywords(case)
    )
    _close(np.moveaxis(np.asarray(dx), axis, -1), wanted["x"], "d x")
    names = [v.name for v in layer.trainable_variables]
    assert sorted(names) == sorted(weights)
    for name, value in zip(names, d_weights, strict=True):
        _close(value, wanted[name], f"d {name}")


@cases.every_case
def test_class_conditional(case):
    """Another gamma and beta for every sample, [N, C], given at call."""
    values = cases.weights_of(case)
    values.pop("gamma"), values.pop("beta")
    layer, x = _make(case, values, affine=False), cases.draw()
    gamma = cases.draw((4, 8), seed=7, scale=0.3, offset=1.0)
    beta = cases.draw((4, 8), seed=8, scale=0.3, offset=0.0)
    weights, _ = cases.split(values)
    weights |= {"gamma": gamma, "beta": beta}
    given = {k: weights[k].astype(np.float32) for k in ("gamma", "beta")}
    y = layer(x.astype(np.float32), training=True, **given)
    wanted = reference.forward(case.name, x, weights, **_keywords(case))
    _close(y, wanted, case.name)


@pytest.mark.parametrize("name", graphs.NAMED)
def test_graphs(name):
    """Every named graph, with the statistics of the batch and moving ones."""
    graph = graphs.NAMED[name]
    row = graphs.row(graph, name)
    layer = layers.NormAct(row, groups=4)
    x = cases.draw()
    y = layer(x.astype(np.float32), training=True)
    ones, zero = np.ones([1, 1, 8]), np.zeros([1, 1, 1])
    wanted = evaluate.evaluate_numpy(
        graph, [x.reshape(4, 30, 8), zero, 0 * ones, ones], groups=4
    )
    wanted = np.broadcast_to(wanted, (4, 30, 8)).reshape(x.shape)
    _close(y, wanted, name)
    assert np.isfinite(np.asarray(layer(x.astype(np.float32)))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@cases.every_case
def test_mixed_precision(case, dtype):
    """A float32 input beyond float16's range is not cast on its way in.

    One rounding of the output apart: 2^-11 in float16, 2^-8 in bfloat16.
    """
    values = cases.weights_of(case)
    layer = _make(case, values, dtype=f"mixed_{dtype}")
    x = cases.draw()
    x[0, 0, 0, :] = 1e5
    y = layer(x.astype(np.float32), training=True)
    assert y.dtype == jnp.dtype(dtype)
    weights, _ = cases.split(values)
    wanted = reference.forward(case.name, x, weights, **_keywords(case))
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    if np.abs(wanted).max() < 65504:
        _close(y, wanted, case.name, rounding + TOLERANCE)
    assert {str(v.dtype) for v in layer.variables} == {"float32"}


def test_a_tie_of_the_maximum_belongs_to_its_first_argument():
    """As on TensorFlow; JAX's own maximum would halve it."""
    from evonorm_tf.ops import jax as backend

    slopes = jax.grad(backend.xp.maximum, (0, 1))
    assert slopes(2.0, 2.0) == (1.0, 0.0)
    assert slopes(1.0, 2.0) == (0.0, 1.0)
    assert np.isnan(backend.xp.maximum(np.nan, 1.0))
    assert np.isnan(backend.xp.maximum(1.0, np.nan))
