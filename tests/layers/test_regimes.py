"""Inputs at the edges: where other implementations go silently wrong."""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, reference

TOLERANCE = 1e-5  # the promise for float32


def _compare(case, x, tolerance, **settings):
    """Output and dx in training against the float64 reference.

    Args:
        case: the row.
        x: input in the type under test; the reference gets its values.
        tolerance: relative, for the output and for the gradients.
        **settings: groups (for the reference too), dtype, xla.
    """
    groups = settings.get("groups") if case.grouped else None
    if not case.grouped:
        settings.pop("groups", None)
    x = tf.convert_to_tensor(x)
    values = cases.weights_of(case, channels=x.shape[-1])
    layer = cases.make("keras3", case, values, shape=x.shape, **settings)
    weights, _ = cases.split(values)
    exact = cases.as_numpy(x)
    # A number of x's type: rounding it is not the layer's error.
    cotangent = cases.draw(exact.shape, seed=5)
    cotangent = cases.as_numpy(tf.cast(cotangent, x.dtype))
    y, found = cases.gradients(layer, x, cotangent)
    wanted = reference.forward(case.name, exact, weights, groups=groups)
    cases.assert_close(y, wanted, tolerance, "y")
    plain = cases.plain_gradients(
        case.name, exact, weights, cotangent, groups=groups
    )
    for name, value in plain.items():
        got = np.zeros_like(value) if found[name] is None else found[name]
        cases.assert_close(got, value, tolerance, f"d {name}")


@cases.both_ways
@cases.every_case
def test_one_pixel_maps(xla, case):
    """[N, 1, 1, C]: an unbiased variance would be 0/0 here.

    The gradients are left out: dx is a difference of terms 1/sqrt(eps)
    times its size, and test_one_pixel checks it in float64.
    """
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    x = cases.draw((4, 1, 1, 8))
    keywords = {"groups": 4} if case.grouped else {}
    layer = cases.make(
        "keras3", case, values, shape=x.shape, xla=xla, **keywords
    )
    y = layer(x.astype(np.float32), training=True)
    wanted = reference.forward(case.name, x, weights, **keywords)
    # In a group of 2 channels float32 loses what their difference loses.
    cases.assert_close(y, wanted, TOLERANCE, case.name)


@cases.both_kerases
@cases.every_case
def test_one_pixel(kit_name, case):
    """[1, 1, 1, C]: each variance is 0 and divides by sqrt(epsilon)."""
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    x, cotangent = cases.draw((1, 1, 1, 8)), cases.draw((1, 1, 1, 8), seed=5)
    layer = cases.make(kit_name, case, values, shape=x.shape, xla=False)
    y = layer(x.astype(np.float32), training=True)
    wanted = reference.forward(case.name, x, weights)
    cases.assert_close(y, wanted, TOLERANCE, "y")
    layer = cases.make(
        kit_name, case, values, shape=x.shape, dtype="float64", xla=False
    )
    _, found = cases.gradients(layer, x, cotangent)
    plain = cases.plain_gradients(case.name, x, weights, cotangent)
    for name, value in plain.items():
        got = np.zeros_like(value) if found[name] is None else found[name]
        # 1e-9: dx cancels 1/eps against 1/eps, a factor of 1e5 lost.
        np.testing.assert_allclose(got, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [48, 40, 7])
@cases.every_grouped
def test_channels_that_32_does_not_divide(channels, case):
    x = cases.draw((2, 3, 3, channels)).astype(np.float32)
    values = cases.weights_of(case, channels)
    layer = cases.make("keras3", case, values, shape=x.shape, xla=False)
    wanted = reference.forward(case.name, x.astype(float), values)
    cases.assert_close(layer(x, training=True), wanted, TOLERANCE)


