"""Every way to take moments and to write a sum gives the same layer.

The ways are settings of `evonorm_tf.ops.settings`. They differ in rounding
and speed alone, so in float64 they agree with the reference; what float32
loses at large means is a published bound for each.
"""

import numpy as np
import pytest

from evonorm_tf.ops import settings
from tests import cases, reference

REDUCTIONS = ("blocks", "sum")
MOMENTS = ("merged", "two_pass", "one_pass")
# 37 pixels: four in each of 8 blocks and 5 left over; 48 and 30: whole blocks,
# 8 of 6 and 6 of 5; 15: too few to cut.
SIZES = [(2, 37, 1, 4), (2, 8, 6, 4), (2, 6, 5, 4), (2, 5, 3, 4)]


def _assert_right(case, shape, axis=-1, **keywords):
    """Output, all gradients and moving statistics, in float64."""
    values = cases.weights_of(case, channels=shape[-1])
    weights, moving = cases.split(values)
    x, cotangent = cases.draw(shape), cases.draw(shape, seed=5)
    groups = {"groups": 2} if case.grouped else {}

    def turned(array):
        return np.moveaxis(array, -1, axis)

    layer = cases.make(
        "keras3",
        case,
        values,
        shape=turned(x).shape,
        axis=axis,
        dtype="float64",
        **groups,
        **keywords,
    )
    y, found = cases.gradients(layer, turned(x), turned(cotangent))
    wanted = reference.forward(case.name, x, weights, **groups)
    # 1e-11: float64 in another order.
    cases.assert_close(y, turned(wanted), 1e-11, "y")
    plain = cases.plain_gradients(case.name, x, weights, cotangent, **groups)
    plain["x"] = turned(plain["x"])
    for name, value in plain.items():
        cases.assert_close(found[name], value, 1e-11, f"d {name}")
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(moving[name], fresh)
        cases.assert_close(getattr(layer, name), wanted, 1e-11, name)


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", cases.KERNELS, ids=lambda c: c.name)
def test_forms_agree(case, reduction, moments):
    with settings.using(reduction=reduction, moments=moments):
        _assert_right(case, SIZES[0], xla=False)


@pytest.mark.parametrize("shape", SIZES[1:])
@pytest.mark.parametrize("case", cases.KERNELS, ids=lambda c: c.name)
def test_sizes_that_blocks_divide_or_do_not_cut(case, shape):
    with settings.using(reduction="blocks", moments="merged"):
        _assert_right(case, shape, xla=False)


@pytest.mark.parametrize(("axis", "xla"), [(-1, "auto"), (1, False)])
@pytest.mark.parametrize("case", cases.KERNELS, ids=lambda c: c.name)
def test_blocks_with_a_rest(case, axis, xla):
    """Compiled, channels last; channels first cuts the same way."""
    with settings.using(reduction="blocks", moments="merged"):
        _assert_right(case, SIZES[0], axis=axis, xla=xla)


# Relative error of a float32 variance over 28x28 maps, as measured for the
# design, at mean/std 3, 10 and 100; at 30 the
# law (mean/std)^2 from 10. The accurate forms are held to 1e-5 throughout.
# Those sums were compiled. TensorFlow's own kernel adds in longer chains:
# three times that, for a plain sum that is not compiled.
ONE_PASS = {
    "sum": {3: 6e-6, 10: 7e-5, 30: 6.3e-4, 100: 6e-3},
    "blocks": {3: 6e-6, 10: 7e-5, 30: 6.3e-4, 100: 6e-3},
}


@pytest.mark.parametrize("xla", ["auto", False])
@pytest.mark.parametrize("ratio", [3, 10, 30, 100])
@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_variance_at_large_means(reduction, moments, ratio, xla):
    """Seen through B2's moving variance, from 1 by momentum 0.9."""
    x = cases.draw((2, 28, 28, 4), scale=1.0, offset=ratio)
    x = x.astype(np.float32)
    case = cases.BY_NAME["evonorm_b2"]
    with settings.using(reduction=reduction, moments=moments):
        layer = cases.make("keras3", case, shape=x.shape, xla=xla)
        layer(x, training=True)
    moved = cases.as_numpy(layer.moving_variance)
    exact = reference.batch_statistics(case.name, x.astype(np.float64))
    exact = exact["moving_variance"]
    error = np.max(np.abs((moved - 0.9) / 0.1 - exact) / exact)
    bound = 1e-5
    if moments == "one_pass":
        bound = ONE_PASS[reduction][ratio]
        if not xla and reduction == "sum":
            bound *= 3.0
    # The moving average itself is a float32 number near 1, times ten here.
    assert error <= bound + 10 * 2.0**-24
