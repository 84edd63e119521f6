"""The folded forms compute what the layers do, in operations of rank 4."""

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf import catalog, layers, legacy
from evonorm_tf.exporting import inference_form, trace
from tests import reference

SHAPE = (3, 6, 5, 8)
# Rows that are left as they are: found by search, no formula of their own.
LEFT = ("random", "random_rej", "rs_rej")
KERASES = {"keras": layers, "tf_keras": legacy}


def _layer(home, name, low=-0.9, **options):
    """A built layer with weights drawn at random, v of both signs."""
    options = {"groups": 4} | options
    layer = home.NormAct(name, **options)
    layer(tf.zeros(SHAPE))
    ranges = {"moving_variance": (0.2, 2.0), "v": (low, 1.5)}
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        kind = weight.name.split("/")[-1].partition(":")[0]
        weight.assign(rng.uniform(*ranges.get(kind, (-1, 1)), weight.shape))
    return layer


def _images(shape=SHAPE, mean=0.5):
    rng = np.random.default_rng(1)
    return tf.constant(rng.normal(mean, 2, shape), tf.float32)


def _folded(layer, x):
    with inference_form(layer) as left:
        assert left == []
        return layer(x, training=False)


@pytest.mark.parametrize("active", [True, False], ids=["active", "bare"])
@pytest.mark.parametrize("name", [n for n in catalog.names() if n not in LEFT])
@pytest.mark.parametrize("home", KERASES)
def test_folded_equals_layer(home, name, active):
    layer = _layer(KERASES[home], name, activation=active)
    x = _images()
    want = layer(x, training=False)
    # Constants are rounded once and sums are taken in the same order.
    np.testing.assert_allclose(_folded(layer, x), want, rtol=2e-5, atol=2e-6)
    # The layer is as it was.
    assert "call" not in vars(layer)
    np.testing.assert_array_equal(layer(x, training=False), want)


@pytest.mark.parametrize("low", [0.1, 1e-4, -0.9])
def test_b0_for_large_small_and_negative_v(low):
    """Above 1e-2 everything is divided by v; elsewhere it cannot be."""
    layer = _layer(layers, "evonorm_b0", low=low)
    if low > 0:
        layer.v.assign(np.linspace(low, 1.5, 8))
    x = _images()
    values = {w.name: np.asarray(w, np.float64) for w in layer.weights}
    std = np.sqrt(values["moving_variance"] + 1e-5)
    wide = np.asarray(x, np.float64)
    instance = np.sqrt(reference.variance(wide, (1, 2)) + 1e-5)
    want = wide / np.maximum(std, values["v"] * wide + instance)
    want = want * values["gamma"] + values["beta"]
    np.testing.assert_allclose(_folded(layer, x), want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [SHAPE, (3, 1, 1, 8)])
@pytest.mark.parametrize("v", [0.0, 1e-3, -0.5])
def test_s0_for_small_and_negative_v(v, shape):
    """Within 1e-2 of 0 nothing is divided by v."""
    layer, x = _layer(layers, "evonorm_s0", low=0.1), _images(shape)
    layer.v.assign([0.7] * 7 + [v])
    want = layer(x, training=False)
    np.testing.assert_allclose(_folded(layer, x), want, rtol=2e-5, atol=2e-5)


def test_a_large_mean_keeps_its_digits():
    """Variances are of differences, and x - mean is taken first."""
    x = _images(mean=300.0)
    for name in ("evonorm_b0", "evonorm_s0", "gn_relu", "ln_relu"):
        layer = _layer(layers, name)
        want = layer(x, training=False)
        np.testing.assert_allclose(_folded(layer, x), want, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in catalog.names() if n not in LEFT])
def test_operations_are_few_and_of_rank_four(name):
    keras = layers.keras
    inputs = keras.Input(SHAPE[1:])
    layer = layers.NormAct(name, groups=4)
    model = keras.Model(inputs, layer(inputs))
    spec = tf.TensorSpec([None, *SHAPE[1:]])
    graphs = [
        trace.function(model, spec, fold).get_concrete_function().graph
        for fold in (True, False)
    ]
    folded, usual = (
        [op for op in g.get_operations() if op.type != "Const"] for g in graphs
    )
    assert len(folded) < len(usual)
    ranks = [t.shape.rank for op in folded for t in op.outputs]
    assert max(ranks) == 4
    # Nothing is read from a variable, and no shape at run time.
    kinds = {op.type for op in folded}
    assert not kinds & {"ReadVariableOp", "Shape", "Pack", "BroadcastTo"}


@pytest.mark.parametrize("name", ["evonorm_s0", "evonorm_s2", "gn_relu"])
def test_groups_of_one_channel_have_no_spread(name):
    """Its exact zeros have no int8 range: TensorFlow Lite aborts on them."""
    layer, x = _layer(layers, name, groups=8), _images()
    want = layer(x, training=False)
    np.testing.assert_allclose(_folded(layer, x), want, rtol=2e-5, atol=2e-6)
    model = layers.keras.Sequential([layers.keras.Input(SHAPE[1:]), layer])
    serve = trace.function(model, tf.TensorSpec([None, *SHAPE[1:]]))
    graph = serve.get_concrete_function().graph
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("SquaredDifference") == (name != "evonorm_s2")


