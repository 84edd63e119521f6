"""Statistics across four CPU devices, against the layers on each shard.

On TensorFlow a replica has its own batch; `tests/layers/test_replicas.py`
holds that against the same reference.
"""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from evonorm_tf import layers
from tests import cases, reference

SHARDS = 4
TOLERANCE = 1e-5


@pytest.fixture
def distribution():
    assert len(jax.devices()) == SHARDS
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    yield keras.distribution.distribution()
    keras.distribution.set_distribution(None)


@pytest.fixture
def mesh():
    mesh = jax.make_mesh((SHARDS,), ("data",))
    with jax.set_mesh(mesh):
        yield mesh


def _inputs():
    """Shards that differ in mean and spread, so that pooling shows."""
    x, cotangent = cases.draw((8, 6, 5, 8)), cases.draw((8, 6, 5, 8), seed=5)
    for shard in range(SHARDS):
        rows = slice(2 * shard, 2 * shard + 2)
        x[rows] = (1.0 + 0.3 * shard) * x[rows] + 0.2 * shard
    return x, cotangent


def _step(layer, sharding, x, cotangent):
    """y, dx, gradients of the weights by name, new statistics by name."""
    state = [v.value for v in layer.non_trainable_variables]

    @jax.jit
    def step(x, trainable, cotangent):
        def loss(x, trainable):
            y, new = layer.stateless_call(trainable, state, x, training=True)
            return jnp.sum(y * cotangent), (y, new)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, trainable)

    x, cotangent = (
        jax.device_put(t.astype(np.float32), sharding) for t in (x, cotangent)
    )
    trainable = [v.value for v in layer.trainable_variables]
    (_, (y, new)), (dx, d_weights) = step(x, trainable, cotangent)
    names = [v.name for v in layer.trainable_variables]
    moving = [v.name for v in layer.non_trainable_variables]
    return y, dx, dict(zip(names, d_weights)), dict(zip(moving, new))


def _make(case, values, synchronized):
    layer = layers.NormAct(case.name, synchronized=synchronized)
    layer.build((None, 6, 5, 8))
    for name, value in values.items():
        getattr(layer, name).assign(value.astype(np.float32))
    return layer


def _check(case, sharding, synchronized):
    values = cases.weights_of(case)
    weights, moving = cases.split(values)
    x, cotangent = _inputs()
    layer = _make(case, values, synchronized)
    y, dx, d_weights, new = _step(layer, sharding, x, cotangent)
    count = 1 if synchronized else SHARDS
    parts = [np.split(a, count) for a in (x, cotangent)]
    alone = [reference.forward(case.name, part, weights) for part in parts[0]]
    _close(y, np.concatenate(alone), "y")
    plain = [
        cases.plain_gradients(case.name, part, weights, by)
        for part, by in zip(*parts)
    ]
    _close(dx, np.concatenate([p["x"] for p in plain]), "d x")
    for name in weights:
        _close(d_weights[name], sum(p[name] for p in plain), f"d {name}")
    fresh = [reference.batch_statistics(case.name, p) for p in parts[0]]
    for name, old in moving.items():
        mean = sum(f[name] for f in fresh) / count
        _close(new[name], reference.moved(old, mean), name)


def _close(got, wanted, what):
    got = np.asarray(got, np.float64)
    cases.assert_close(got, wanted, TOLERANCE, what)


@pytest.mark.parametrize("synchronized", [True, False])
@cases.every_moving
def test_data_parallel(distribution, case, synchronized):
    devices = np.array(jax.devices())
    mesh = jax.sharding.Mesh(devices, ("batch",))
    _check(case, NamedSharding(mesh, PartitionSpec("batch")), synchronized)


@pytest.mark.parametrize("synchronized", [True, False])
@cases.every_moving
def test_plain_mesh(mesh, case, synchronized):
    _check(case, NamedSharding(mesh, PartitionSpec("data")), synchronized)


def test_fit_under_data_parallel(distribution):
    layer = layers.NormAct("evonorm_b0")
    model = keras.Sequential([keras.Input((6, 5, 8)), layer])
    model.compile("sgd", "mse")
    x, target = (a.astype(np.float32) for a in _inputs())
    model.fit(x, target, batch_size=8, shuffle=False, verbose=0)
    parts = [part.var((0, 1, 2)) for part in np.split(x, SHARDS)]
    wanted = reference.moved(1.0, np.mean(parts, 0))
    _close(layer.moving_variance, wanted, "moving_variance")


