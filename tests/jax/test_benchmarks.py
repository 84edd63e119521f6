"""The benchmarks on JAX, at a small size."""

import argparse
import functools
import json
import types

import jax
import pytest

from benchmarks import gpu, jax_cifar, jax_layers, jax_steps, tpu_jax
from evonorm_tf import preflight


def test_single_layers_are_measured_and_tabled(tmp_path, monkeypatch):
    monkeypatch.setattr(jax_steps, "NAMES", ("evonorm_b0", "evonorm_s0"))
    given = argparse.Namespace(
        part="layers", small=True, output=tmp_path, seconds=1e9, cifar=None
    )
    gpu.part(given)
    document = json.loads((tmp_path / "layers.json").read_text())
    assert document["facts"]["device"] == "cpu: cpu"
    *rows, copy = document["rows"]
    names = [row["layer"] for row in rows]
    assert names == [jax_steps.BASELINE, "evonorm_b0", "evonorm_s0"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["ms_per_layer"] > 0 for row in rows)
    assert copy["layer"] == "copy" and copy["terabytes_per_second"] > 0
    lines = gpu.table(tmp_path).splitlines()
    assert lines[0] == "layers: cpu: cpu"
    assert "layer=evonorm_s0" in lines[3]
    assert lines[-3:] == [
        f"{n}: not run" for n in ("networks", "torch", "cifar")
    ]


def test_trainings_that_are_done_are_not_repeated():
    study = {"network": "n", "width": 1.0, "epochs": 2, "batch": 4}
    row = study | {"layer": "bn_relu", "seed": 0, "accuracy": 50.0}
    study["layers"] = {"bn_relu": [0, 1], "evonorm_s0": [0]}

    def left(only, rows):
        (found,) = jax_cifar.missing([study], only, rows)
        return found["layers"]

    assert left("", []) == study["layers"]
    assert left("", [row]) == {"bn_relu": [1], "evonorm_s0": [0]}
    assert left("n-w1.0-e2-b4/evo", [row]) == {"evonorm_s0": [0]}
    assert left("", [row | {"width": 0.5}]) == study["layers"]
    del row["width"]  # As the first published rows.
    assert left("", [row]) == {"bn_relu": [1], "evonorm_s0": [0]}
    with pytest.raises(ValueError, match=r"must match one of .*evonorm_s0"):
        left("evonorm_s9", [])
    with pytest.raises(ValueError, match="regular expression"):
        left("(", [])


def test_a_training_that_fails_is_no_success(tmp_path):
    study = gpu.SMALL["studies"][0] | {"network": "resnet9", "epochs": 1}
    study |= {"layers": {"evonorm_s0": [0]}}
    sizes = gpu.SMALL | {"studies": [study]}
    with pytest.raises(SystemExit, match=r"failed.*resnet9"):
        jax_cifar.measure(sizes, None, gpu.Rows(tmp_path / "x", {}), 1e12)


def test_another_device_is_not_continued(tmp_path):
    path = tmp_path / "cifar.json"
    path.write_text(json.dumps({"facts": {"device": "a GPU"}, "rows": []}))
    with pytest.raises(SystemExit, match="'a GPU' there, 'cpu: cpu' here"):
        gpu._known(path, {"device": "cpu: cpu"})


@pytest.mark.slow  # What is left to train, and a failure, are above.
def test_cifar_is_trained_in_processes_and_continued(tmp_path, monkeypatch):
    """One seed of one layer on drawn images; the row that was there stays."""
    study = gpu.SMALL["studies"][0] | {"layers": {"evonorm_s0": [0]}}
    study |= {"network": "resnet8_cifar", "epochs": 1}
    monkeypatch.setattr(gpu, "SMALL", gpu.SMALL | {"studies": [study]})
    known = {"layer": "bn_relu", "seed": 0, "accuracy": 10.0}
    known |= jax_cifar.about(study)
    path, facts = tmp_path / "cifar.json", {"device": "cpu: cpu"}
    path.write_text(json.dumps({"facts": facts, "rows": [known]}))
    given = argparse.Namespace(
        part="cifar", small=True, output=tmp_path, seconds=1e9, cifar=None
    )
    given.only = ""
    gpu.part(given)
    first, second = json.loads(path.read_text())["rows"]
    assert first == known
    assert (second["layer"], second["data"]) == ("evonorm_s0", "drawn")
    ((epoch, accuracy, loss),) = second["curve"]
    assert epoch == 1 and 0 <= accuracy <= 100 and loss > 0


def test_layers_are_timed_against_keras():
    rows = jax_layers.measure((2, 6, 6, 8), ["evonorm_s0"], rounds=2, repeat=1)
    assert [r["layer"] for r in rows] == [jax_steps.BASELINE, "evonorm_s0"]
    assert rows[0]["ratio_to_bn_relu"] == 1.0
    assert all(row["ms"] > 0 for row in rows)
    assert "evonorm_s0" in jax_layers.table(rows)


def test_a_row_of_layers_computes_its_output():
    """Else the forward pass of the last layer would cost nothing."""
    x = jax.numpy.ones([2, 4, 4, 8])
    step, _ = jax_steps.compiled_layers("bn_relu", x, x, count=2)
    y, gradients = step()
    assert y.shape == gradients[0].shape == x.shape


@pytest.mark.parametrize("name", [tpu_jax.BASELINE, tpu_jax.BARE])
def test_the_chain_has_its_layers(name, monkeypatch):
    """The text alone: the compiler is tried in test_preflight.py."""
    texts = []

    def compile_text(text, topology):
        texts.append(text)
        return dict.fromkeys(tpu_jax.KEYS, 1.0)

    monkeypatch.setattr(preflight, "compile_text", compile_text)
    rows = []
    adder = types.SimpleNamespace(add=lambda **row: rows.append(row))
    lower = functools.partial(tpu_jax.chain, shape=(2, 4, 4, 8))
    tpu_jax.measure(lower, [name], "v5e:2x2", adder)
    (row,), (text,) = rows, texts
    assert row["layer"] == name and row["bytes_accessed"] == 1.0
    # The first convolution's input needs no gradient.
    assert text.count("stablehlo.convolution") == 3 * tpu_jax.CONVOLUTIONS - 1
    assert ("rsqrt" in text) == (name != tpu_jax.BARE)
