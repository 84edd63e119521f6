"""A whole small run for a machine with JAX and no TensorFlow: --bundle.

The training step with its augmentation, and the evaluation, as functions of
what `evonorm_tf.preflight` feeds them.
"""

import pathlib

import numpy as np
import tensorflow as tf
import tf_keras

from classification import augment, settings, steps, task
from classification.sources import Memory, pad_crop_flip
from evonorm_tf import preflight
from evonorm_tf.preflight import Feed
from training import config

_EVAL_BATCH = 500


def run_of(
    params: config.Experiment,
) -> tuple[preflight.Run, dict[str, np.ndarray]]:
    """The run, and its data.

    The order of the examples is the runner's own, so the run equals one of
    `classification.train` in its recipe and not in its draws.

    Args:
      params: the resolved experiment.

    Raises:
      ValueError: a set that is not held in memory, augmentation that needs
        more than a crop and a flip, a weight average.
    """
    made = task.Task(params.task)
    train, test = made.source(training=True), made.source(training=False)
    data = params.task.train_data
    _check(params, isinstance(train, Memory))
    step, model = steps.train_step(params, made, train.examples)
    arrays = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    layer = pathlib.Path(params.task.model.norm_act.name).stem
    batch, seed = data.global_batch_size, params.task.seed
    run = preflight.Run(
        f"{params.task.model.network}-{layer}-b{batch}-seed{seed}",
        _training(step, data, train),
        params.trainer.train_steps,
        data.seed,
        f"{params.task.model.network} x {params.task.model.width:g}, {layer}, "
        f"{data.dataset}, batch {batch}, seed {seed}",
        _evaluation(model, data, test),
    )
    return run, arrays


def _check(params: config.Experiment, in_memory: bool) -> None:
    data = params.task.train_data
    strong = data.randaugment_layers or data.mixup_alpha or data.cutmix_alpha
    if not in_memory or strong:
        raise ValueError(
            "A bundle holds its images in memory and augments them by crop "
            "and flip. Use a set of small images of one size (cifar10, "
            "digits) and no RandAugment, MixUp or CutMix. Received: "
            f"dataset={data.dataset!r}, image_size={data.image_size}"
        )
    if params.trainer.optimizer_config.ema is not None:
        raise ValueError(
            "A bundle evaluates the weights as they are, and a weight average "
            "is evaluated instead of them. Set "
            "trainer.optimizer_config.ema=null."
        )


def _training(step, data: settings.Data, source: Memory) -> preflight.Step:
    batch, shape = data.global_batch_size, source.shape

    def train(number, images, labels):
        seed = tf.stack([tf.constant(data.seed, tf.int64), number])
        images = pad_crop_flip(images, data.augmentation, seed)
        return step(augment.normalize(images, data.mean, data.std), labels)

    feeds = (
        Feed("step", (), "int64"),
        Feed("data", (batch, *shape), "uint8", "train_images"),
        Feed("data", (batch,), "int32", "train_labels"),
    )
    return preflight.Step(train, feeds, batch, source.examples)


def _evaluation(
    model: tf_keras.Model, data: settings.Data, source: Memory
) -> preflight.Step:
    count, shape = min(_EVAL_BATCH, source.examples), source.shape

    def evaluate(images, labels, counts):
        images = augment.normalize(images, data.mean, data.std)
        logits = model(images, training=False)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_sum(counts * right), tf.reduce_sum(counts * each)

    feeds = (
        Feed("data", (count, *shape), "uint8", "test_images"),
        Feed("data", (count,), "int32", "test_labels"),
        Feed("count", (count,), "float32"),
    )
    names = ("accuracy", "cross_entropy")
    return preflight.Step(evaluate, feeds, count, source.examples, names)


def write(params: config.Experiment, folder: str) -> None:
    """Adds the experiment to a bundle, and says what to do with it."""
    run, arrays = run_of(params)
    home = preflight.write(folder, run, arrays)
    print(
        f"{home}: {run.steps} steps. Carry {folder} to a machine with jax and "
        "run `python run.py` in it."
    )
