"""Trains a classifier.

    python -m classification.train --experiment=cifar10_resnet \
        --norm_act=evonorm_s0 --model_dir=runs/cifar10-s0 \
        --params_override=task.train_data.tfds_data_dir=DIR

A run that was stopped goes on where it was, by the same command.
"""

from absl import app, flags

from classification import task
from evonorm_tf.training import config, driver
from evonorm_tf.training import flags as training_flags

FLAGS = flags.FLAGS


def shrink(params: config.Experiment) -> None:
    """Makes any experiment take seconds: --debug.

    One block a stage at a quarter of the width, two steps of four images,
    one batch of evaluation. The code path stays that of the whole run.
    """
    params.task.model.max_depth = 1
    params.task.model.width *= 0.25
    for data in (params.task.train_data, params.task.validation_data):
        data.global_batch_size = 4
        data.shuffle_buffer_size = 16
        data.image_size = min(data.image_size, 64)
    params.trainer.train_steps = 2
    params.trainer.validation_steps = 1


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse()
    if FLAGS.debug:
        shrink(params)
    prepared = task.prepare(params)
    driver.run(params, prepared, FLAGS.mode, FLAGS.model_dir)


if __name__ == "__main__":
    training_flags.define_flags()
    app.run(main)