def test_a_batch_that_shards_do_not_divide_is_refused(distribution):
    layer = layers.NormAct("evonorm_b0")
    with pytest.raises(ValueError, match=r"batch of 6.*shards=4"):
        layer(np.ones([6, 4, 4, 8], np.float32), training=True)
    synchronized = layers.NormAct("evonorm_b0", synchronized=True)
    synchronized(np.ones([6, 4, 4, 8], np.float32), training=True)


def _pmap(function, x):
    split = x.reshape(SHARDS, -1, *x.shape[1:])
    return jax.pmap(function)(split).reshape(x.shape)


def _shard_map(function, x):
    devices = np.array(jax.devices()).reshape(1, SHARDS)
    mesh = jax.sharding.Mesh(devices, ("model", "data"))
    part = PartitionSpec("data")
    local = jax.shard_map(function, mesh=mesh, in_specs=part, out_specs=part)
    return jax.jit(local)(x)


@pytest.mark.parametrize("synchronized", [True, False])
@pytest.mark.parametrize("divide", [_pmap, _shard_map])
@pytest.mark.parametrize(
    "case", [c for c in cases.KINDS if c.moving], ids=lambda c: c.name
)
def test_inside_a_shard(case, divide, synchronized):
    """There the batch is the shard's already; synchronized ones are pooled."""
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    x = _inputs()[0].astype(np.float32)
    layer = _make(case, values, synchronized)
    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]

    forward = functools.partial(
        layer.stateless_call, trainable, state, training=True
    )
    y = divide(lambda x: forward(x)[0], x)
    parts = np.split(x.astype(np.float64), 1 if synchronized else SHARDS)
    wanted = [reference.forward(case.name, part, weights) for part in parts]
    _close(y, np.concatenate(wanted), "y")
    for index, variable in enumerate(layer.non_trainable_variables):

        def moved(x, index=index):
            return jnp.zeros_like(x) + forward(x)[1][index]

        found = np.split(divide(moved, x), SHARDS)
        for shard, part in enumerate(found):
            own = parts[0 if synchronized else shard]
            fresh = reference.batch_statistics(case.name, own)[variable.name]
            new = reference.moved(values[variable.name], fresh)
            _close(part, np.broadcast_to(new, part.shape), variable.name)


def test_shards_over_an_unknown_axis_are_not_pooled_silently():
    devices = np.array(jax.devices()).reshape(2, 2)
    mesh = jax.sharding.Mesh(devices, ("rows", "columns"))
    part = PartitionSpec("rows")
    for synchronized in (False, True):
        layer = _make(cases.BY_NAME["bn_relu"], {}, synchronized)

        @jax.jit
        @functools.partial(
            jax.shard_map, mesh=mesh, in_specs=part, out_specs=part
        )
        def step(x, layer=layer):
            return layer(x, training=True)

        x = jnp.ones([4, 6, 5, 8])
        if synchronized:
            with pytest.raises(ValueError, match=r"'batch' or 'data'.*'rows'"):
                step(x)
        else:
            assert step(x).shape == x.shape


def test_an_empty_batch_moves_nothing():
    layer = layers.NormAct("bn_relu", synchronized=True)
    layer(np.zeros([0, 6, 5, 8], np.float32), training=True)
    np.testing.assert_array_equal(layer.moving_variance, np.ones(8))


def test_no_communication_without_synchronization(mesh):
    """Unsynchronized statistics are computed where the shards are."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    found = {}
    for synchronized in (True, False):
        layer = _make(cases.BY_NAME["bn_relu"], {}, synchronized)
        trainable = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]

        def forward(x, layer=layer, trainable=trainable, state=state):
            return layer.stateless_call(trainable, state, x, training=True)[0]

        x = jax.ShapeDtypeStruct((8, 6, 5, 8), jnp.float32, sharding=sharding)
        compiled = jax.jit(forward).lower(x).compile()
        found[synchronized] = "all-reduce" in compiled.as_text()
    assert found == {True: True, False: False}