@cases.both_ways
@cases.every_case
def test_large_means(xla, case):
    """mean/std of a float32 input, with the default (accurate) moments.

    Two passes find the variance to 1e-5 at each ratio. The mean itself,
    a float32 sum of 1568 numbers, is known to 2e-6 of its size (plain
    reduce_mean was seen at 1.3e-6), which the rows that subtract a mean
    show in units of the standard deviation. B2 subtracts too: RMS - x.
    """
    values = cases.weights_of(case, channels=4)
    weights, _ = cases.split(values)
    keywords = {"groups": 2} if case.grouped else {}
    shape = (2, 28, 28, 4)
    layer = cases.make("keras3", case, values, shape=shape, xla=xla, **keywords)
    subtracts = case.name.startswith(("bn_", "gn_", "ln_", "evonorm_b2"))
    for ratio in (3, 10, 30, 100):
        x = cases.draw(shape, scale=1.0, offset=ratio).astype(np.float32)
        y = layer(x, training=True)
        wanted = reference.forward(
            case.name, x.astype(np.float64), weights, **keywords
        )
        slack = 2e-6 * ratio if subtracts else 0.0
        cases.assert_close(y, wanted, TOLERANCE + slack, f"ratio {ratio}")


@pytest.mark.parametrize("ratio", [3, 10, 30, 100])
@cases.every_moving
def test_moving_statistics_at_large_means(ratio, case):
    x = cases.draw((2, 28, 28, 4), scale=1.0, offset=ratio)
    x = x.astype(np.float32)
    layer = cases.make("keras3", case, shape=x.shape)
    layer(x, training=True)
    fresh = reference.batch_statistics(case.name, x.astype(np.float64))
    for name, value in fresh.items():
        start = 0.0 if name == "moving_mean" else 1.0
        wanted = reference.moved(start, value)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


def _wide(dtype, scale, peak):
    """Values of a given spread in which a channel holds +-peak too."""
    x = cases.draw(scale=scale, offset=0.0)
    x[0, 0, 0, 0], x[1, 2, 2, 1], x[2, 1, 1, 6] = peak, -peak, peak
    return tf.cast(x, dtype)


@cases.both_ways
@cases.every_case
def test_float16_far_beyond_its_range_squared(xla, case):
    """A std of 600 and values of 6e4: variances overflow float16 (65504).

    1e-3: the output is rounded to float16, 2^-11 = 4.9e-4, and dx too.
    """
    x = _wide(tf.float16, 600.0, 6e4)
    _compare(case, x, 1e-3, dtype="mixed_float16", groups=4, xla=xla)


@cases.both_ways
@cases.every_case
def test_bfloat16_at_7e4(xla, case):
    """8e-3: the output is rounded to bfloat16, 2^-8 = 3.9e-3, dx too."""
    x = _wide(tf.bfloat16, 600.0, 7e4)
    _compare(case, x, 8e-3, dtype="mixed_bfloat16", groups=4, xla=xla)


@cases.both_kerases
@cases.both_ways
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@cases.every_case
def test_float32_input_beyond_float16_under_a_narrow_policy(
    kit_name, xla, dtype, case
):
    """70,000 is inf in float16: Keras must not cast the input before the layer.

    One rounding of the output: 2^-11 in float16, 2^-8 in bfloat16.
    """
    x = cases.draw(scale=600.0, offset=0.0)
    x[0, 0, 0, 0], x[1, 2, 2, 1] = 7e4, -7e4
    values = cases.weights_of(case)
    keywords = {"groups": 4} if case.grouped else {}
    layer = cases.make(
        kit_name, case, values, dtype=f"mixed_{dtype}", xla=xla, **keywords
    )
    weights, moving = cases.split(values)
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    for training in (False, True):
        y = layer(x.astype(np.float32), training=training)
        assert y.dtype == tf.as_dtype(dtype)
        wanted = reference.forward(
            case.name,
            x,
            weights,
            moving=None if training else moving,
            **keywords,
        )
        if np.abs(wanted).max() < 65504:  # What float16 can hold.
            cases.assert_close(y, wanted, rounding + TOLERANCE, case.name)
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(moving[name], fresh)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


