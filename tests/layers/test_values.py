"""Forward values of every row against the float64 reference.

1e-5 relative in float32 is the project's promise; the arithmetic itself,
a sum over 120 numbers and ten roundings, is good for about 1e-6.
"""

import numpy as np
import pytest

from tests import cases, reference

TOLERANCE = 1e-5
GROUPS = {"groups": 4}


def _keywords(case):
    return GROUPS if case.grouped else {}


def _float32(x):
    return x.astype(np.float32)


@cases.both_kerases
@cases.both_ways
@pytest.mark.parametrize("training", [True, False])
@cases.every_case
def test_images(kit_name, xla, training, case):
    values = cases.weights_of(case)
    layer = cases.make(kit_name, case, values, xla=xla, **_keywords(case))
    x = cases.draw()
    y = layer(_float32(x), training=training)
    weights, moving = cases.split(values)
    wanted = reference.forward(
        case.name,
        x,
        weights,
        moving=None if training else moving,
        **_keywords(case),
    )
    cases.assert_close(y, wanted, TOLERANCE, case.name)


@cases.both_kerases
@cases.both_ways
@cases.every_case
def test_moving_statistics(kit_name, xla, case):
    """One call in training moves them by a tenth; inference does not."""
    values = cases.weights_of(case)
    layer = cases.make(kit_name, case, values, xla=xla, momentum=0.75)
    x = cases.draw()
    _, moving = cases.split(values)
    layer(_float32(x), training=False)
    for name, old in moving.items():
        cases.assert_close(getattr(layer, name), old, 0.0, name)
    layer(_float32(x), training=True)
    fresh = reference.batch_statistics(case.name, x)
    assert set(fresh) == set(moving)
    for name, old in moving.items():
        wanted = reference.moved(old, fresh[name], momentum=0.75)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


@cases.both_kerases
@cases.every_case
def test_default_momentum_is_the_papers(kit_name, case):
    values = cases.weights_of(case)
    layer = cases.make(kit_name, case, values, xla=False)
    x = cases.draw()
    layer(_float32(x), training=True)
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(values[name], fresh, momentum=0.9)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


@cases.both_kerases
@cases.both_ways
@pytest.mark.parametrize("affine", [True, False])
@cases.every_case
def test_without_activation(kit_name, xla, affine, case):
    """EvoNorms: x*gamma + beta. Baselines: the norm and its affine."""
    values = cases.weights_of(case)
    kept = ["gamma", "beta"] if affine else []
    kept += tuple(case.scalars)
    if case.name.startswith("bn_"):
        kept += case.moving
    values = {name: values[name] for name in kept}
    layer = cases.make(
        kit_name,
        case,
        values,
        activation=False,
        affine=affine,
        xla=xla,
        **_keywords(case),
    )
    x = cases.draw()
    weights, moving = cases.split(values)
    for training in (False, True):
        y = layer(_float32(x), training=training)
        wanted = reference.forward(
            case.name,
            x,
            weights,
            activation=False,
            moving=None if training else moving,
            **_keywords(case),
        )
        cases.assert_close(y, wanted, TOLERANCE, f"training={training}")


@cases.both_kerases
@cases.both_ways
@cases.every_case
def test_class_conditional(kit_name, xla, case):
    """Another gamma and beta for every sample, [N, C], given at call."""
    values = cases.weights_of(case)
    values.pop("gamma"), values.pop("beta")
    layer = cases.make(
        kit_name, case, values, affine=False, xla=xla, **_keywords(case)
    )
    gamma = cases.draw((4, 8), seed=7, scale=0.3, offset=1.0)
    beta = cases.draw((4, 8), seed=8, scale=0.3, offset=0.0)
    x = cases.draw()
    weights, moving = cases.split(values)
    for training in (False, True):
        y = layer(
            _float32(x),
            gamma=_float32(gamma),
            beta=_float32(beta),
            training=training,
        )
        wanted = reference.forward(
            case.name,
            x,
            {**weights, "gamma": gamma, "beta": beta},
            moving=None if training else moving,
            **_keywords(case),
        )
        cases.assert_close(y, wanted, TOLERANCE, f"training={training}")


