"""docs/performance.md says what the JSON says."""

import json

import numpy as np
import pytest

from benchmarks import goals, layer_plots, report

RUNS = report.ROOT / "docs" / "runs"


def test_the_pages_are_those_of_the_runs():
    page = (report.ROOT / "docs" / "performance.md").read_text()
    assert page == report.page(RUNS), "run python -m benchmarks.report"
    commands = (report.ROOT / "benchmarks" / "README.md").read_text()
    assert commands == report.commands(), "run python -m benchmarks.report"
    for path, name, table in report.marked(RUNS):
        text = (report.ROOT / path).read_text()
        assert text == report.filled(text, name, table), (path, name)


def _preflight(folder, layer, accessed, largest):
    step = {"temporary_bytes": 10, "seconds_estimate": 1.0}
    document = {
        "steps": {layer: step | {"bytes_accessed": accessed}},
        "largest_batch": {"batch": largest},
    }
    path = folder / f"tpu-r50-{layer}.json"
    path.write_text(json.dumps(document))


def _lines(runs):
    return [goal.line() for goal in goals.every(runs)]


def test_goals_are_reached_missed_or_not_run(tmp_path):
    assert {row[2] for row in _lines(tmp_path)} == {goals.NOT_RUN}
    _preflight(tmp_path, "bn_relu", 100, 200)
    _preflight(tmp_path, "evonorm_s0", 102, 190)
    rows = {row[0]: row[1:] for row in _lines(tmp_path)}
    (accessed,) = (
        row
        for what, row in rows.items()
        if "ResNet-50 step, b" in what and "TPU" in what
    )
    assert accessed == ["at most 1.02", "evonorm_s0 1.020", "reached"]
    largest = rows["largest ResNet-50 batch on one v5e, relative to bn_relu"]
    assert largest == ["at least 0.98", "evonorm_s0 0.950", "**missed**"]
    _preflight(tmp_path, "evonorm_s0", 103, 196)
    rows = {row[0]: row[1:] for row in _lines(tmp_path)}
    assert (
        rows["largest ResNet-50 batch on one v5e, relative to bn_relu"][2]
        == "reached"
    )


def test_the_history_has_the_worst_figure_of_every_note(tmp_path):
    assert goals.history(tmp_path) == goals.NOT_RUN
    rows = [
        {"network": "resnet50", "layer": layer, "ratio": ratio}
        for layer, ratio in (("evonorm_b0", 1.15), ("bn_relu", 1.04))
    ]
    path = tmp_path / goals.NETWORKS[0]
    path.write_text(json.dumps({"rows": rows}))
    goals.note(tmp_path, "1.0")  # bn_relu has the lower bound.
    rows[0]["ratio"] = 1.25
    path.write_text(json.dumps({"rows": rows}))
    goals.note(tmp_path, "1.1")
    (line,) = (
        line for line in goals.history(tmp_path).splitlines() if "1.04" in line
    )
    assert line.endswith("| bn_relu 1.040 | evonorm_b0 1.250 |")
    with pytest.raises(ValueError, match=r"note='1\.1'"):
        goals.note(tmp_path, "1.1")


def _write(folder, part, rows, **facts):
    facts |= {"device": "gpu: X", "jax": "1", "keras": "3"}
    (folder / "gpu").mkdir(exist_ok=True)
    text = json.dumps({"facts": facts, "rows": rows})
    (folder / "gpu" / f"{part}.json").write_text(text)


def test_gpu_parts_are_tabled_or_not_run(tmp_path):
    assert report.gpu_layers(None) == report.NOT_RUN
    assert report.gpu_torch(None) == report.NOT_RUN
    assert report.gpu_networks(tmp_path) == report.NOT_RUN
    step = {"ms": 2.0, "memory_bytes": 2**30, "memory_ratio": 1.1}
    _write(
        tmp_path,
        "networks",
        [
            step | {"layer": goals.KERAS_BN_RELU, "ratio": 1.0},
            step | {"layer": "evonorm_b0", "ratio": 1.25},
            step | {"layer": "evonorm_s1", "ratio": 0.97},
            {"layer": goals.KERAS_BN_RELU, "largest_batch": 200},
            {"layer": "evonorm_b0", "largest_batch": 150},
        ],
    )
    lines = report.gpu_networks(tmp_path).splitlines()
    assert lines[3] == (
        "| evonorm_b0 | 2.0 ms | 1.25 | 1.00 GiB | 1.10 | 150 | 0.75 |"
    )
    assert lines[4].endswith("| 1.10 |  |  |")
    reached = {row[0]: row[2:] for row in _lines(tmp_path)}
    (time,) = (v for k, v in reached.items() if k.startswith("GPU, ResNet"))
    assert time == ["evonorm_b0 1.250, evonorm_s1 0.970", "**missed**"]
    assert reached["the same: largest batch"][0] == "evonorm_b0 0.750"
    bandwidth = "GPU, one layer: fraction of copy bandwidth"
    assert reached[bandwidth] == [goals.NOT_RUN, ""]


def test_repeated_seeds_share_a_cell(tmp_path):
    rows = [
        {
            "layer": "bn_relu",
            "seed": seed,
            "accuracy": accuracy,
            "network": "resnet20_cifar",
            "epochs": 30,
            "batch": 128,
        }
        for seed, accuracy in ((0, 85.0), (1, 84.5), (1, 86.25))
    ]
    rows.append(rows[0] | {"layer": "evonorm_s0", "epochs": 12, "seed": 2})
    table = report.gpu_cifar([{"rows": rows}])
    for line in (
        "| resnet20_cifar, 30 epochs, batch 128 | bn_relu | 85.00 "
        "| 84.50, 86.25 | *not run* |",
        "| resnet20_cifar, 12 epochs, batch 128 | evonorm_s0 | *not run* "
        "| *not run* | 85.00 |",
    ):
        assert line in table
    assert report.gpu_cifar([]) == report.NOT_RUN


def test_a_response_is_that_of_the_formula():
    x, y = layer_plots.response("evonorm_s0")
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), atol=2e-3)
    assert (np.diff(x) > 0).all()


def test_largest_batches_on_a_gpu_are_compared_with_their_baseline(tmp_path):
    path = tmp_path / "gpu" / "networks.json"
    path.parent.mkdir()
    rows = [{"layer": "evonorm_s0", "largest_batch": 150}]
    path.write_text(json.dumps({"rows": rows}))
    assert goals.gpu_largest(tmp_path) == {}
    rows.append({"layer": goals.KERAS_BN_RELU, "largest_batch": 100})
    path.write_text(json.dumps({"rows": rows}))
    assert goals.gpu_largest(tmp_path)["evonorm_s0"] == 1.5
