"""The TPU compiler, and the report made of what it says."""

import importlib.metadata
import json
import subprocess

import pytest
import tensorflow as tf

from evonorm_tf import preflight
from evonorm_tf.preflight import __main__ as command
from evonorm_tf.preflight import lowering, report, tpu
from tests.preflight import small

TOPOLOGY = "v5e:2x2"
GIB = 2**30


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _needs_compiler():
    pytest.importorskip("jax")
    pytest.importorskip("libtpu")


def test_small_step_compiles_and_is_remembered(monkeypatch):
    _needs_compiler()
    step = small.train_step(small.network())
    images = tf.TensorSpec([small.BATCH, 8, 8, 3], tf.uint8)
    labels = tf.TensorSpec([small.BATCH], tf.int32)
    module, _ = preflight.lower(step, images, labels)
    found = preflight.compile_text(module.text, TOPOLOGY)
    assert found["fits"]
    # Two multiply-adds of [8, 6, 6, 8] x 27 at least: forward and weights.
    assert found["flops"] > 2 * 2 * 8 * 36 * 8 * 27
    assert 0 < found["seconds_estimate"] < 1e-3
    assert found["argument_bytes"] >= sum(v.bytes for v in module.state)

    def never(*_, **__):
        raise AssertionError("compiled again")

    monkeypatch.setattr(subprocess, "run", never)
    assert preflight.compile_text(module.text, TOPOLOGY) == found


def test_module_that_the_compiler_refuses():
    _needs_compiler()
    with pytest.raises(preflight.CompilerError, match="status 1") as caught:
        preflight.compile_text("module @f0 { nonsense }", TOPOLOGY)
    said = str(caught.value)
    assert "'nonsense' is unknown" in said
    assert "Traceback" not in said and "\n" not in said


def test_module_without_room_is_no_error():
    _needs_compiler()
    size = f"tensor<{5 * GIB}xf32>"
    text = (
        f"module @f0 {{ func.func @main(%a: {size}) -> {size} {{\n"
        f"  %0 = stablehlo.add %a, %a : {size}\n"
        f"  return %0 : {size} }} }}\n"
    )
    found = preflight.compile_text(text, TOPOLOGY)
    assert not found["fits"]
    assert "hbm" in found["message"].lower()


def test_a_missing_compiler_is_named(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ModuleNotFoundError, match=r"jaxlib.*evonorm-tf\[tpu\]"):
        preflight.compile_text("", TOPOLOGY)


@pytest.mark.parametrize("name", ["v5e", "v9:2x2", "2x2", "v5e:two", ""])
def test_unknown_topology(name):
    with pytest.raises(ValueError, match="v5e:2x2"):
        preflight.compile_text("", name)


def test_a_damaged_result_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
    monkeypatch.setattr(tpu, "_compile_apart", lambda *_: {"fits": True})
    assert tpu.compile_text("module", TOPOLOGY) == {"fits": True}
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], b"\xff"):
        path.write_bytes(damaged)
        assert tpu.compile_text("module", TOPOLOGY) == {"fits": True}
        assert path.read_bytes() == whole


def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    """In one line, with the status of the other commands."""

    def refuse(*_):
        raise tpu.CompilerError("The TPU compiler ended with status 1")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
    monkeypatch.setattr(tpu, "_compile_apart", refuse)
    (tmp_path / "step.mlir").write_text("module @f0 { nonsense }")
    (tmp_path / "binary.mlir").write_bytes(b"ML\xefR\x01")
    for name, options, said in (
        ("none.mlir", [], "There is no such file"),
        (".", [], "There is no such file"),
        ("binary.mlir", [], "not StableHLO as text"),
        ("step.mlir", ["--topology=v9:1"], "v5e:2x2"),
        ("step.mlir", [], "ended with status 1"),
    ):
        given = ["compile", str(tmp_path / name), *options]
        assert command.main(given) == 2
        captured = capsys.readouterr()
        assert said in captured.err and captured.out == ""
    result = {"fits": False, "message": "Used more"}
    monkeypatch.setattr(tpu, "_compile_apart", lambda *_: result)
    assert command.main(["compile", str(tmp_path / "step.mlir")]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_chips_of_a_topology():
    assert [tpu.chips(name) for name in tpu.EXAMPLES] == [4, 4, 4, 4]


def _module(layer, batch):
    """A module whose text says what it is, for the compiler below."""
    state = (lowering.Value("w", (1000,), "float32"),)
    return lowering.Module(f"{layer} {batch}", (), state, (), ())


@pytest.fixture
def linear(monkeypatch):
    """A compiler whose memory is 1 GiB and 50 MiB an example."""
    seen = []

    def compile_text(text, topology):
        layer, batch = text.split()
        seen.append(text)
        used = GIB + int(batch) * 50 * 2**20
        if used > 15.75 * GIB:
            return {"fits": False, "message": "Used more\nthan there is"}
        factor = {"None": 0.5, "bn_relu": 1.0}.get(layer, 1.25)
        numbers = dict.fromkeys(tpu._FIGURES, 0.0) | {
            "temporary_bytes": used,
            "bytes_accessed": factor * 1e9,
            "flops": 1e12,
            "seconds_estimate": factor * 1e-3,
        }
        return numbers | {"fits": True, "compile_seconds": 1.0}

    monkeypatch.setattr(tpu, "compile_text", compile_text)
    return seen


def test_report_compares_with_the_baseline_and_with_neither(linear):
    request = report.Request(_module, "evonorm_s0", 64, TOPOLOGY)
    found = report.run(request)
    assert list(found["steps"]) == ["evonorm_s0", "bn_relu", report._NONE]
    text = report.as_text(found)
    assert "1.250" in text  # bytes accessed over the baseline's
    assert "60% of the bytes accessed" in text  # 1 - 0.5 / 1.25


def test_largest_batch_is_the_largest_multiple_of_8(linear):
    request = report.Request(_module, "evonorm_s0", 64, TOPOLOGY)
    found = report.run(request)["largest_batch"]
    # (15.75 - 1) GiB / 50 MiB = 302.08, in steps of 8.
    assert found["batch"] == 296
    assert "evonorm_s0 296" in linear


def test_largest_batch_is_found_where_memory_is_no_line(linear, monkeypatch):
    """Below 100 examples memory grows twice as fast: the line is too low."""
    straight = tpu.compile_text

    def bent(text, topology):
        layer, batch = text.split()
        return straight(
            f"{layer} {int(batch) + min(int(batch), 100)}", topology
        )

    monkeypatch.setattr(tpu, "compile_text", bent)
    request = report.Request(_module, "evonorm_s0", 64, TOPOLOGY)
    found = report.run(request)["largest_batch"]
    # 302 less the 100 that stand for the bend, within 3 % of the memory.
    assert 192 <= found["batch"] <= 202


def test_batch_near_one_that_does_not_fit(linear):
    """Where the doubled batch has no room, the answer lies in between."""
    request = report.Request(_module, "evonorm_s0", 8, TOPOLOGY)
    found = report.run(request)["largest_batch"]
    assert 288 <= found["batch"] <= 296


def test_step_that_does_not_fit_is_said(linear):
    request = report.Request(_module, "evonorm_s0", 512, TOPOLOGY)
    found = report.run(request)
    assert "largest_batch" not in found
    assert "does not fit: Used more" in report.as_text(found)
