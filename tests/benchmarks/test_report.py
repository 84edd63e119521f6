"""docs/performance.md says what the JSON says."""

import json

from benchmarks import goals, report

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
