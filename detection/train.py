"""Trains Mask R-CNN, evaluates it and draws what it finds.

    python -m detection.train --experiment=scenes_maskrcnn --debug \
        --norm_act=evonorm_s0 --model_dir=runs/scenes-s0

A run that was stopped goes on from its last checkpoint, by the same command.
Beside the checkpoints, `model_dir` gets `results.json` (COCO results of the
last evaluation) and `predictions.png`.
"""

import os

from absl import app, flags

from detection import draw, evaluate, experiment, task
from evonorm_tf.training import config, driver, progress
from evonorm_tf.training import flags as training_flags

FLAGS = flags.FLAGS
PICTURE = "predictions.png"
_DRAWN = 6


def shrink(params: config.Experiment) -> None:
    """Makes any experiment small: --debug.

    A small network, few boxes and at most 200 steps: on the digit scenes
    enough to find something. The code path stays that of the whole run.
    """
    model = params.task.model
    classes = model.num_classes
    experiment.small_model(model)
    model.num_classes = classes
    for data in (params.task.train_data, params.task.validation_data):
        data.global_batch_size = min(8, data.global_batch_size)
        data.shuffle_buffer_size = min(64, data.shuffle_buffer_size)
    trainer = params.trainer
    trainer.train_steps = min(200, trainer.train_steps)
    trainer.steps_per_loop = min(25, trainer.steps_per_loop)
    trainer.summary_interval = trainer.steps_per_loop
    trainer.checkpoint_interval = min(50, trainer.train_steps)
    trainer.validation_interval = trainer.train_steps


def run(
    params: config.Experiment,
    mode: str,
    model_dir: str,
    display: progress.Display | None = None,
) -> driver.Result:
    """Prepares, runs, and draws after an evaluation.

    Args:
      params: the experiment's config, changed in place.
      mode: one of `flags.MODES`.
      model_dir: the run's directory.
      display: as in `driver.run`.
    """
    os.makedirs(model_dir, exist_ok=True)
    prepared = task.prepare(params, model_dir)
    result = driver.run(params, prepared, mode, model_dir, display)
    if "eval" in mode and params.task.use_coco_metrics:
        picture = os.path.join(model_dir, PICTURE)
        data = params.task.validation_data
        draw.overview(
            draw.read_images(data.input_path, _DRAWN),
            prepared.coco_metric.results,
            evaluate.load_annotations(params.task.annotation_file),
            picture,
        )
        print(evaluate.table(prepared.coco_metric.figures))
        print(f"Picture: {picture}")
    return result


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse()
    if FLAGS.debug:
        shrink(params)
    run(params, FLAGS.mode, FLAGS.model_dir)


if __name__ == "__main__":
    training_flags.define_flags()
    app.run(main)
