"""The arithmetic of benchmarks/networks.py; its timings are not tested."""

import itertools

import pytest
import tf_keras

from benchmarks import networks


class Fake:
    """Steps of known length; the machine is half as fast in odd rounds."""

    def __init__(self, length):
        self._lengths = itertools.cycle((length, 2 * length))

    def seconds(self, repeat):
        return next(self._lengths)


def test_a_slow_round_does_not_change_a_ratio(capsys):
    lengths = {networks.FUSED: 0.2, "evonorm_b0": 0.3}
    rows = networks.compare(
        lambda row: Fake(lengths[row]), [*lengths], rounds=4, repeat=1
    )
    assert [r["ratio"] for r in rows] == [1.0, 1.5]
    assert rows[1]["lowest"] == rows[1]["highest"] == 1.5
    assert rows[1]["ms"] == pytest.approx(450.0)
    assert "evonorm_b0" in capsys.readouterr().out


def test_the_fused_network_is_tf_kerass_own():
    images = tf_keras.layers.Input((8, 8, 3))
    make = networks.norm_act(networks.FUSED)
    model = tf_keras.Model(images, make(activation=False)(make()(images)))
    kinds = [type(x).__name__ for x in model.layers[1:]]
    assert kinds == ["BatchNormalization", "ReLU", "BatchNormalization"]
