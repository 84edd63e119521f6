"""Figures of exported files reach the tables and the goals."""

import json

import pytest

from benchmarks import export_tables, goals, report


@pytest.fixture
def runs(tmp_path):
    def row(file, layer, baseline, ratio):
        return {
            "network": "mobilenet_v2",
            "image_size": 96,
            "file": file,
            "layer": layer,
            "form": "folded",
            "baseline": baseline,
            "bytes": 1_500_000,
            "ratio": ratio,
            "lowest": ratio - 0.1,
            "highest": ratio + 0.1,
            "ms": 2.0,
            "baseline_ms": 2.0 / ratio,
        }

    rows = [
        row("tflite", "bn_relu", "bn_relu tflite", 1.01),
        row("tflite", "evonorm_s0", "bn_relu tflite", 1.5),
        row("tflite_int8", "bn_relu", "bn_relu tflite_int8", 1.0),
        row("tflite_int8", "bn_relu", "bn_relu tflite", 0.3),
        row("tflite_int8", "evonorm_s0", "bn_relu tflite_int8", 3.0),
        row("tflite_int8", "evonorm_s0", "evonorm_s0 tflite", 0.75),
    ]
    path = tmp_path / export_tables.LATENCY[0]
    path.write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_latency_has_a_line_for_each_file(runs):
    lines = export_tables.latency(runs).splitlines()
    assert lines[-1] == (
        "| mobilenet_v2, 96 px | tflite_int8 | evonorm_s0 | 2.00 | "
        "3.00 (2.90 to 3.10) | 0.75 (0.65 to 0.85) | 1.50 MB |"
    )
    assert len(lines) == 2 + 4


def test_goals_take_the_baseline_that_they_name(runs):
    assert export_tables.int8_ratios(runs) == {"evonorm_s0": 0.75}
    found = export_tables.ratios(runs, "tflite", "mobilenet_v2")
    assert found == {"evonorm_s0": 1.5}
    lines = [goal.line() for goal in goals.every(runs)]
    verdicts = {line[0]: line[2:] for line in lines}
    (float32,) = (v for what, v in verdicts.items() if "float32, Mob" in what)
    assert float32 == ["evonorm_s0 1.500", "**missed**"]
    (onnx,) = (v for what, v in verdicts.items() if "ONNX Runtime, R" in what)
    assert onnx == [goals.NOT_RUN, ""]


def test_agreement_is_tabled_or_not_run(tmp_path):
    assert report.agreement(tmp_path) == report.NOT_RUN
    assert report.latency(tmp_path) == report.NOT_RUN
    row = {"layer": "evonorm_s0", "file": "tflite_int8", "agreement": 0.992}
    row |= {"accuracy": 0.5, "difference": 0.03, "bytes": 4_000_000}
    path = tmp_path / export_tables.AGREEMENT
    path.write_text(json.dumps({"rows": [row]}))
    assert report.agreement(tmp_path).splitlines()[-1] == (
        "| evonorm_s0 | tflite_int8 | 99.2 % | 50.0 % | 3.0e-02 | 4.00 MB |"
    )
    assert export_tables.int8_agreement(tmp_path) == {"evonorm_s0": 0.992}


def test_a_page_keeps_what_is_around_its_table():
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    new = "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"
    assert report.filled(text, "x", "new") == new
