"""docs/performance.md says what the JSON says."""

import json

import pytest
import tensorflow as tf

from benchmarks import goals, gpu, report, torch_peers
from evonorm_tf import preflight

RUNS = report.ROOT / "docs" / "runs"


def test_the_pages_are_those_of_the_runs():
    page = (report.ROOT / "docs" / "performance.md").read_text()
    assert page == report.page(RUNS), "run python -m benchmarks.report"
    commands = (report.ROOT / "benchmarks" / "README.md").read_text()
    assert commands == report.commands(), "run python -m benchmarks.report"
    table = report.layers(report.read(RUNS, report.LAYERS), report._SHOWN)
    assert table in (report.ROOT / "README.md").read_text()


def _preflight(folder, layer, accessed, largest):
    step = {"temporary_bytes": 10, "seconds_estimate": 1.0}
    document = {
        "steps": {layer: step | {"bytes_accessed": accessed}},
        "largest_batch": {"batch": largest},
    }
    path = folder / f"tpu-r50-{layer}.json"
    path.write_text(json.dumps(document))


def test_goals_are_reached_missed_or_not_run(tmp_path):
    assert {row[2] for row in goals.rows(tmp_path)} == {goals.NOT_RUN}
    _preflight(tmp_path, "bn_relu", 100, 200)
    _preflight(tmp_path, "evonorm_s0", 102, 190)
    rows = {row[0]: row[1:] for row in goals.rows(tmp_path)}
    (accessed,) = (
        row
        for what, row in rows.items()
        if "ResNet-50 step, b" in what and "TPU" in what
    )
    assert accessed == ["at most 1.02", "evonorm_s0 1.020", "reached"]
    largest = rows["largest ResNet-50 batch on one v5e, to bn_relu"]
    assert largest == ["at least 0.98", "evonorm_s0 0.950", "**missed**"]
    _preflight(tmp_path, "evonorm_s0", 103, 196)
    rows = {row[0]: row[1:] for row in goals.rows(tmp_path)}
    assert (
        rows["largest ResNet-50 batch on one v5e, to bn_relu"][2] == "reached"
    )


def test_gpu_rows_compare_on_one_device_only(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()

    def one(name, seconds, device="gpu: x"):
        return {"run": name, "device": device, "step_seconds": seconds}

    for name, seconds in (("copy", 1.0), ("bn_relu", 4.0), ("evonorm_s0", 5.0)):
        text = json.dumps(one(f"layer-{name}", seconds))
        (folder / f"layer-{name}.time.json").write_text(text)
    text = json.dumps([one("torch-eager-layer-evonorm_s0", 20.0, "cuda: x")])
    (tmp_path / torch_peers.RESULTS).write_text(text)
    rows = {row["run"]: row for row in gpu.rows(tmp_path)}
    assert rows["layer-evonorm_s0"]["ratio"] == pytest.approx(1.25)
    # Eight passes over the arrays; a copy is two.
    assert rows["layer-evonorm_s0"]["bandwidth_fraction"] == pytest.approx(0.8)
    assert "ratio" not in rows["torch-eager-layer-evonorm_s0"]


def test_layers_of_the_gpu_bundle_are_apart_and_without_products(monkeypatch):
    monkeypatch.setattr(gpu, "LAYERS", 2)
    shape = (2, 8, 8, 32)
    spec = tf.TensorSpec(shape, tf.bfloat16)
    step = gpu.layer_step("evonorm_s0", shape)
    module, _ = preflight.lower(step, spec, spec)
    assert module.text.count("optimization_barrier") >= 4
    assert "dot_general" not in module.text
