"""Trains a classifier.

    python -m classification.train --experiment=cifar10_resnet \
        --norm_act=evonorm_s0 --model_dir=runs/cifar10-s0 \
        --params_override=task.train_data.tfds_data_dir=DIR
    python -m classification.train --row=imagenet/r50-aug/evonorm_b0 \
        --model_dir=runs/imagenet/r50-aug/evonorm_b0 --debug

    python -m classification.train --row=imagenet/r50/evonorm_s0 \
        --preflight=v5e:2x2

A row of the paper's tables (`python -m configs.tables` lists them) stands
for its experiment, recipe and layer. A run that was stopped goes on where it
was, by the same command. --preflight compiles the step for a TPU that is not
there.
"""

from absl import app, flags

from classification import steps, task
from configs import tables
from evonorm_tf.preflight import tpu
from training import config, driver, preflights, strategy
from training import flags as training_flags

FLAGS = flags.FLAGS
_DEBUG_BATCH = 4  # images a replica and micro-batch
_DEBUG_SIZE = 64  # pixels; five halvings leave 2x2


def shrink(params: config.Experiment, replicas: int = 1) -> str:
    """Makes any experiment take seconds, without its data: --debug.

    One block a stage at a quarter of the width, two steps of four images a
    replica and micro-batch, one batch of evaluation. The code path stays that
    of the whole run, but the images are scikit-learn's digits: as JPEG files
    where the experiment reads files, in memory where its images are small and
    of one size.

    Args:
      params: the experiment, changed in place.
      replicas: how many share a step.

    Returns:
      What this did to the data, in one line for the screen.
    """
    params.task.model.max_depth = 1
    params.task.model.width *= 0.25
    task.fill_in(params.task)
    train, test = params.task.train_data, params.task.validation_data
    asked = train.dataset
    for data, split in ((train, "train"), (test, "test")):
        data.split, data.path = split, ""
        data.global_batch_size = _DEBUG_BATCH * replicas
        data.shuffle_buffer_size = 16
        if data.image_size:
            data.dataset = "jpeg_digits"
            data.image_size = min(data.image_size, _DEBUG_SIZE)
        else:
            data.dataset, data.mean, data.std = "digits", [0.5], [0.25]
    train.global_batch_size *= params.runtime.accumulation_steps
    params.trainer.train_steps = 2
    params.trainer.steps_per_loop = 1
    params.trainer.validation_steps = 1
    return (
        f"DEBUG: two steps of a shrunken network on {train.dataset} "
        f"(scikit-learn's), not {asked}; its accuracy means nothing."
    )


def main(_: list[str]) -> None:
    """Runs what the flags ask for."""
    params = training_flags.parse(tables.find)
    # Workers and logical CPUs come before TensorFlow's first operation.
    replicas = strategy.build(params.runtime).num_replicas_in_sync
    if FLAGS.preflight:
        replicas = tpu.chips(FLAGS.preflight)
    if FLAGS.debug:
        print(shrink(params, replicas))
    if FLAGS.preflight:
        preflights.report(
            params,
            steps.preflight_module,
            FLAGS.preflight,
            FLAGS.preflight_json,
        )
        return
    prepared = task.prepare(params)
    driver.run(params, prepared, FLAGS.mode, FLAGS.model_dir)


if __name__ == "__main__":
    training_flags.define_flags(rows=True, steps=True)
    app.run(main)
