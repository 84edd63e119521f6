"""A whole run: trains, evaluates, draws, and goes on where it was."""

import io
import os

import cv2
import pytest

import evonorm_tf
from detection import evaluate, train
from evonorm_tf.training import config, driver, progress
from tests.detection import small


def _run(model_dir, mode, **trainer):
    params = small.parameters(trainer=trainer)
    # Compilation, tested with the layers, would be half of the time.
    with evonorm_tf.using(xla=False):
        display = progress.Display("run", io.StringIO())
        result = train.run(params, mode, str(model_dir), display)
    return params, result


def test_a_run_trains_evaluates_draws_and_goes_on(tmp_path, capsys):
    params, result = _run(tmp_path, "train_and_eval")
    assert result.step == 2
    trained, evaluated = _metrics(tmp_path)
    assert [line["step"] for line in trained] == [1, 2]
    # The Model Garden reports a validation loss, and it is always 0.
    assert "validation_loss" not in evaluated
    figures = evaluate.score_file(
        str(tmp_path / "results.json"), params.task.annotation_file, "empty"
    )
    for name in evaluate.FIGURES:
        # Orbit's logs are float32.
        assert evaluated[name] == pytest.approx(figures[name], abs=1e-6)
        assert evaluated[f"mask_{name}"] == pytest.approx(
            figures[f"mask_{name}"], abs=1e-6
        )
    assert cv2.imread(str(tmp_path / train.PICTURE)).shape[2] == 3
    assert "Picture:" in capsys.readouterr().out
    _, result = _run(tmp_path, "train", train_steps=3)
    assert result.step == 3 == driver.latest_step(str(tmp_path))
    assert [line["step"] for line in _metrics(tmp_path)[0]] == [1, 2, 3]


def _metrics(directory):
    lines = progress.read(str(directory))
    trained = [line for line in lines if line["kind"] == "train"]
    return trained, next(line for line in lines if line["kind"] == "eval")


@pytest.mark.parametrize("experiment", ["coco_maskrcnn", "scenes_maskrcnn"])
def test_debug_makes_any_experiment_small(experiment):
    params = config.parse(experiment)
    classes = params.task.model.num_classes
    train.shrink(params)
    assert params.task.model.num_classes == classes
    assert params.task.model.input_size == [128, 128, 3]
    assert params.trainer.train_steps <= 200
    assert params.task.train_data.global_batch_size <= 8


def test_recipes_are_the_papers():
    folder = os.path.join(os.path.dirname(train.__file__), "..", "configs")
    for name, network in (("r50_fpn", "resnet50"), ("r101_fpn", "resnet101")):
        path = os.path.join(folder, "detection", f"{name}.yaml")
        params = config.parse("coco_maskrcnn", [path], norm_act="evonorm_b0")
        model, trainer = params.task.model, params.trainer
        assert (model.network, model.input_size) == (network, [1024, 1024, 3])
        assert params.task.train_data.global_batch_size == 64
        assert trainer.train_steps == 135_000
        stepwise = trainer.optimizer_config.learning_rate.stepwise
        assert list(stepwise.boundaries) == [120_000, 125_000]
