"""The best checkpoint: kept, found again, and never half."""

import json

import pytest
import tensorflow as tf

from training import callbacks, driver, runs


class _Run:
    """A checkpoint of a step and one weight, and what keeps its best."""

    def __init__(self, folder, metric="accuracy", higher=True, aside=None):
        self.folder = str(folder)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.weight = tf.Variable(0.0)
        self.checkpoint = tf.train.Checkpoint(
            global_step=self.step, weight=self.weight
        )
        run = runs.Run(folder.parent)
        self.best = callbacks.Best(run, folder.name, metric, higher, aside)

    def evaluate(self, step, value):
        self.step.assign(step)
        self.weight.assign(float(step))
        return self.best.maybe_export_checkpoint(
            self.checkpoint, {"accuracy": tf.constant(value)}, step
        )

    def kept(self):
        self.checkpoint.read(tf.train.latest_checkpoint(self.folder))
        return float(self.weight)


def test_keeps_the_best(tmp_path):
    run = _Run(tmp_path)
    saved = [run.evaluate(k, v) for k, v in ((1, 0.2), (2, 0.5), (3, 0.4))]
    assert saved == [True, True, False]
    assert run.kept() == 2.0
    assert (
        runs.Run(tmp_path.parent).best(tmp_path.name)["best_ckpt_global_step"]
        == 2
    )
    assert len(list(tmp_path.glob("*.index"))) == 1


def test_lower_is_better_where_it_is_said(tmp_path):
    run = _Run(tmp_path, higher=False)
    saved = [run.evaluate(k, v) for k, v in ((1, 0.2), (2, 0.5), (3, 0.1))]
    assert saved == [True, False, True]


def test_goes_on_after_a_kill(tmp_path):
    first = _Run(tmp_path)
    first.evaluate(1, 0.5)
    second = _Run(tmp_path)
    assert not second.evaluate(2, 0.4)
    assert second.kept() == 1.0
    assert second.evaluate(3, 0.6)
    assert second.kept() == 3.0


def test_figure_of_another_checkpoint_does_not_count(tmp_path):
    """Killed after the new checkpoint, before its figure."""
    run = _Run(tmp_path)
    run.evaluate(1, 0.5)
    before = (tmp_path / runs.BEST_FILE).read_text()
    run.evaluate(2, 0.6)
    (tmp_path / runs.BEST_FILE).write_text(before)
    again = _Run(tmp_path)
    assert again.best.best_ckpt_logs is None
    assert again.evaluate(2, 0.6), "the replay is the best"


def test_figure_without_a_checkpoint_does_not_count(tmp_path):
    info = {"accuracy": 0.9, "best_ckpt_global_step": 5}
    (tmp_path / runs.BEST_FILE).write_text(json.dumps(info))
    assert _Run(tmp_path).evaluate(6, 0.1)


def test_a_figure_that_is_no_number_is_never_the_best(tmp_path):
    run = _Run(tmp_path)
    figures = ((1, float("nan")), (2, 0.2), (3, float("nan")), (4, 0.3))
    saved, logged = [], []
    for each in figures:
        saved.append(run.evaluate(*each))
        # As the Model Garden's trainer reads it.
        logged.append(float(run.best.best_ckpt_logs["accuracy"]))
    assert saved == [False, True, False, True]
    assert logged == pytest.approx([float("nan"), 0.2, 0.2, 0.3], nan_ok=True)
    # As earlier versions saved it.
    info = {"accuracy": float("nan"), "best_ckpt_global_step": 4}
    (tmp_path / runs.BEST_FILE).write_text(json.dumps(info))
    assert _Run(tmp_path).evaluate(5, 0.1)


def test_the_best_of_an_earlier_start_is_forgotten(tmp_path):
    earlier = _Run(tmp_path / "best")
    earlier.evaluate(1, 0.5)
    run = runs.Run(tmp_path)
    settings = driver.trainer_config(
        best_checkpoint_export_subdir="best",
        best_checkpoint_eval_metric="accuracy",
    )
    for start, figure in ((1, 0.5), (0, None)):
        best = callbacks.best_from_config(
            settings, run, ["accuracy"], start=start
        )
        logs = best.best_ckpt_logs
        assert (logs and logs["accuracy"]) == figure
    (tmp_path / "best" / "notes").touch()
    run.forget(0)
    assert run.checkpoint("best") is None
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["notes"]
    # What lacks the step is of no checkpoint.
    earlier.evaluate(2, 0.95)
    (tmp_path / "best" / runs.BEST_FILE).write_text("{}")
    assert run.best() is None


def test_the_best_of_discarded_steps_is_forgotten(tmp_path):
    _Run(tmp_path / "best").evaluate(35, 0.5)
    run = runs.Run(tmp_path)
    settings = driver.trainer_config(
        best_checkpoint_export_subdir="best",
        best_checkpoint_eval_metric="accuracy",
    )
    for start, kept in ((40, True), (35, True), (20, False)):
        best = callbacks.best_from_config(
            settings, run, ["accuracy"], start=start
        )
        run.forget(start)
        assert (best.best_ckpt_logs is not None) == kept
        assert (run.checkpoint("best") is not None) == kept
    assert not list((tmp_path / "best").iterdir())
    assert _Run(tmp_path / "best").evaluate(25, 0.1)


@pytest.mark.parametrize("calls", [0, 1])
def test_killed_while_it_forgets_a_run_starts_again(
    tmp_path, monkeypatch, calls
):
    _Run(tmp_path / "best").evaluate(5, 0.5)
    run, whole = runs.Run(tmp_path), runs.remove_checkpoint

    def killed(path):
        if calls:
            whole(path)
        raise InterruptedError("SIGKILL")

    monkeypatch.setattr(runs, "remove_checkpoint", killed)
    with pytest.raises(InterruptedError):
        run.forget(0)
    monkeypatch.undo()
    run.forget(0)
    assert run.checkpoint("best") is None and run.best() is None
    assert _Run(tmp_path / "best").evaluate(1, 0.1)
    assert run.best()["best_ckpt_global_step"] == 1


def test_another_worker_decides_alike_and_saves_aside(tmp_path):
    folder, aside = tmp_path / "best", tmp_path / "aside"
    _Run(folder).evaluate(1, 0.5)
    worker = _Run(folder, aside=str(aside))
    assert not worker.evaluate(2, 0.4)
    assert worker.evaluate(3, 0.6)
    assert worker.kept() == 1.0
    assert list(aside.glob("*.index"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"best_checkpoint_eval_metric": "accuracy"}, "both or"),
        ({"best_checkpoint_metric_comp": "more"}, "higher or lower"),
        (
            {
                "best_checkpoint_export_subdir": "best",
                "best_checkpoint_eval_metric": "accurac",
            },
            "Did you mean accuracy",
        ),
    ],
)
def test_refused(changes, words, tmp_path):
    run, names = runs.Run(tmp_path), ["accuracy", "cross_entropy"]
    with pytest.raises(ValueError, match=words):
        callbacks.best_from_config(driver.trainer_config(**changes), run, names)
    usual = driver.trainer_config()
    assert callbacks.best_from_config(usual, run, names) is None
