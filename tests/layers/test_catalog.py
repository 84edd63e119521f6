"""The table of cases covers the catalog; each row has the right weights."""

import numpy as np
import pytest

import evonorm_tf
from tests import cases


def test_the_table_covers_the_catalog_and_nothing_else():
    assert sorted(cases.BY_NAME) == sorted(evonorm_tf.names())


@cases.both_kerases
@cases.every_case
def test_weights_are_the_papers(kit_name, case):
    """Names, shapes, types and initial values (PAPER.md 1)."""
    layer = cases.make(kit_name, case)
    for name, initial in case.initial.items():
        variable = getattr(layer, name)
        shape = () if name in case.scalars else (cases.SHAPE[-1],)
        assert tuple(variable.shape) == shape
        np.testing.assert_array_equal(cases.as_numpy(variable), initial)
    assert len(layer.trainable_variables) == len(case.trainable)
    assert len(layer.non_trainable_variables) == len(case.moving)


@cases.both_kerases
@pytest.mark.parametrize("affine", [True, False])
@cases.every_case
def test_weights_without_activation(kit_name, case, affine):
    """A bare site owns its affine alone, and BN its statistics."""
    layer = cases.make(kit_name, case, activation=False, affine=affine)
    count = (2 if affine else 0) + len(case.scalars)
    assert len(layer.trainable_variables) == count
    kept = case.moving if case.name.startswith("bn_") else ()
    assert len(layer.non_trainable_variables) == len(kept)


@cases.both_kerases
def test_shorthands_are_their_rows(kit_name):
    layers = cases.kit(kit_name).layers
    x = cases.draw().astype(np.float32)
    for kind in ("B0", "B1", "B2", "S0", "S1", "S2"):
        short = getattr(layers, f"EvoNorm{kind}")(groups=4)
        row = layers.norm_act(f"evonorm_{kind.lower()}", groups=4)
        np.testing.assert_array_equal(
            np.asarray(short(x, training=True)),
            np.asarray(row(x, training=True)),
        )


@cases.both_kerases
def test_shorthands_are_classes(kit_name):
    """They subclass, are told apart, and are saved under their own names."""
    kit = cases.kit(kit_name)
    made = kit.layers.EvoNormS0(4, epsilon=1e-3, name="here")
    assert isinstance(made, kit.layers.NormAct)
    assert not isinstance(made, kit.layers.EvoNormB0)
    stored = kit.keras.layers.serialize(made)
    assert stored["registered_name"] == "evonorm_tf>EvoNormS0"
    copy = kit.keras.layers.deserialize(stored)
    assert type(copy) is kit.layers.EvoNormS0
    assert (copy.row.name, copy.groups, copy.epsilon) == ("evonorm_s0", 4, 1e-3)

    class Mine(kit.layers.EvoNormS0):
        def call(self, inputs, **keywords):
            return -super().call(inputs, **keywords)

    x = cases.draw().astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(Mine(4)(x)), -np.asarray(kit.layers.EvoNormS0(4)(x))
    )


def test_a_config_of_release_0_1_0_loads():
    """There `EvoNormS0` was a function that returned a `NormAct`."""
    kit = cases.kit("keras3")
    stored = {
        "module": "evonorm_tf.layers",
        "class_name": "NormAct",
        "config": {
            "name": "norm_act",
            "trainable": True,
            "dtype": "float32",
            "name_or_row": "evonorm_s0",
            "groups": 4,
            "group_size": None,
            "min_group_size": 1,
            "momentum": 0.9,
            "epsilon": 1e-05,
            "activation": True,
            "affine": True,
            "synchronized": False,
            "axis": -1,
            "xla": "auto",
            "gamma_initializer": "ones",
            "beta_initializer": "zeros",
        },
        "registered_name": "evonorm_tf>NormAct",
    }
    layer = kit.keras.layers.deserialize(stored)
    assert type(layer) is kit.layers.NormAct and layer.row.name == "evonorm_s0"
