"""Trains a BigGAN.

    python -m gan.train --debug
    python -m gan.train --row=imagenet128/biggan_deep/evonorm_b0 --debug
    python -m gan.train --row=cifar10/biggan_small/evonorm_s0 \
        --params_override=task.train_data.tfds_data_dir=DIR

The first makes digits, in a few minutes on two CPU cores. A row of a table of
results (`python -m configs.tables` lists them) stands for its experiment,
recipe and layer, and goes to runs/ROW where no --model_dir is given. A run
that was stopped goes on where it was, by the same command.
--preflight=v5e:2x2 compiles the steps for a TPU that is not there.
"""

from absl import app, flags

from configs import tables
from evonorm_tf import files
from gan import (
    experiment,  # noqa: F401  Registers the experiments.
    run,
    steps,
)
from training import config
from training import flags as training_flags

FLAGS = flags.FLAGS
_DIGITS = "digits"
_DEBUG_BATCH = 32  # images; of more than 64 px
_DEBUG_BATCH_LARGE = 4
_DEBUG_WIDTH = 8


def shrink(params: config.Experiment) -> str:
    """Makes any experiment small, without its data: --debug.

    Narrow networks and two steps, on the code path of the whole run, but the
    images are scikit-learn's digits: in memory at 32 px, as files that are
    decoded while training where the run reads such. The embedded digits
    themselves get enough steps to see their strokes.

    Args:
      params: the experiment, changed in place.

    Returns:
      What this did to the data, in one line for the screen.
    """
    task, trainer = params.task, params.trainer
    model, data, measured = task.model, task.train_data, task.evaluation
    asked = data.dataset
    small = asked == _DIGITS or asked.startswith("cifar")
    batch = _DEBUG_BATCH if small else _DEBUG_BATCH_LARGE * task.accumulation
    model.generator_width = min(model.generator_width, _DEBUG_WIDTH)
    model.discriminator_width = min(model.discriminator_width, _DEBUG_WIDTH)
    model.norm_act.min_group_size = max(model.norm_act.min_group_size, 4)
    data.global_batch_size = min(data.global_batch_size, batch)
    task.average_start, task.average_decay = 50, 0.97
    measured.standing_batches = 4
    if asked == _DIGITS:
        measured.samples = min(measured.samples, 1000)
        trainer.train_steps = 300
    else:
        data.dataset = _DIGITS if small else "jpeg_digits"
        data.split, model.num_classes = "train", 10
        measured.extractor, measured.classifier_steps = "own", 20
        measured.path = measured.sha256 = measured.reference = ""
        measured.split, measured.samples = "", 80
        measured.batch_size, measured.grid_rows = 20, 2
        measured.kernel_block = min(measured.kernel_block, 20)
        trainer.train_steps = 2
    trainer.steps_per_loop = min(trainer.train_steps, 25)
    trainer.validation_interval = trainer.train_steps
    if asked == _DIGITS:
        return "DEBUG: 300 steps of narrow networks on digits."
    return (
        f"DEBUG: two steps of narrow networks on {data.dataset} "
        f"(scikit-learn's), not {asked}; their numbers mean nothing."
    )


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse(tables.find)
    if FLAGS.debug:
        print(shrink(params))
    if FLAGS.preflight:
        steps.report(params, FLAGS.preflight, FLAGS.preflight_json)
        return
    model_dir = FLAGS.model_dir
    if FLAGS.row and not FLAGS["model_dir"].present:
        model_dir = files.join("runs", FLAGS.row)
    run.run(params, FLAGS.mode, model_dir)


if __name__ == "__main__":
    training_flags.define_flags(
        "digits_biggan", "runs/gan-digits", rows=True, steps=True
    )
    app.run(main)
