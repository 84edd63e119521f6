"""The reference itself, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from tests import cases, reference


def test_numeric_gradient_of_a_cubic():
    at = np.array([[1.0, -2.0], [0.5, 3.0]])
    weight = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = reference.numeric_gradient(lambda a: np.sum(weight * a**3), at)
    # 3 a^2 w, by hand; the step's own error is step^2 * w = 4e-10.
    wanted = np.array([[3.0, 24.0], [2.25, 108.0]])
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


# One image of one row and two pixels, [1, 1, 2, 1], x = (1, 3): mean 2,
# variance 1, mean square 5; gamma 2, beta 1, epsilon left out. Other weights
# have their initial values, but for the threshold of FRN, 3.
_ROOT5 = np.sqrt(5.0)


def _sigmoid(z):
    return 1 / (1 + math.exp(-z))


def _affine(first, second):
    return 2 * first + 1, 2 * second + 1


# The std of two numbers is half their distance.
_GATE_STD = (_sigmoid(3) - _sigmoid(1)) / 2
# y of every layer. A normalized x = (-1, 1) becomes z = (-1, 3) before the
# activation.
BY_HAND = {
    "evonorm_b0": _affine(1 / 2, 3 / 4),  # max(1, x + 1)
    "evonorm_b1": _affine(1 / (2 * _ROOT5), 3 / (4 * _ROOT5)),
    "evonorm_b2": _affine(1 / (_ROOT5 - 1), 3.0),  # max(1, 2.236 - x)
    "evonorm_s0": _affine(_sigmoid(1), 3 * _sigmoid(3)),
    "evonorm_s1": _affine(_sigmoid(1), 3 * _sigmoid(3)),
    "evonorm_s2": _affine(_sigmoid(1) / _ROOT5, 3 * _sigmoid(3) / _ROOT5),
    "bn_relu": (0, 3),
    "bn_silu": (-_sigmoid(-1), 3 * _sigmoid(3)),
    "bn_swish": (-_sigmoid(-1), 3 * _sigmoid(3)),
    "gn_relu": (0, 3),
    "gn_silu": (-_sigmoid(-1), 3 * _sigmoid(3)),
    "gn_swish": (-_sigmoid(-1), 3 * _sigmoid(3)),
    "ln_relu": (0, 3),
    "pn_relu": (3, 3),  # One channel: x / |x|.
    "frn": (3, 6 / _ROOT5 + 1),  # 1.894 is below the threshold.
    "dyt": _affine(math.tanh(0.5), math.tanh(1.5)),
    "derf": _affine(math.erf(0.5), math.erf(1.5)),
    "random": _affine(math.sqrt(_GATE_STD), math.sqrt(_GATE_STD)),
    "random_rej": _affine(math.tanh(1), math.tanh(3)),
    "rs_rej": _affine(1 / _ROOT5, 3 / _ROOT5),
}


@cases.every_case
def test_every_layer_by_hand(case):
    assert case.name in BY_HAND, "Add its y for x = (1, 3) to BY_HAND."
    x = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    weights, _ = cases.split(case.initial)
    weights |= {"gamma": 2.0, "beta": 1.0}
    if case.name == "frn":
        weights["v"] = 3.0
    weights = {
        name: value if name in case.scalars else np.full(1, value)
        for name, value in weights.items()
    }
    y = reference.forward(case.name, x, weights, groups=1, epsilon=0.0)
    np.testing.assert_allclose(y.ravel(), BY_HAND[case.name], rtol=1e-12)


def test_dynamic_erf_is_shifted_inside():
    x = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    weights = {"gamma": 2.0, "beta": 1.0, "alpha": 0.5, "s": -0.5}
    y = reference.forward("derf", x, weights).ravel()
    wanted = [2 * math.erf(z) + 1 for z in (0.0, 1.0)]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_groups_pool_their_channels():
    """Two channels, one group: the variance over both, by hand."""
    x = np.array([[0.0, 2.0], [4.0, 6.0]]).reshape(1, 1, 2, 2)
    one = reference.forward("gn_relu", x, {}, groups=1, epsilon=0.0)
    # 0 2 4 6: mean 3, variance 5.
    wanted = np.maximum((np.array([0, 2, 4, 6]) - 3) / _ROOT5, 0)
    np.testing.assert_allclose(one.ravel(), wanted, rtol=1e-12)
    two = reference.forward("gn_relu", x, {}, groups=2, epsilon=0.0)
    np.testing.assert_allclose(two.ravel(), [0, 0, 1, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (48, 24), (40, 20), (8, 8), (7, 7)]
)
def test_default_groups_by_hand(channels, groups):
    assert reference.default_groups(channels) == groups


@cases.every_case
def test_autodiff_of_the_text_agrees_with_differences(case):
    """The same formula under NumPy and under TensorFlow, its gradient too.

    1e-7: step 1e-5 squared, times third derivatives of order 100.
    """
    shape = (2, 3, 2, 4)
    weights, _ = cases.split(cases.weights_of(case, channels=4))
    x, cotangent = cases.draw(shape), cases.draw(shape, seed=5)
    arguments = (case.name, x, weights, cotangent)
    plain = cases.plain_gradients(*arguments, groups=2)
    numeric = reference.numeric_gradients(*arguments, groups=2)
    for name, wanted in numeric.items():
        cases.assert_close(plain[name], wanted, 1e-7, name)
