"""What holds for every layer there is: catalog entries and graphs.

Statistics are asked of the layer. A list of their names would leave out a
graph's, `moving_variance_8`, without a word.
"""

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from evonorm_tf import catalog, exporting, graphs
from evonorm_tf.conversion import recalibration
from tests import cases
from tests.convert import small

# With two statistics over the batch, of the input and of what is not.
SEARCHED = graphs.parse(
    "n8=sigmoid(x); n9=mean_bwh(n8); n10=rms_bwh(x); n11=add(n9,n10); "
    "n12=mul(x,v1); n13=div(n12,n11)"
)
EVERY = {name: name for name in catalog.names()}
EVERY |= {f"graph_{name}": graph for name, graph in graphs.NAMED.items()}
EVERY["searched"] = SEARCHED


# Each with one of the Kerases in turn; these with both.
BOTH = ("evonorm_b0", "evonorm_s0", "bn_relu", "searched")
# Other activations of the same kernel, and baselines of the search.
SLOW = {case.name for case in cases.CASES if case not in cases.KERNELS}
SLOW -= {*BOTH}
# Without statistics of their own, as S0, "derf" and one graph are, or with
# those of another; their folded forms are tested with the formats.
SLOW |= {"evonorm_s2", "bn_swish", "gn_silu", "ln_relu", "frn"}
SLOW |= {f"graph_{name}" for name in graphs.NAMED}
SLOW -= {"graph_bn_relu", "graph_evonorm_b2", "graph_evonorm_s0"}
PAIRS = [
    pytest.param(
        *(kit_name, name), marks=[pytest.mark.slow] if name in SLOW else []
    )
    for k, name in enumerate(EVERY)
    for kit_name in cases.KITS
    if name in BOTH or kit_name == cases.KITS[k % 2]
]


def _row(layer):
    return layer if isinstance(layer, str) else graphs.row(layer)


def _model(keras):
    inputs = keras.Input((6, 6, 8))
    x = keras.layers.Conv2D(8, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="act")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def _outputs(model, x, training=False):
    return np.asarray(model(x, training=training))


@pytest.mark.parametrize(("kit_name", "name"), PAIRS)
def test_statistics_of_every_layer(kit_name, name, tmp_path):
    """Converted, recalibrated, saved, loaded, exported, converted again."""
    keras = cases.kit(kit_name).keras
    row = catalog.get(_row(EVERY[name]))
    x = small.draw(4, 6, 6, 8)
    model = evonorm_tf.convert(
        small.scatter(_model(keras)), row, groups=2, xla=False
    )
    layer = model.get_layer("norm")
    count = len(row.kernel.statistics)
    assert len(recalibration.statistics(layer)) == count
    # With the statistics of these images inference is what training is.
    assert evonorm_tf.recalibrate(model, [x]) == count
    wanted = _outputs(model, x, training=True)
    assert evonorm_tf.recalibrate(model, [x]) == count
    np.testing.assert_allclose(_outputs(model, x), wanted, rtol=1e-4, atol=1e-5)
    values = [np.asarray(w) for w in model.get_weights()]
    # A run that is resumed from its weights has them all.
    other = evonorm_tf.convert(_model(keras), row, groups=2, xla=False)
    model.save_weights(tmp_path / "run.weights.h5")
    other.load_weights(tmp_path / "run.weights.h5")
    np.testing.assert_array_equal(_outputs(other, x), _outputs(model, x))
    # So has a layer that takes the place of the same layer.
    again = evonorm_tf.convert(model, row, groups=2, xla=False)
    for got, kept in zip(again.get_weights(), values, strict=True):
        np.testing.assert_array_equal(got, kept)
    with exporting.inference_form(model):
        folded = tf.function(lambda x: model(x, training=False))(x)
    np.testing.assert_allclose(folded, _outputs(model, x), rtol=1e-4, atol=1e-5)
    if name == "searched":
        done = evonorm_tf.export(model, tmp_path / "saved", images=x)
        assert done.difference < 1e-5 and done.left == ("norm",)


def test_the_searched_graph_has_statistics_of_its_own():
    names = [n for n, _ in graphs.row(SEARCHED).kernel.statistics]
    assert names == ["moving_mean_9", "moving_mean_square_10"]


@cases.both_kerases
def test_statistics_of_layers_that_are_not_ours(kit_name):
    """By Keras's own names, and only what training moves."""
    keras = cases.kit(kit_name).keras

    class Own(keras.layers.BatchNormalization):
        pass

    for layer in (keras.layers.BatchNormalization(), Own()):
        layer.build((None, 6, 6, 4))
        found = recalibration.statistics(layer)
        assert found[0] is layer.moving_mean
        assert found[1] is layer.moving_variance
        layer.trainable = False
        assert recalibration.statistics(layer) == []
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    assert recalibration.statistics(dense) == []


def test_frozen_statistics_of_a_graph_stay():
    keras = cases.kit("keras3").keras
    model = evonorm_tf.convert(_model(keras), graphs.row(SEARCHED))
    model.get_layer("norm").trainable = False
    assert evonorm_tf.recalibrate(model, [small.draw(4, 6, 6, 8)]) == 0
    assert not np.any(
        tf.convert_to_tensor(model.get_layer("norm").moving_mean_9)
    )
