"""A classifier's steps as functions of tensors, for `evonorm_tf.preflight`.

`preflight_module` is the step as it trains, without its data: what compiles,
fits and costs does not depend on them. `bundle_run` is a whole small run,
augmentation included, for a machine with JAX and no TensorFlow.
"""

import json
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.modeling import optimization, performance

from classification import augment, settings, task
from classification.sources import Memory, pad_crop_flip
from evonorm_tf import nets, preflight
from evonorm_tf.preflight import tpu
from evonorm_tf.training import config, progress, schedule

_EXAMPLES = 1_281_167  # The schedule's constants are no part of the cost.
_EVAL_BATCH = 500


class _Task(task.Task):
    """The task, where the network can do without its norm_act layers."""

    def __init__(self, params: settings.Task, bare: bool = False):
        super().__init__(params)
        self._bare = bare

    def norm_act(self) -> Any:
        """As the task's, or a layer that does nothing."""
        if self._bare:
            return lambda **_: tf_keras.layers.Activation("linear")
        return super().norm_act()


def preflight_module(
    params: config.Experiment, layer: str | None, batch: int
) -> preflight.Module:
    """The training step of one chip.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for the network without its norm_act layers.
      batch: examples a step on the chip.
    """
    params = params.replace()  # A copy.
    one = params.task
    one.model.norm_act.name = layer or one.model.norm_act.name
    task.fill_in(one)
    # The data give the step its images' size and nothing else.
    side = one.train_data.image_size or nets.get(one.model.network).image_size
    for data, split in (
        (one.train_data, "train"),
        (one.validation_data, "test"),
    ):
        data.dataset, data.split, data.path = "jpeg_digits", split, ""
        data.image_size = side
    made = _Task(one, bare=layer is None)
    step, _, _ = _train_step(params, made, _EXAMPLES)
    images = tf.TensorSpec([batch, side, side, 3], tf.float32)
    labels = tf.TensorSpec([batch], tf.int32)
    data = one.train_data
    if not (data.mixup_alpha or data.cutmix_alpha):
        module, _ = preflight.lower(step, images, labels)
        return module
    target = tf.TensorSpec([batch, one.model.num_classes], tf.float32)
    module, _ = preflight.lower(step, images, labels, target)
    return module


def _train_step(
    params: config.Experiment, made: task.Task, examples: int
) -> tuple[Any, tf_keras.Model, Any]:
    """(step, model, optimizer); the step takes images, labels, targets."""
    schedule.resolve(
        params.trainer,
        params.task.schedule,
        examples,
        params.task.train_data.global_batch_size,
    )
    precision = params.runtime.mixed_precision_dtype or "float32"
    before = tf_keras.mixed_precision.global_policy()
    performance.set_mixed_precision_policy(precision)
    try:
        tf_keras.utils.set_random_seed(made.seed)
        model = made.build_model()
        optimizer = made.create_optimizer(
            params.trainer.optimizer_config, params.runtime
        )
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    if isinstance(optimizer, optimization.ExponentialMovingAverage):
        optimizer.shadow_copy(model)  # As the trainer does.
    create = getattr(optimizer, "_create_all_weights", None)
    (create or optimizer.build)(model.trainable_variables)

    def step(images, labels, *targets):
        weight = tf.ones(tf.shape(labels)[:1])
        given = {"label": labels, "weight": weight}
        given |= dict(zip(["target"], targets))
        return made.train_step((images, given), model, optimizer)[made.loss]

    return step, model, optimizer


def bundle_run(
    params: config.Experiment, name: str
) -> tuple[preflight.Run, dict[str, np.ndarray]]:
    """A whole run on images held in memory, and its data.

    The order of the examples is the runner's own, so the run equals one of
    `classification.train` in its recipe and not in its draws.

    Args:
      params: the resolved experiment.
      name: of the run.

    Raises:
      ValueError: a set that is not held in memory, or a recipe whose
        augmentation needs more than a crop and a flip.
    """
    made = task.Task(params.task)
    train, test = made.source(training=True), made.source(training=False)
    data = params.task.train_data
    strong = data.randaugment_layers or data.mixup_alpha or data.cutmix_alpha
    if not isinstance(train, Memory) or strong:
        raise ValueError(
            "A bundle holds its images in memory and augments them by crop "
            "and flip. Use a set of small images of one size (cifar10, "
            "digits) and no RandAugment, MixUp or CutMix. Received: "
            f"dataset={data.dataset!r}, image_size={data.image_size}"
        )
    step, model, _ = _train_step(params, made, train.examples)
    batch, shape = data.global_batch_size, train.shape

    def train_step(number, images, labels):
        seed = tf.stack([tf.constant(data.seed, tf.int64), number])
        images = pad_crop_flip(images, data.augmentation, seed)
        return step(augment.normalize(images, data.mean, data.std), labels)

    def evaluate(images, labels, counts):
        images = augment.normalize(images, data.mean, data.std)
        logits = model(images, training=False)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_sum(counts * right), tf.reduce_sum(counts * each)

    feed = preflight.Feed
    count = min(_EVAL_BATCH, test.examples)
    one = preflight.Step(
        train_step,
        (
            feed("step", (), "int64"),
            feed("data", (batch, *shape), "uint8", "train_images"),
            feed("data", (batch,), "int32", "train_labels"),
        ),
        batch,
        train.examples,
    )
    other = preflight.Step(
        evaluate,
        (
            feed("data", (count, *shape), "uint8", "test_images"),
            feed("data", (count,), "int32", "test_labels"),
            feed("count", (count,), "float32"),
        ),
        count,
        test.examples,
        ("accuracy", "cross_entropy"),
    )
    layer = params.task.model.norm_act.name
    about = (
        f"{params.task.model.network} x {params.task.model.width:g}, {layer}, "
        f"{data.dataset}, batch {batch}, seed {params.task.seed}"
    )
    run = preflight.Run(
        name, one, params.trainer.train_steps, data.seed, about, other
    )
    arrays = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    return run, arrays


def report(
    params: config.Experiment, topology: str, json_file: str | None = None
) -> None:
    """Prints what the TPU's compiler says of the training step.

    Args:
      params: the resolved experiment; its batch is shared by the chips.
      topology: such as "v5e:2x2".
      json_file: where the report goes as well.

    Raises:
      ValueError: an unknown topology, a batch that the chips cannot share.
    """
    chips, batch = tpu.chips(topology), params.task.train_data.global_batch_size
    if batch % chips:
        raise ValueError(
            f"The batch must divide among the {chips} chips of {topology}. "
            f"Received: global_batch_size={batch}"
        )

    def build(layer: str | None, count: int) -> preflight.Module:
        return preflight_module(params, layer, count)

    layer = params.task.model.norm_act.name
    request = preflight.Request(build, layer, batch // chips, topology)
    found = preflight.run(request, lambda text: print(text, flush=True))
    print(preflight.as_text(found))
    if json_file:
        text = json.dumps(found, indent=1) + "\n"
        progress.write_atomically(json_file, text)


def write(params: config.Experiment, folder: str) -> None:
    """Adds the experiment to a bundle, named by layer, batch and seed."""
    batch = params.task.train_data.global_batch_size
    layer = params.task.model.norm_act.name
    name = f"{layer}-b{batch}-seed{params.task.seed}"
    run, arrays = bundle_run(params, name)
    home = preflight.write(folder, run, arrays)
    print(
        f"{home}: {run.steps} steps. Carry {folder} to a machine with jax and "
        "run `python run.py` in it."
    )