@cases.both_ways
@cases.every_case
def test_constant_input(xla, case):
    """Every variance is 0 and the divisor sqrt(epsilon); nothing is NaN.

    A float32 mean is right to 2 roundings, d = 2^-22 |level|. Divided by
    sqrt(epsilon), that is what remains of x - mean; and d^2 / epsilon is
    what a variance of 0 is off by, relative to the epsilon it is added to.
    """
    values = cases.weights_of(case)
    weights, _ = cases.split(values)
    keywords = {"groups": 4} if case.grouped else {}
    layer = cases.make("keras3", case, values, xla=xla, **keywords)
    cotangent = cases.draw(seed=5)
    subtracts = case.name.startswith(("bn_", "gn_", "ln_"))
    for level in (0.0, 3.0, -300.0):
        x = np.full(cases.SHAPE, level)
        y, found = cases.gradients(layer, x.astype(np.float32), cotangent)
        wanted = reference.forward(case.name, x, weights, **keywords)
        d = 2.0**-22 * abs(level)
        slack = 2.0 * d / np.sqrt(reference.EPSILON) if subtracts else 0.0
        np.testing.assert_allclose(
            cases.as_numpy(y),
            wanted,
            rtol=TOLERANCE + d * d / reference.EPSILON,
            atol=TOLERANCE + slack,  # gamma is below 2
            err_msg=f"level {level}",
        )
        for name, value in found.items():
            assert value is None or np.all(np.isfinite(value)), f"d {name}"


@cases.both_kerases
@cases.both_ways
@pytest.mark.parametrize("training", [True, False])
@cases.every_case
def test_dynamic_sizes_in_a_function(kit_name, xla, training, case):
    """One trace serves every batch, height and width."""
    values = cases.weights_of(case)
    keywords = {"groups": 4} if case.grouped else {}
    layer = cases.make(kit_name, case, values, xla=xla, **keywords)
    spec = tf.TensorSpec([None, None, None, 8], tf.float32)
    traces = []

    @tf.function(input_signature=[spec])
    def call(x):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        return y, tape.gradient(y, x)

    weights, moving = cases.split(values)
    for shape in (cases.SHAPE, (2, 3, 7, 8)):
        x = cases.draw(shape)
        if training:
            moving = {}
        else:
            cases.assign(layer, values)
        y, dx = call(x.astype(np.float32))
        settings = {"moving": moving, **keywords}
        wanted = reference.forward(case.name, x, weights, **settings)
        cases.assert_close(y, wanted, TOLERANCE, f"y {shape}")
        plain = cases.plain_gradients(
            case.name, x, weights, np.ones(shape), **settings
        )["x"]
        got = np.zeros(shape) if dx is None else cases.as_numpy(dx)
        scale = max(np.max(np.abs(plain)), 1.0)
        # Absolute: for a sum of a normalised output dx nearly vanishes.
        np.testing.assert_allclose(got, plain, rtol=0, atol=1e-5 * scale)
    assert len(traces) == 1


@cases.both_kerases
@cases.every_case
def test_dynamic_sizes_in_a_functional_model(kit_name, case):
    kit = cases.kit(kit_name)
    values = cases.weights_of(case)
    keywords = {"groups": 4} if case.grouped else {}
    layer = kit.layers.norm_act(case.name, **keywords)
    inputs = kit.keras.Input((None, None, 8))
    outputs = layer(inputs)
    assert tuple(outputs.shape) == (None, None, None, 8)
    model = kit.keras.Model(inputs, outputs)
    cases.assign(layer, values)
    weights, moving = cases.split(values)
    for shape in (cases.SHAPE, (2, 3, 7, 8)):
        x = cases.draw(shape)
        y = model(x.astype(np.float32), training=False)
        wanted = reference.forward(
            case.name, x, weights, moving=moving, **keywords
        )
        cases.assert_close(y, wanted, TOLERANCE, f"y {shape}")