@cases.both_kerases
@cases.every_case
def test_volumes(kit_name, case):
    """[N, D, H, W, C]; of the same element count, to share compilations."""
    shape = (4, 3, 2, 5, 8)
    values = cases.weights_of(case)
    layer = cases.make(
        kit_name, case, values, shape=shape, xla=False, **_keywords(case)
    )
    x = cases.draw(shape)
    weights, _ = cases.split(values)
    y = layer(_float32(x), training=True)
    wanted = reference.forward(case.name, x, weights, **_keywords(case))
    cases.assert_close(y, wanted, TOLERANCE, case.name)


@cases.both_kerases
@cases.every_sequence
def test_sequences(kit_name, case):
    """[N, S, C], as after Conv1D; channels first too."""
    shape = (4, 30, 8)
    values = cases.weights_of(case)
    x = cases.draw(shape)
    weights, _ = cases.split(values)
    wanted = reference.forward(case.name, x, weights, **_keywords(case))
    for axis in (-1, 1):
        turned = np.moveaxis(_float32(x), -1, axis)
        layer = cases.make(
            kit_name,
            case,
            values,
            shape=turned.shape,
            axis=axis,
            xla=False,
            **_keywords(case),
        )
        y = np.moveaxis(np.asarray(layer(turned, training=True)), axis, -1)
        cases.assert_close(y, wanted, TOLERANCE, f"axis={axis}")


@cases.both_kerases
@pytest.mark.parametrize("shape", [cases.SHAPE, (4, 3, 2, 5, 8)])
@cases.every_case
def test_channels_first(kit_name, shape, case):
    """axis=1 equals the transposed, statistics and inference included."""
    values = cases.weights_of(case)
    first = (shape[0], shape[-1], *shape[1:-1])
    layer = cases.make(
        kit_name,
        case,
        values,
        shape=first,
        axis=1,
        xla=False,  # compiled in test_gradients.py
        **_keywords(case),
    )
    x = cases.draw(shape)
    weights, moving = cases.split(values)
    for training in (False, True):
        y = layer(np.moveaxis(_float32(x), -1, 1), training=training)
        wanted = reference.forward(
            case.name,
            x,
            weights,
            moving=None if training else moving,
            **_keywords(case),
        )
        wanted = np.moveaxis(wanted, -1, 1)
        cases.assert_close(y, wanted, TOLERANCE, f"training={training}")
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(moving[name], fresh)
        cases.assert_close(getattr(layer, name), wanted, TOLERANCE, name)


@pytest.mark.parametrize(
    ("keywords", "groups"),
    [
        ({}, 8),  # 32, lowered to a divisor of 8
        ({"groups": 1}, 1),
        ({"groups": 8}, 8),
        ({"group_size": 4}, 2),
        ({"group_size": 8}, 1),
        ({"min_group_size": 4}, 2),  # 8 groups of 1, widened to 2 of 4
    ],
)
@cases.both_kerases
@cases.every_grouped
def test_groups(kit_name, keywords, groups, case):
    values = cases.weights_of(case)
    layer = cases.make(kit_name, case, values, xla=False, **keywords)
    x = cases.draw()
    y = layer(_float32(x), training=True)
    wanted = reference.forward(case.name, x, values, groups=groups)
    cases.assert_close(y, wanted, TOLERANCE, str(keywords))


@cases.both_kerases
@cases.every_case
def test_epsilon_is_inside_the_root(kit_name, case):
    """A large one and small inputs, so that where it stands matters."""
    values = cases.weights_of(case)
    layer = cases.make(
        kit_name, case, values, epsilon=0.04, xla=False, **_keywords(case)
    )
    x = cases.draw(scale=0.1, offset=0.1)
    weights, _ = cases.split(values)
    y = layer(_float32(x), training=True)
    wanted = reference.forward(
        case.name, x, weights, epsilon=0.04, **_keywords(case)
    )
    cases.assert_close(y, wanted, TOLERANCE, case.name)
