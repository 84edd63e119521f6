"""A run from its first step to its export, in folders of every kind.

Names that a shell, a pattern or a URL would take for something else, as a
local path, by file:// and in memory, as on an object store. What is given to
one folder goes to no other, and nothing to the working directory.
"""

import os

import numpy as np
import pytest

import evonorm_tf
from evonorm_tf import files
from tests.classification import small as classifier
from tests.detection import small as detector
from tests.gan import small as gan
from training import runs

ODD = "lr=[0.1],a *?ü #%20"
# Its checkpoints would match the pattern that the odd name is.
NEIGHBOUR = "lr=0,a xyü #%20"


class _Killed(Exception):
    """Ends a run in the middle, as a signal would."""


def _killing(display):
    """A display that ends the run after training, before it saves."""

    def update(share, *given):
        if share == 1:
            raise _Killed(given)

    display.update = update
    return display


class _Classification:
    silent = classifier.Silent

    def run(self, folder, steps, mode="train_and_eval", display=None):
        params = classifier.parameters(
            train_steps=steps,
            checkpoint_interval=2,
            validation_interval=2,
            max_to_keep=1,
            best_checkpoint_export_subdir="best",
            best_checkpoint_eval_metric="accuracy",
            optimizer_config={
                "learning_rate": {
                    "type": "constant",
                    "constant": {"learning_rate": 0.1},
                }
            },
        )
        params.task.model.override({"width": 0.25, "max_depth": 1})
        return classifier.run(folder, params, mode, display)

    def use(self, folder):
        """Exports the best checkpoint and draws the run's curves."""
        from classification import export, logs, plot

        done = export.export(folder, f"{folder}/out", ["saved_model"], "best")
        assert done["saved_model"].difference < 1e-4
        found = logs.find([folder])
        files.remove(f"{folder}/curves.png")
        evonorm_tf.plots.save(
            plot.draw(found, "curves"), f"{folder}/curves.png"
        )
        assert files.names(f"{folder}/out") == [
            *("export.json", "labels.txt", "saved_model")
        ]
        return ["best", "curves.png", "out", "train", "validation"]


class _Detection:
    silent = detector.Silent

    def run(self, folder, steps, mode="train_and_eval", display=None):
        params = detector.parameters()
        rate = {"type": "constant", "constant": {"learning_rate": 0.01}}
        params.trainer.override(
            {
                **{"train_steps": steps, "steps_per_loop": 2},
                **{"checkpoint_interval": 2, "validation_interval": 2},
                **{
                    "max_to_keep": 1,
                    "optimizer_config": {"learning_rate": rate},
                },
            }
        )
        return detector.run(folder, params, mode, display)

    def use(self, folder):
        """Reads the run back, exports it and predicts with it."""
        from detection import export, predict, task

        run = task.restore(folder)
        assert task.names(run)[1] == "0"
        # Of an untrained detector: images in which it finds something.
        images = export._images(run, [])
        assert len(images) == 2 and images[0].dtype == np.uint8
        (name,) = predict.outputs([f"{folder}/a.b.png"], f"{folder}/found")
        assert name == f"{folder}/a.b.png"
        scenes = "scenes-64px-4-5-seed0"
        return [
            *("pictures", "predictions.png", "results.json"),
            *("results_masks.json", scenes, "train", "validation"),
        ]


class _Gan:
    silent = gan.Silent

    def run(self, folder, steps, mode="train_and_eval", display=None):
        task = {
            "discriminator_steps": 1,
            "evaluation": {
                **{"kernel_block": 20, "classifier_steps": 2, "samples": 80},
                **{"batch_size": 80, "standing_batches": 1, "grid_rows": 1},
            },
        }
        params = gan.parameters(
            *("evonorm_s0", task),
            **{"train_steps": steps, "steps_per_loop": 2, "max_to_keep": 1},
            **{"checkpoint_interval": 2, "validation_interval": 2},
        )
        return gan.make(folder, params, mode, display)

    def use(self, folder):
        """Reads the generator back and draws samples and curves."""
        from gan import plot, restore

        assert restore.restore(folder).step == 4
        new = plot.figure(plot.find([folder]))
        evonorm_tf.plots.save(new, f"{folder}/curves.png")
        samples = files.names(f"{folder}/samples")
        assert [n for n in samples if n.startswith("step")] == [
            *("step-0000000.png", "step-0000002.png"),  # One per evaluation.
            "step-0000004.png",
        ]
        (reference,) = [
            n for n in files.names(folder) if n.startswith("reference-")
        ]
        return [
            *("classifier.json", "classifier.keras", "curves.png"),
            *("evaluation.json", reference, "samples", "train", "validation"),
        ]


HEADS = {
    "classification": _Classification,
    "detection": _Detection,
    "gan": _Gan,
}


@pytest.mark.parametrize(
    "head, scheme",
    [
        ("classification", "ram"),
        *(
            pytest.param(head, scheme, marks=pytest.mark.slow)
            for head, scheme in (
                ("classification", ""),
                ("classification", "file"),
                ("detection", "file"),
                ("detection", "ram"),
                ("gan", "file"),
                ("gan", "ram"),
            )
        ),
    ],
)
def test_a_run_killed_resumed_evaluated_and_used(
    head, scheme, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = f"{tmp_path}/there"
    root = {"": root, "file": f"file://{root}", "ram": f"ram:/{root}"}[scheme]
    one, folder = HEADS[head](), f"{root}/{ODD}"
    for step in (2, 4):
        for end in ("index", "data-00000-of-00001"):
            files.write(f"{root}/{NEIGHBOUR}/ckpt-{step}.{end}", "another's")
    run = runs.Run(folder)
    with evonorm_tf.using(xla=False):
        with pytest.raises(_Killed):
            one.run(folder, 4, display=_killing(one.silent()))
        assert run.step() == 2 and run.evaluated(2)
        assert run.metrics()[-1]["step"] == 4, "beyond the checkpoint"
        display = one.silent()
        one.run(folder, 4, display=display)
    assert f"Resuming from step 2 of 4 in {run.folder}" in display.lines[0]
    trained = [line["step"] for line in run.metrics("train")]
    assert trained[-1] == 4 and len(set(trained)) == len(trained)
    assert run.step() == 4 and run.evaluated(4)
    before = run.metrics()
    with evonorm_tf.using(xla=False):
        one.run(folder, 4, "eval")
        others = one.use(folder)
    assert run.metrics() == before
    # The older checkpoint is gone, nothing is half-written.
    assert files.names(folder) == sorted(
        [
            *("checkpoint", "ckpt-4.data-00000-of-00001", "ckpt-4.index"),
            *("metrics.jsonl", "params.yaml", "run.json", *others),
        ]
    )
    assert os.listdir() == []
    assert files.names(root) == sorted([ODD, NEIGHBOUR])
    for name in files.names(f"{root}/{NEIGHBOUR}"):
        assert files.read_text(f"{root}/{NEIGHBOUR}/{name}") == "another's"
    if scheme == "ram":
        assert sorted(os.listdir(tmp_path)) == ["here"]
