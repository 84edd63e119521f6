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
    start = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0}
    start |= {"moving_variance": 1.0, "moving_mean_square": 1.0}
    start["v"] = 0.0 if case.name == "frn" else 1.0
    for name in (*case.trainable, *case.moving):
        variable = getattr(layer, name)
        assert tuple(variable.shape) == (cases.SHAPE[-1],)
        np.testing.assert_array_equal(cases.as_numpy(variable), start[name])
    assert len(layer.trainable_variables) == len(case.trainable)
    assert len(layer.non_trainable_variables) == len(case.moving)


@cases.both_kerases
@pytest.mark.parametrize("affine", [True, False])
@cases.every_case
def test_weights_without_activation(kit_name, case, affine):
    """A bare site owns its affine alone, and BN its statistics."""
    layer = cases.make(kit_name, case, activation=False, affine=affine)
    assert len(layer.trainable_variables) == (2 if affine else 0)
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
