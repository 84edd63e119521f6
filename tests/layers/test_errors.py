"""Bad input: what was wrong, what was expected, what was received."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from tests import cases

BAD = (ValueError, TypeError)
EVONORMS = tuple(case for case in cases.CASES if case.evonorm)
every_evonorm = pytest.mark.parametrize("case", EVONORMS, ids=lambda c: c.name)


def _message(function, kinds=BAD):
    with pytest.raises(kinds) as caught:
        function()
    return str(caught.value)


@cases.both_kerases
@pytest.mark.parametrize("shape", [(4, 8), (4, 6, 8), (1, 2, 2, 2, 2, 8)])
@every_evonorm
def test_wrong_rank(kit_name, shape, case):
    """A matrix, rank 6, and for the B layers a sequence."""
    if len(shape) == 3 and case in cases.SEQUENCES:
        pytest.skip("defined for sequences: test_values.py")
    layer = cases.kit(kit_name).layers.NormAct(case.name)
    said = _message(lambda: layer(np.zeros(shape, np.float32)))
    assert "rank" in said
    assert "Received" in said and str(len(shape)) in said


@cases.both_kerases
@cases.every_case
def test_unknown_channels(kit_name, case):
    kit = cases.kit(kit_name)
    layer = kit.layers.NormAct(case.name)
    inputs = kit.keras.Input((6, 5, None))
    said = _message(lambda: layer(inputs))
    assert "channel" in said and "Received" in said


@pytest.mark.parametrize(
    ("keywords", "received"),
    [
        ({"groups": 3}, "groups=3"),  # does not divide 8
        ({"groups": 16}, "groups=16"),  # half of them empty
        ({"groups": 0}, "groups=0"),
        ({"groups": -4}, "groups=-4"),
        ({"groups": 2.5}, "groups=2.5"),
        ({"group_size": 3}, "group_size=3"),
        ({"group_size": 16}, "group_size=16"),
        ({"group_size": 0}, "group_size=0"),
        ({"groups": 4, "group_size": 2}, "group_size=2"),
        ({"min_group_size": 0}, "min_group_size=0"),
    ],
)
@cases.both_kerases
@cases.every_grouped
def test_impossible_groups(kit_name, keywords, received, case):
    said = _message(lambda: cases.make(kit_name, case, **keywords))
    assert "Received" in said and received in said


@cases.both_kerases
@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("evonorm_s3", "evonorm_s0"),
        ("EvoNorm-B0", "evonorm_b0"),
        ("bn_rellu", "bn_relu"),
    ],
)
def test_unknown_name(kit_name, wrong, near):
    """The nearest names are offered."""
    layers = cases.kit(kit_name).layers
    said = _message(lambda: layers.norm_act(wrong), ValueError)
    assert near in said and wrong in said
    said = _message(lambda: evonorm_tf.catalog.get(wrong), ValueError)
    assert near in said and wrong in said


@cases.both_kerases
def test_name_of_the_wrong_type(kit_name):
    layers = cases.kit(kit_name).layers
    assert "3" in _message(lambda: layers.norm_act(3))


@cases.both_kerases
@pytest.mark.parametrize("maker", ["NormAct", "norm_act"])
def test_unknown_keyword(kit_name, maker):
    make = getattr(cases.kit(kit_name).layers, maker)
    said = _message(lambda: make("evonorm_s0", gruops=4))
    assert "gruops=4" in said and "Did you mean groups" in said


@cases.both_kerases
def test_unknown_keyword_at_call(kit_name):
    layer = cases.make(kit_name, cases.BY_NAME["evonorm_s0"])
    x = np.zeros(cases.SHAPE, np.float32)
    assert "gama" in _message(lambda: layer(x, gama=np.ones((4, 8))))


@cases.every_case
def test_keras3_layer_on_a_tf_keras_tensor(case):
    layer = cases.kit("keras3").layers.NormAct(case.name)
    inputs = cases.kit("tf_keras").keras.Input((6, 5, 8))
    assert "evonorm_tf.legacy" in _message(lambda: layer(inputs))


@cases.every_case
def test_tf_keras_layer_on_a_keras3_tensor(case):
    layer = cases.kit("tf_keras").layers.NormAct(case.name)
    inputs = cases.kit("keras3").keras.Input((6, 5, 8))
    assert "evonorm_tf.layers" in _message(lambda: layer(inputs))


@cases.both_kerases
def test_a_layer_in_a_model_of_the_other_keras(kit_name):
    """Called on values, of which only the model is of a Keras."""
    layer = cases.kit(kit_name).layers.NormAct("evonorm_s0")
    other = "tf_keras" if kit_name == "keras3" else "keras3"

    class Model(cases.kit(other).keras.Model):
        def call(self, x):
            return layer(x)

    said = _message(lambda: Model()(tf.ones(cases.SHAPE)))
    assert f"inside a {'keras' if other == 'keras3' else other} model" in said


@cases.both_kerases
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@cases.every_case
def test_integer_input(kit_name, symbolic, dtype, case):
    """Images straight from a file: refused, not silently cast."""
    kit = cases.kit(kit_name)
    layer = kit.layers.NormAct(case.name)
    if symbolic:
        x = kit.keras.Input(cases.SHAPE[1:], dtype=dtype)
    else:
        x = tf.cast(tf.ones(cases.SHAPE), dtype)
    said = _message(lambda: layer(x))
    assert "float" in said and dtype in said


@pytest.mark.parametrize(
    ("keywords", "received"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": -1e-5}, "epsilon=-1e-05"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"epsilon": "small"}, "small"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"momentum": float("nan")}, "momentum=nan"),
        ({"axis": 2}, "axis=2"),
        ({"axis": 0}, "axis=0"),
        ({"axis": 1.0}, "axis=1.0"),
        ({"axis": True}, "axis=True"),
        ({"gamma_initializer": None}, "gamma_initializer=None"),
        ({"beta_initializer": None}, "beta_initializer=None"),
        ({"xla": 0}, "xla=0"),
        ({"xla": "sometimes"}, "sometimes"),
    ],
)
@cases.both_kerases
@cases.every_case
def test_settings_out_of_range(kit_name, keywords, received, case):
    layers = cases.kit(kit_name).layers
    said = _message(lambda: layers.NormAct(case.name, **keywords))
    assert "Received" in said and received in said


@cases.both_kerases
@pytest.mark.parametrize("missing", ["gamma", "beta"])
def test_conditional_shape(kit_name, missing):
    """A class-conditional parameter is [N, C], and C has to match."""
    layer = cases.make(kit_name, cases.BY_NAME["evonorm_b0"], affine=False)
    x = np.zeros(cases.SHAPE, np.float32)
    given = {"gamma": np.ones((4, 8)), "beta": np.zeros((4, 8))}
    given[missing] = np.ones((4, 7))
    given = {k: v.astype(np.float32) for k, v in given.items()}
    said = _message(lambda: layer(x, training=True, **given))
    assert missing in said and "Received" in said


@cases.both_kerases
@cases.every_case
def test_conditional_needs_affine_false(kit_name, case):
    """Two gammas at once would hide one of them."""
    layer = cases.make(kit_name, case)
    x = np.zeros(cases.SHAPE, np.float32)
    gamma = np.ones((4, 8), np.float32)
    said = _message(lambda: layer(x, gamma=gamma, training=True))
    assert "affine=False" in said


@cases.both_kerases
@cases.every_case
def test_no_pixels(kit_name, case):
    """A mean over nothing is NaN: refused where the shape says so."""
    layer = cases.kit(kit_name).layers.NormAct(case.name)
    x = np.zeros((2, 0, 5, 8), np.float32)
    assert "Received" in _message(lambda: layer(x, training=True))


def test_another_backend():
    """Keras 3 on NumPy or PyTorch: refused at import."""
    done = subprocess.run(
        [sys.executable, "-c", "import evonorm_tf.layers"],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert "KERAS_BACKEND" in said and "tensorflow" in said and "numpy" in said


def test_an_empty_backend_is_none():
    """As for Keras. Only the check is run, with no import of Keras."""
    code = "import sys; sys.modules['keras'] = None; import evonorm_tf.layers"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "evonorm_tf.layers needs keras" in done.stderr


@cases.both_kerases
@pytest.mark.parametrize("name", ["activation", "affine", "synchronized"])
def test_flags_are_booleans(kit_name, name):
    """activation="relu" is a Keras habit, and would be taken for True."""
    layers = cases.kit(kit_name).layers
    with pytest.raises(TypeError, match=f"{name}='relu'"):
        layers.NormAct("bn_relu", **{name: "relu"})


@cases.both_kerases
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("kind", [list, tuple, lambda x: {"x": x[0]}])
def test_one_array_is_expected(kit_name, built, kind):
    """A list would be stacked to an array of one rank more."""
    layer = cases.kit(kit_name).layers.NormAct("evonorm_s0")
    x = np.zeros(cases.SHAPE, np.float32)
    if built:
        layer(x)
    assert "one array" in _message(lambda: layer(kind([x])), TypeError)
