"""The demo: its grid, its resume logic, its report."""

import json
import os
import pathlib
import subprocess
import sys
import types

import psutil
import pytest

from classification import demo, report, task
from classification.report import Run
from tests.classification import small
from training import driver, runs


def test_grid_is_four_layers_two_batches_two_seeds():
    runs = demo.grid()
    assert len(set(runs)) == len(runs) == 16
    assert {run.layer for run in runs} == set(demo.LAYERS)
    assert {run.batch for run in runs} == {64, 4}


def test_only_layer_batch_rate_and_seed_differ():
    def flat(run):
        params = demo.parameters(run, demo.EPOCHS)
        task.prepare(params)
        return params

    big, little = flat(Run("bn_relu", 64, 0)), flat(Run("frn", 4, 0))
    rate = big.trainer.optimizer_config.learning_rate.cosine
    small_rate = little.trainer.optimizer_config.learning_rate.cosine
    assert rate.initial_learning_rate == pytest.approx(
        16 * small_rate.initial_learning_rate
    )
    # Equal epochs, to a step of the larger batch.
    seen = [p.trainer.train_steps * b for p, b in ((big, 64), (little, 4))]
    assert abs(seen[0] - seen[1]) < 64
    little.task.model.norm_act.name = "bn_relu"
    assert big.task.model == little.task.model
    assert big.task.weight_decay == little.task.weight_decay


@pytest.fixture
def counted(monkeypatch):
    """The demo with a stand-in for the training itself, which counts."""
    made = []

    def run(params, prepared, mode, model_dir, display):
        made.append(os.path.basename(model_dir))
        os.makedirs(model_dir, exist_ok=True)
        runs.Run(model_dir).record(params, "test")
        accuracy = 0.5 + params.task.seed / 10
        return types.SimpleNamespace(metrics={"accuracy": accuracy})

    monkeypatch.setattr(driver, "run", run)
    return made


def _accuracy(root, run, epochs=1.0):
    return demo.accuracy(run, str(root), epochs, small.Silent())


def test_finished_run_is_not_made_again(tmp_path, counted):
    run = Run("bn_relu", 64, 1)
    assert _accuracy(tmp_path, run) == 0.6
    assert _accuracy(tmp_path, run) == 0.6
    assert counted == [run.directory]


def test_half_done_run_is_gone_on_with_and_not_wiped(tmp_path, counted):
    run = Run("bn_relu", 64, 0)
    _accuracy(tmp_path, run)
    folder = tmp_path / run.directory
    (folder / demo.RESULT_FILE).unlink()
    (folder / "ckpt-5.index").touch()
    _accuracy(tmp_path, run)
    assert len(counted) == 2
    assert (folder / "ckpt-5.index").exists()


def test_a_folder_of_another_run_is_refused_and_kept(tmp_path, counted):
    run = Run("bn_relu", 64, 0)
    _accuracy(tmp_path, run)
    folder = tmp_path / run.directory
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"another config.*decay_steps"):
        _accuracy(tmp_path, run, epochs=2.0)
    (folder / "params.yaml").unlink()
    with pytest.raises(ValueError, match=r"no params\.yaml"):
        _accuracy(tmp_path, run)
    del before[folder / "params.yaml"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert len(counted) == 1


def test_a_real_run_resumes_from_its_own_checkpoint(tmp_path, monkeypatch):
    small.shorten(monkeypatch, "resnet8_cifar")
    run = Run("bn_relu", 64, 0)
    accuracy = _accuracy(tmp_path, run)
    folder = tmp_path / run.directory
    recorded = json.loads((folder / demo.RESULT_FILE).read_text())
    assert recorded == {"accuracy": accuracy}
    (folder / demo.RESULT_FILE).unlink()
    assert _accuracy(tmp_path, run) == accuracy


@pytest.mark.slow
def test_runs_side_by_side_are_those_of_one_process(tmp_path, monkeypatch):
    two = [Run("bn_relu", 64, 0), Run("evonorm_s0", 64, 0)]
    monkeypatch.setattr(demo, "grid", lambda: two)
    display = small.Silent()
    found = demo.accuracies(str(tmp_path / "two"), 0.5, display)
    assert sum("accuracy" in line for line in display.lines) == 2
    alone = [_accuracy(tmp_path / "one", run, 0.5) for run in two]
    assert found == dict(zip(two, alone))


_DRIVER = """
import concurrent.futures, multiprocessing, os, time
from classification import demo

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        1, context, demo._begin, (context.Queue(),)
    )
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_with_a_demo_that_was_killed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    driver = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    worker = psutil.Process(int(driver.stdout.readline()))
    driver.kill()
    driver.wait()
    worker.wait(20)


ACCURACIES = {
    Run("bn_relu", 4, 0): 0.90,
    Run("bn_relu", 4, 1): 0.94,
    Run("bn_relu", 64, 0): 0.97,
    Run("bn_relu", 64, 1): 0.97,
}


def test_table_has_mean_and_range_the_largest_batch_first():
    lines = report.table(ACCURACIES).splitlines()
    assert [part.strip() for part in lines[0].split("|")][1:-1] == [
        "layer",
        "batch 64",
        "batch 4",
    ]
    assert "97.0 (97.0 to 97.0)" in lines[2]
    assert lines[2].index("97.0") < lines[2].index("92.0 (90.0 to 94.0)")


def test_report_holds_table_and_figure_and_says_what_it_is(tmp_path):
    page, picture = report.write(str(tmp_path), ACCURACIES, 10.0, 445)
    text = pathlib.Path(page).read_text(encoding="utf-8")
    assert report.table(ACCURACIES) in text
    assert "not ImageNet" in text
    assert "0.22 %" in text
    assert pathlib.Path(picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