def test_what_cannot_be_folded_is_left_and_named():
    x = _images()
    for options in ({"name_or_row": "random"}, {"axis": 1}, {"affine": False}):
        options = {"name_or_row": "evonorm_s0", "groups": 2} | options
        layer = layers.NormAct(**options)
        given = [tf.ones([3, 8])] * 2 if not layer.affine else []
        want = layer(x, *given, training=False)
        assert trace.fold(layer) is None
        with inference_form(layer) as left:
            np.testing.assert_array_equal(
                layer(x, *given, training=False), want
            )
        assert left == [layer.name]


@pytest.mark.parametrize("home", KERASES)
def test_a_call_of_one_s_own_is_not_exchanged(home):
    class Double(KERASES[home].NormAct):
        def call(self, inputs, gamma=None, beta=None, training=None):
            return 2.0 * super().call(inputs, gamma, beta, training)

    layer, x = Double("evonorm_b0"), _images()
    want = layer(x, training=False)
    with inference_form(layer) as left:
        np.testing.assert_array_equal(layer(x, training=False), want)
    assert left == [layer.name]


def test_a_block_within_a_block_ends_alone():
    layer, x = _layer(layers, "evonorm_b0", low=0.1), _images()
    usual = layer(x, training=False)
    with inference_form(layer):
        folded = layer(x, training=False)
        assert not np.array_equal(folded, usual)
        with inference_form(layer):
            np.testing.assert_array_equal(layer(x, training=False), folded)
        np.testing.assert_array_equal(layer(x, training=False), folded)
    np.testing.assert_array_equal(layer(x, training=False), usual)


def test_training_and_volumes_are_as_ever():
    layer = _layer(layers, "evonorm_b0")
    x = _images()
    before = np.asarray(layer.moving_variance)
    want = layer(x, training=True)
    layer.moving_variance.assign(before)
    with inference_form(layer):
        np.testing.assert_array_equal(layer(x, training=True), want)
        assert not np.array_equal(layer.moving_variance, before)
    volume = _images((2, 3, 4, 5, 8))
    want = layer(volume, training=False)
    np.testing.assert_array_equal(_folded(layer, volume), want)


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_what_reads_no_statistics_is_folded_at_any_rank(rank):
    x = _images((3, 4, 2, 2, 8)[: rank - 1] + (8,))
    for name, active in (("bn_relu", True), ("evonorm_b0", False)):
        layer = layers.NormAct(name, activation=active)
        layer(x)
        for weight in layer.weights:
            value = np.random.default_rng(0).uniform(0.5, 2.0, weight.shape)
            weight.assign(value)
        want = layer(x, training=False)
        with inference_form(layer):
            function = tf.function(lambda x: layer(x, training=False))  # noqa: B023
            got = function(x)
            concrete = function.get_concrete_function(x)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
        kinds = [op.type for op in concrete.graph.get_operations()]
        assert not {"Reshape", "Rsqrt", "ReadVariableOp"} & set(kinds)


@pytest.mark.parametrize(
    "name", ["evonorm_b0", "evonorm_s0", "gn_relu", "ln_relu"]
)
@pytest.mark.parametrize("groups", [4, 8])
def test_one_pixel_has_no_variance(name, groups):
    layer = _layer(layers, name, groups=groups)
    x = _images((3, 1, 1, 8))
    want = layer(x, training=False)
    np.testing.assert_allclose(_folded(layer, x), want, rtol=2e-5, atol=2e-5)


def test_half_precision_is_computed_in_float32():
    layer = _layer(layers, "evonorm_s0", dtype="mixed_float16")
    # A group variance above 65,504 is infinite in float16.
    x = tf.cast(_images() * 300.0, tf.float16)
    want = layer(x, training=False)
    got = _folded(layer, x)
    assert got.dtype == tf.float16
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


def test_an_unbuilt_layer_is_refused_and_errors_leave_no_trace():
    layer = layers.NormAct("evonorm_s0")
    with (
        pytest.raises(ValueError, match="unbuilt layers"),
        inference_form(layer),
    ):
        pass
    layer = _layer(layers, "evonorm_s0")
    with pytest.raises(RuntimeError), inference_form(layer):
        raise RuntimeError
    assert "call" not in vars(layer)


@pytest.mark.parametrize("home", KERASES)
def test_predict_holds_no_constants_after_a_block(home):
    """In the block `predict` is folded; before and after it is not."""
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras
    layer, x = home.NormAct("evonorm_b0", groups=4), _images()
    model = keras.Sequential([keras.layers.Input(SHAPE[1:]), layer])
    first = model.predict(x, verbose=0)
    with inference_form(model):
        layer.gamma.assign(2.0 * layer.gamma)
        np.testing.assert_allclose(model.predict(x, verbose=0), first, 1e-5)
    want = 2.0 * first
    np.testing.assert_allclose(model.predict(x, verbose=0), want, 1e-5)


def test_blocks_that_overlap_leave_the_layer_as_it_was():
    layer, x = _layer(layers, "evonorm_b0"), _images()
    want = layer(x, training=False)
    first, second = inference_form(layer), inference_form(layer)
    first.__enter__()
    layer.beta.assign_add([1.0] * 8)
    second.__enter__()
    first.__exit__(None, None, None)
    # The second block's constants.
    got = layer(x, training=False)
    np.testing.assert_allclose(got, want + 1.0, rtol=2e-5, atol=2e-6)
    second.__exit__(None, None, None)
    assert "call" not in vars(layer) and not trace._calls
