"""Trains a BigGAN.

    python -m gan.train --debug
    python -m gan.train --experiment=biggan \
        --config_file=configs/gan/cifar10.yaml --norm_act=evonorm_s0 \
        --params_override=task.train_data.tfds_data_dir=DIR \
        --model_dir=runs/gan-cifar10-s0

The first makes digits, in a few minutes on two CPU cores. A run that was
stopped goes on where it was, by the same command.
"""

from absl import app, flags

from evonorm_tf.training import config
from evonorm_tf.training import flags as training_flags
from gan import (
    experiment,  # noqa: F401  Registers the experiments.
    run,
)

FLAGS = flags.FLAGS


def shrink(params: config.Experiment) -> None:
    """Makes any experiment small: --debug.

    Narrow networks and two steps, on the code path of the whole run. The
    digits get enough steps to see their strokes.
    """
    task, trainer = params.task, params.trainer
    task.model.generator_width = min(task.model.generator_width, 8)
    task.model.discriminator_width = min(task.model.discriminator_width, 8)
    task.train_data.global_batch_size = min(
        task.train_data.global_batch_size, 32
    )
    task.average_start, task.average_decay = 50, 0.97
    task.evaluation.samples = min(task.evaluation.samples, 1000)
    task.evaluation.standing_batches = 4
    trainer.train_steps = 300 if task.train_data.dataset == "digits" else 2
    trainer.steps_per_loop = min(trainer.train_steps, 25)
    trainer.validation_interval = trainer.train_steps


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse()
    if FLAGS.debug:
        shrink(params)
    run.run(params, FLAGS.mode, FLAGS.model_dir)


if __name__ == "__main__":
    training_flags.define_flags("digits_biggan", "runs/gan-digits")
    app.run(main)
