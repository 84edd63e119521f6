"""Trains Mask R-CNN, evaluates it and draws what it finds.

    python -m detection.train --debug
    python -m detection.train --row=coco/r50_fpn/evonorm_s0 \
        --params_override='task.train_data.input_path=DIR/train/*.tfrecord,...'
    python -m detection.train --row=coco/r50_fpn/evonorm_s0 \
        --preflight=v5e:2x2

The first trains on scenes of scikit-learn's digits, in minutes. A row of the
tables (`python -m configs.tables coco` lists them) stands for its experiment,
recipe and layer. A run that was stopped goes on where it was, by the same
command. Beside the checkpoints, `model_dir` gets `results.json` (COCO results
of the last evaluation; `results_masks.json` for those of masks alone),
`predictions.png` and pictures for TensorBoard.
"""

from absl import app, flags

from configs import tables
from detection import (
    check_config,
    draw,
    evaluate,
    experiment,
    scenes,
    steps,
    task,
)
from evonorm_tf import files
from evonorm_tf.preflight import tpu
from training import (
    config,
    driver,
    preflights,
    progress,
    runs,
    strategy,
    workers,
)
from training import flags as training_flags

FLAGS = flags.FLAGS
PICTURE = "predictions.png"
PICTURES = "pictures"  # For TensorBoard.
_DRAWN = 6
_DEBUG_SCENES = scenes.Scenes(train=16, validation=8)
_DEBUG_STEPS = 4
_SCENES_STEPS = 200  # On scenes of digits, enough to find something.


def shrink(params: config.Experiment, replicas: int = 1) -> str:
    """Makes any experiment small, without its data: --debug.

    One block a stage at a quarter of the width, 128 pixels, few boxes. An
    experiment without data of its own gets a few scenes of digits and four
    steps; the one on scenes keeps them and takes 200. The code path stays
    that of the whole run.

    Args:
      params: the experiment, changed in place.
      replicas: how many share a step.

    Returns:
      What this did, in one line for the screen.
    """
    one, trainer = params.task, params.trainer
    most = _SCENES_STEPS
    if not one.scenes.train:
        most = _DEBUG_STEPS
        one.model.width *= 0.25
        one.model.max_depth = 1
        if not one.train_data.input_path:
            one.scenes = _DEBUG_SCENES.replace()
        one.train_data.num_examples = -1
    experiment.small_parts(one.model)
    batch = 8 if most == _SCENES_STEPS else 2
    for data in (one.train_data, one.validation_data):
        data.global_batch_size = min(batch * replicas, data.global_batch_size)
        data.shuffle_buffer_size = min(64, data.shuffle_buffer_size)
        data.parser.mask_crop_size = min(56, data.parser.mask_crop_size)
    one.train_data.global_batch_size *= params.runtime.accumulation_steps
    trainer.train_steps = min(most, trainer.train_steps)
    trainer.steps_per_loop = min(max(most // 8, 1), trainer.steps_per_loop)
    trainer.summary_interval = trainer.steps_per_loop
    trainer.checkpoint_interval = min(50, trainer.train_steps)
    trainer.validation_interval = trainer.train_steps
    where = one.train_data.input_path or "scenes of scikit-learn's digits"
    return (
        f"DEBUG: {trainer.train_steps} steps of a shrunken network on {where}; "
        "its figures mean nothing."
    )


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
    folder = runs.Run(files.make_folder(model_dir))
    prepared = task.prepare(params, folder.folder)
    result = driver.run(params, prepared, mode, folder.folder, display)
    # What is annotated and found is the same on all of several workers.
    chief = workers.is_chief(strategy.build(params.runtime))
    if "eval" in mode and params.task.use_coco_metrics and chief:
        _draw(params.task, prepared.coco_metric, folder, result.step)
    return result


def _draw(one: task.Task, metric, run: runs.Run, step: int) -> None:
    """The last evaluation, printed and as pictures."""
    picture = run.path(PICTURE)
    images = draw.read_images(one.validation_data.input_path, _DRAWN)
    draw.overview(images, metric.results, metric.truth, picture)
    place = run.path(PICTURES)
    draw.summaries(place, step, images, metric.results, metric.truth)
    print(evaluate.table(metric.figures))
    print(f"Picture: {picture}")


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse(tables.find)
    # Logical CPUs come before TensorFlow's first operation.
    replicas = strategy.build(params.runtime).num_replicas_in_sync
    if FLAGS.preflight:
        replicas = tpu.chips(FLAGS.preflight)
    if FLAGS.debug:
        print(shrink(params, replicas))
    if FLAGS.preflight:
        check_config.tpu_safe(params.task.model)
        preflights.report(
            params,
            steps.preflight_module,
            FLAGS.preflight,
            FLAGS.preflight_json,
        )
        return
    model_dir = FLAGS.model_dir
    if FLAGS.row and not FLAGS["model_dir"].present:
        model_dir = files.join("runs", FLAGS.row)
    run(params, FLAGS.mode, model_dir)


if __name__ == "__main__":
    training_flags.define_flags(
        "scenes_maskrcnn", "runs/scenes", rows=True, steps=True
    )
    app.run(main)
