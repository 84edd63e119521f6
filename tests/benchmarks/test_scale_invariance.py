"""The scale analysis: known cases, what is scaled, what is drawn."""

import functools
import json
import math

import matplotlib.colors
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from benchmarks import scale_invariance, scale_report
from evonorm_tf import legacy, plots
from evonorm_tf.nets import resnet

# Whether the network's function keeps when a convolution is scaled: by the
# formulas, with any normalisation that divides x by a statistic of x of the
# same degree and activates afterwards.
INVARIANT = {
    "bn_relu": True,
    "gn_swish": True,
    "frn": True,
    "rs_rej": True,
    "evonorm_b0": True,  # x / max(std, v*x + std): all of degree 1.
    "evonorm_b2": True,
    "evonorm_b1": False,  # (x + 1) * rms is of no degree.
    "evonorm_s0": False,  # Nor is sigmoid(v * x).
    "evonorm_s1": False,
    "evonorm_s2": False,
    "random_rej": False,
}


@pytest.fixture(autouse=True)
def _uncompiled():
    with evonorm_tf.using(xla=False):
        yield


def _network(layer, epsilon=1e-12, stages=1):
    """A narrow ResNet of 10 classes and a batch for it, always the same."""
    size = resnet.Size(
        depths=(1,) * stages,
        filters=(8,) * stages,
        strides=(1,) + (2,) * (stages - 1),
        bottleneck=False,
        stem="cifar",
        stem_filters=8,
    )
    norm_act = functools.partial(
        legacy.norm_act, layer, groups=4, epsilon=epsilon
    )
    tf_keras.utils.set_random_seed(0)
    images = tf_keras.Input((8, 8, 1))
    x = resnet.resnet(images, tf_keras.layers, norm_act, size)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(images, tf_keras.layers.Dense(10)(x))
    batch = tf.random.stateless_normal((16, 8, 8, 1), [0, 1])
    labels = tf.range(16) % 10
    return model, scale_invariance.evaluation(model, batch, labels)


# The others' formulas are checked in tests/layers; these are of both kinds.
_FAST = ("evonorm_b0", "evonorm_s0")


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(n, marks=() if n in _FAST else pytest.mark.slow)
        for n in INVARIANT
    ],
)
def test_known_layers(layer):
    model, evaluate = _network(layer)
    convolution = scale_invariance.inner_convolutions(model)[0]
    rows = scale_invariance.measure(model, evaluate, convolution)
    assert [row["factor"] for row in rows] == list(scale_invariance.FACTORS)
    own = [row["own_gradient"] * row["factor"] for row in rows]
    others = [row["other_gradients"] for row in rows]
    if not INVARIANT[layer]:
        assert scale_report.deviation(rows) > scale_report.TOLERANCE
        assert max(abs(row["loss_change"]) for row in rows) > 1e-4
        return
    # Epsilon is too small to be seen: what is left is float32's rounding of
    # some hundred thousand operations, 1e-5 with room.
    assert own == pytest.approx([1.0] * len(own), rel=1e-4)
    assert others == pytest.approx([1.0] * len(own), rel=1e-4)
    assert [row["loss_change"] for row in rows] == pytest.approx(
        [0.0] * len(rows), abs=1e-5
    )


def test_epsilon_ends_the_invariance():
    model, evaluate = _network("bn_relu", epsilon=0.1)
    convolution = scale_invariance.inner_convolutions(model)[0]
    rows = scale_invariance.measure(model, evaluate, convolution)
    assert scale_report.deviation(rows) > 0.5


def test_the_first_convolution_of_each_block_is_scaled_and_put_back():
    model, evaluate = _network("bn_relu", stages=2)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, tf_keras.layers.Conv2D)
    ]
    inner = scale_invariance.inner_convolutions(model)
    assert len(convolutions) == 6
    assert [layer.strides for layer in inner] == [(1, 1), (2, 2)]
    assert convolutions[0] not in inner  # The stem: a shortcut reads it too.
    assert {layer.kernel_size for layer in inner} == {(3, 3)}
    kernels = scale_invariance.weights(model)
    assert len(kernels) == len(convolutions) + 1
    before = [kernel.numpy() for kernel in kernels]
    scale_invariance.measure(model, evaluate, inner[1])
    for kernel, value in zip(kernels, before):
        np.testing.assert_array_equal(kernel.numpy(), value)


