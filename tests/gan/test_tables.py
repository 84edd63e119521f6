"""A run of the narrow CIFAR-10 recipe in the tables of results."""

import json

import pytest
import yaml

from configs import tables
from gan import experiment as _registers  # noqa: F401
from gan.tables import TABLES
from training import config
from training.report import page, results
from training.report.tables import Metric

ROW = "cifar10/biggan_small/evonorm_s0"
DISTANCES = TABLES.tables["cifar10_distances"]
STEPS = tables.find(ROW).recipe.steps()


def _write(folder, distances, row=ROW, override=""):
    """A run's folder as training leaves it: distances by step."""
    params = config.parse(row=tables.find(row), params_override=override)
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params.as_dict()))
    lines = [
        {
            "kind": "eval",
            "step": step,
            "classifier_distance": distance,
            "classifier_score": 1.5 + step / STEPS,
        }
        for step, distance in distances.items()
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    about = {"devices": "Strategy, batch 64 (64 a replica)", "machine": "one"}
    (folder / "run.json").write_text(json.dumps(about))
    measured = {"step": max(distances), "about": "5000 images, sha256 abc"}
    (folder / "evaluation.json").write_text(json.dumps(measured))


def _text(folder):
    found = results.sort(results.read([str(folder)]), tables.ROWS)
    return page.markdown(tables.TABLES, found, str(folder)), found


def test_distance_at_start_and_end_their_ratio_and_how(tmp_path):
    _write(tmp_path / "run", {0: 16.0, STEPS // 2: 9.0, STEPS: 4.4})
    text, found = _text(tmp_path)
    assert list(found.by_row) == [ROW]
    section = text.split(f"## {DISTANCES.title}\n")[1].split("\n## ")[0]
    assert "| evonorm_s0 | 16.00 (1) | 4.40 (1) | 0.28 (1) | 2.50 (1) |" in (
        section
    )
    # Once for the four columns of one run, with what it was measured through.
    assert section.count(f"{STEPS} steps; float32; Strategy, batch 64") == 1
    assert "one; 5000 images, sha256 abc" in section
    assert "gan.train --row=cifar10/biggan_small/LAYER" in section
    assert "fid" not in "".join(
        column.metric.key for column in DISTANCES.columns
    )


def test_seeds_are_means_of_each_runs_ratio(tmp_path):
    _write(tmp_path / "a", {0: 16.0, STEPS: 4.0})
    _write(tmp_path / "b", {0: 20.0, STEPS: 10.0}, override="task.seed=1")
    text, _ = _text(tmp_path)
    # Of 0.25 and 0.50, and their deviation.
    assert "| 0.38+-0.18 (2) |" in text or "| 0.37+-0.18 (2) |" in text


def test_run_without_a_start_has_an_end_alone(tmp_path):
    _write(tmp_path / "run", {500: 9.0, STEPS: 4.0})
    text, _ = _text(tmp_path)
    assert "| evonorm_s0 | not run | 4.00 (1) | not run |" in text


def test_fid_has_two_decimals_and_accuracy_one():
    run = results.Run("r", {}, 1, {"fid": 7.849, "accuracy": 0.761}, "", "")
    assert page.ours([run], Metric("FID", "fid", decimals=2)) == "7.85 (1)"
    accuracy = Metric("top-1 %", "accuracy", 100.0)
    assert page.ours([run], accuracy) == "76.1 (1)"


@pytest.mark.parametrize("step", [0, STEPS // 2])
def test_run_that_is_not_at_its_end_fills_nothing(step, tmp_path):
    _write(tmp_path / "run", {0: 16.0, step: 9.0})
    text, found = _text(tmp_path)
    assert not found.by_row and len(found.unfinished) == 1
    assert "9.00 (1)" not in text
