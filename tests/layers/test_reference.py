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
# variance 1, mean square 5; gamma 2, beta 1, v 1, epsilon left out.
_SIG1, _SIG3 = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-3.0))
_ROOT5 = np.sqrt(5.0)
_QUARTER = abs(_SIG3 - _SIG1) / 2  # std of two numbers: half their distance
BY_HAND = {
    "evonorm_b0": (1 / 2, 3 / 4),  # max(1, x + 1)
    "evonorm_b1": (1 / (2 * _ROOT5), 3 / (4 * _ROOT5)),
    "evonorm_b2": (1 / (_ROOT5 - 1), 3.0),  # max(1, 2.236 - x)
    "evonorm_s0": (_SIG1, 3 * _SIG3),
    "evonorm_s1": (_SIG1, 3 * _SIG3),
    "evonorm_s2": (_SIG1 / _ROOT5, 3 * _SIG3 / _ROOT5),
    "random": (np.sqrt(_QUARTER), np.sqrt(_QUARTER)),
    "random_rej": (np.tanh(1), np.tanh(3)),
    "rs_rej": (1 / _ROOT5, 3 / _ROOT5),
}
# The affine comes before the activation: z = 2 * norm + 1.
_TAIL = {
    "relu": lambda z: max(z, 0.0),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "swish": lambda z: z / (1 + np.exp(-z)),
}


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_searched_layers_by_hand(name):
    x = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    weights = {k: np.full(1, v) for k, v in (("gamma", 2.0), ("beta", 1.0))}
    weights["v"] = np.ones(1)
    y = reference.forward(name, x, weights, groups=1, epsilon=0.0)
    wanted = 2 * np.array(BY_HAND[name]) + 1
    np.testing.assert_allclose(y.ravel(), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        case.name
        for case in cases.CASES
        if case.name not in BY_HAND and not case.scalars
    ],
)
def test_baselines_by_hand(name):
    x = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    weights = {k: np.full(1, v) for k, v in (("gamma", 2.0), ("beta", 1.0))}
    weights["v"] = np.full(1, 3.0 if name == "frn" else 1.0)
    y = reference.forward(name, x, weights, groups=1, epsilon=0.0)
    kind, tail = name.split("_") if "_" in name else (name, "")
    normal = {"frn": (1 / _ROOT5, 3 / _ROOT5), "pn": (1.0, 1.0)}
    z = 2 * np.array(normal.get(kind, (-1.0, 1.0))) + 1
    wanted = (
        np.maximum(z, 3.0) if name == "frn" else [_TAIL[tail](a) for a in z]
    )
    np.testing.assert_allclose(y.ravel(), wanted, rtol=1e-12)


def test_dynamic_layers_by_hand():
    x = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    weights = {"gamma": 2.0, "beta": 1.0, "alpha": 0.5, "s": -0.5}
    y = reference.forward("dyt", x, weights).ravel()
    np.testing.assert_allclose(y, 2 * np.tanh([0.5, 1.5]) + 1, rtol=1e-12)
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