def test_gradient_of_the_scaled_weights_against_a_difference():
    # Along W itself, d L(a W) / d a = <gradient, W>.
    model, evaluate = _network("evonorm_s0")
    kernel = scale_invariance.inner_convolutions(model)[0].kernel
    own = [k is kernel for k in scale_invariance.weights(model)].index(True)
    _, gradients = evaluate()
    slope = float(tf.reduce_sum(gradients[own] * kernel))
    before, losses = kernel.numpy(), []
    for factor in (1.05, 0.95):
        kernel.assign(before * factor)
        losses.append(float(evaluate()[0]))
    # float32 losses near 2.3 leave 3e-7 / 0.1 of absolute error, the third
    # derivative a few per cent.
    difference = (losses[0] - losses[1]) / 0.1
    assert difference == pytest.approx(slope, rel=0.05, abs=1e-5)
    assert abs(slope) > 1e-4


def _row(factor, own, others=1.0, change=0.0):
    return {
        "factor": factor,
        "loss_change": change,
        "own_gradient": own,
        "other_gradients": others,
    }


def test_means_are_geometric_for_ratios_and_plain_for_changes():
    one, other = [_row(2.0, 0.25, 1.0, 0.1)], [_row(2.0, 1.0, 4.0, 0.3)]
    (mean,) = scale_report.mean_over([one, other])
    assert mean == pytest.approx(_row(2.0, 0.5, 2.0, 0.2))
    (none,) = scale_report.mean_over([one, [_row(2.0, 0.0)]])
    assert none["own_gradient"] == 0.0
    (broken,) = scale_report.mean_over([one, [_row(2.0, math.nan)]])
    assert math.isnan(broken["own_gradient"])


def test_deviation_counts_both_gradients_and_both_ways():
    deviation = scale_report.deviation
    assert deviation([_row(8.0, 1 / 8), _row(1 / 8, 8.0)]) == 0.0
    assert deviation([_row(8.0, 1.1 / 8)]) == pytest.approx(0.1)
    assert deviation([_row(8.0, 1 / 16)]) == pytest.approx(1.0)
    assert deviation([_row(8.0, 1 / 8, 0.5)]) == pytest.approx(1.0)
    assert deviation([_row(8.0, 0.0)]) == math.inf
    assert math.isnan(deviation([_row(8.0, math.nan)]))


def _result(layer, own):
    rows = [_row(a, own(a), change=a - 1) for a in (0.5, 1.0, 2.0)]
    state = {"loss": 2.3, "rows": rows}
    return {"layer": layer, "untrained": state, "trained": state}


def test_table_and_figure_say_which_layers_are_invariant():
    still = _result("bn_relu", lambda a: 1 / a)
    moves = _result("evonorm_s0", lambda a: 1.0)
    broken = _result("random", lambda a: math.nan)
    lines = [scale_report.line(each) for each in (still, moves, broken)]
    assert [line.split()[-1] for line in lines] == ["yes", "no", "no"]
    assert len(scale_report.header().splitlines()[1]) >= len(lines[0])
    new = scale_report.figure([still, moves, broken], "a note")
    legends = new.axes[-1].findobj(matplotlib.legend.Legend)
    named = {
        legend.get_title().get_text(): [
            text.get_text() for text in legend.get_texts()
        ]
        for legend in legends
    }
    assert named == {
        "depends on the scale": ["evonorm_s0", "random"],
        "does not (within 5 %)": ["bn_relu"],
    }
    # Loss, own, others by untrained, trained; own is a share of 1/a.
    for axes in new.axes[2:4]:
        lines = {
            line.get_label(): list(line.get_ydata())
            for line in axes.lines
            if line.get_label() in ("bn_relu", "evonorm_s0")
        }
        assert lines["bn_relu"] == pytest.approx([1.0, 1.0, 1.0])
        assert lines["evonorm_s0"] == pytest.approx([0.5, 1.0, 2.0])
    colours = [line.get_color() for line in new.axes[0].lines]
    for layer in ("bn_relu", "evonorm_s0", "random"):
        wanted = plots.style(layer).colour
        same = [matplotlib.colors.same_color(c, wanted) for c in colours]
        assert sum(same) == 2  # Line and marks.


def test_json_has_no_nan():
    tree = {"rows": [{"loss": math.nan}, {"loss": 1.0}], "x": (math.inf, 2)}
    clean = scale_report.without_nan(tree)
    assert clean == {"rows": [{"loss": None}, {"loss": 1.0}], "x": [None, 2]}
    json.dumps(clean, allow_nan=False)


@pytest.mark.slow
def test_a_layer_is_analysed_before_and_after_training():
    settings = scale_invariance.Settings(steps=16, batch=64)
    result = scale_invariance.analyse("bn_relu", settings)
    assert result["convolutions"] == 3
    # From near ln 10 downwards: a few steps of a warm-up do train.
    assert result["untrained"]["loss"] == pytest.approx(2.303, abs=0.05)
    assert result["trained"]["loss"] < result["untrained"]["loss"] - 0.03
    assert scale_report.invariant(result)
