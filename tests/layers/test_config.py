"""What a layer was made with survives get_config, in JSON."""

import json

import numpy as np

from evonorm_tf import catalog
from tests import cases, reference

TOLERANCE = 1e-5

SETTINGS = {
    "momentum": 0.75,
    "epsilon": 1e-3,
    "affine": True,
    "activation": True,
    "beta_initializer": "ones",
    "gamma_initializer": "zeros",
    "axis": 1,
    "xla": False,
}


@cases.both_kerases
@cases.every_case
def test_config_round_trip(kit_name, case):
    """Every setting survives, shown by the values the copy computes."""
    settings = dict(SETTINGS)
    if case.moving:
        settings["synchronized"] = True
    if case.grouped:
        settings["group_size"] = 2
    layer = cases.kit(kit_name).layers.NormAct(
        case.name, name="here", **settings
    )
    config = layer.get_config()
    assert json.loads(json.dumps(config)) == config
    for name, value in settings.items():
        if not name.endswith("initializer"):
            assert config[name] == value, name
    copy = type(layer).from_config(config)
    assert copy.get_config() == config
    assert copy.name == "here"
    shape = (4, 8, 6, 5)
    copy.build((None, *shape[1:]))
    np.testing.assert_array_equal(cases.as_numpy(copy.gamma), np.zeros(8))
    np.testing.assert_array_equal(cases.as_numpy(copy.beta), np.ones(8))
    values = cases.weights_of(case)
    cases.assign(copy, values)
    x = cases.draw()
    y = copy(np.moveaxis(x, -1, 1).astype(np.float32), training=True)
    weights, moving = cases.split(values)
    groups = 4 if case.grouped else None  # 8 channels, 2 in each
    wanted = reference.forward(
        case.name, x, weights, groups=groups, epsilon=1e-3
    )
    cases.assert_close(y, np.moveaxis(wanted, -1, 1), TOLERANCE, case.name)
    for name, fresh in reference.batch_statistics(case.name, x).items():
        wanted = reference.moved(moving[name], fresh, momentum=0.75)
        cases.assert_close(getattr(copy, name), wanted, TOLERANCE, name)


@cases.both_kerases
def test_initializer_objects(kit_name):
    """An initializer given as an object, as Keras layers take it."""
    kit = cases.kit(kit_name)
    layer = kit.layers.NormAct(
        "evonorm_b0",
        gamma_initializer=kit.keras.initializers.Constant(0.25),
        beta_initializer=kit.keras.initializers.RandomUniform(1.0, 2.0),
    )
    config = json.loads(json.dumps(layer.get_config()))
    copy = type(layer).from_config(config)
    copy.build((None, 6, 5, 8))
    np.testing.assert_array_equal(cases.as_numpy(copy.gamma), 0.25)
    beta = cases.as_numpy(copy.beta)
    assert np.all((beta >= 1.0) & (beta <= 2.0)) and np.ptp(beta) > 0.0


@cases.both_kerases
@cases.every_case
def test_a_row_is_as_good_as_its_name(kit_name, case):
    layers = cases.kit(kit_name).layers
    config = layers.norm_act(catalog.get(case.name), name="here").get_config()
    named = layers.norm_act(case.name, name="here").get_config()
    assert config == named
    json.dumps(config)  # raises TypeError if a Row were left in it


@cases.both_kerases
@cases.every_case
def test_precision_and_freezing_survive(kit_name, case):
    layers = cases.kit(kit_name).layers
    layer = layers.NormAct(case.name, dtype="mixed_float16")
    layer.trainable = False
    config = json.loads(json.dumps(layer.get_config()))
    copy = layers.NormAct.from_config(config)
    assert copy.compute_dtype == "float16"
    assert copy.trainable is False
