"""Where EvoNorm-B0 and BatchNorm-ReLU part in a short training on CIFAR-10.

    python -m benchmarks.convergence --tfds_data_dir=DIR \
        --json=docs/runs/convergence.json

ResNet-20, one epoch of the recipe `cifar10/resnet20-e12-b128`, its cosine
included, one factor changed at a time: the learning rate, the width, EvoNorm-
B0's v (fixed, or started elsewhere) and the groups of EvoNorm-S0. Test accuracy
is measured in the middle of training and at its end, three times each: with
the moving statistics, with those of the test batch (500 images), and with
moving statistics recalibrated on 20 training batches. Layers without batch
statistics have the first alone.

Beside that, per EvoNorm-B0 site after training: v, and the share of elements
at which the per-sample bound v*x + sqrt(var_hw(x)) exceeds the batch's
standard deviation. Elsewhere the layer is linear in x.

Trials that FILE has are not repeated; it is written after every trial.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from classification import task as task_lib
from classification.tables import TABLES
from evonorm_tf import conversion, legacy
from training import config

RECIPE = "cifar10/resnet20-e12-b128"
_TEST_BATCH = 500
_RECALIBRATION_STEPS = 20
_LOSS_STEPS = 50  # The last ones, over which the training loss is averaged.


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
      layer: a catalog name.
      rate: factor of the recipe's learning rate.
      width: multiplier of the channels.
      groups: of the layers that have any; the recipe's is 8.
      v: initial value of EvoNorm-B0's v.
      fixed_v: whether v keeps it.
      seed: of weights, order and augmentation.
    """

    layer: str
    rate: float = 1.0
    width: float = 1.0
    groups: int = 8
    v: float = 1.0
    fixed_v: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """The layer, and what is not the recipe's."""
        own = dataclasses.asdict(self)
        usual = dataclasses.asdict(Trial(self.layer))
        changes = [f"{k}={own[k]:g}" for k in own if own[k] != usual[k]]
        return " ".join([self.layer, *changes])


_PAIR = ("bn_relu", "evonorm_b0")
TRIALS = (
    *(Trial(x, rate=r) for r in (1.0, 0.5, 2.0) for x in _PAIR),
    Trial("evonorm_b0", fixed_v=True),
    Trial("evonorm_b0", v=0.0),
    Trial("bn_relu", width=0.5),
    Trial("evonorm_b0", width=0.5),
    Trial("evonorm_s0"),
    Trial("evonorm_s0", groups=2),
    Trial("bn_relu", seed=1),
    Trial("evonorm_b0", seed=1),
    Trial("bn_relu", width=2.0),
    Trial("evonorm_b0", width=2.0),
)


def prepare(
    trial: Trial, tfds_data_dir: str, steps: int | None = None
) -> tuple[config.Experiment, task_lib.Task]:
    """The experiment and its task, data opened.

    Args:
      trial: what to train.
      tfds_data_dir: where CIFAR-10 lies; "" trains on scikit-learn's digits,
        for a test of the code.
      steps: length of the run; None for one epoch.
    """
    data = {"seed": trial.seed, "tfds_data_dir": tfds_data_dir}
    changes = {
        "task": {
            "seed": trial.seed,
            "model": {
                "width": trial.width,
                "norm_act": {"groups": trial.groups},
            },
            "schedule": {"epochs": 1, "base_learning_rate": 0.1 * trial.rate},
            "train_data": data,
            "validation_data": {"global_batch_size": _TEST_BATCH},
        },
        "trainer": {"train_steps": steps or 0},
    }
    if not tfds_data_dir:
        digits = {"dataset": "digits", "mean": [0.5], "std": [0.25]}
        changes["task"]["train_data"] |= digits
        changes["task"]["validation_data"] |= digits
        changes["task"]["model"]["max_depth"] = 1
    row = TABLES.find(f"{RECIPE}/{trial.layer}")
    params = config.parse(row=row, params_override=changes)
    return params, task_lib.prepare(params)


def norm_acts(model: tf_keras.Model) -> list[Any]:
    """The model's normalization-activation layers, in order."""
    return [x for x in model.layers if isinstance(x, legacy.NormAct)]


def training_step(
    task: task_lib.Task, model: tf_keras.Model, optimizer: Any, fixed: list
) -> Callable:
    """The task's training step, which leaves some weights as they are."""
    held = {id(weight) for weight in fixed}
    weights = [w for w in model.trainable_weights if id(w) not in held]

    @tf.function(autograph=False)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = task.build_losses(labels, logits)
            total = tf.add_n([loss, *model.losses])
        gradients = tape.gradient(total, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    return step


class Evaluation:
    """Test accuracies of one model; its weights stay as they are."""

    def __init__(
        self, task: task_lib.Task, params: config.Experiment, model: Any
    ):
        self.model = model
        self.test = task.build_inputs(params.task.validation_data)
        self.train = task.build_inputs(params.task.train_data)
        self.batch_statistics = bool(
            [x for x in norm_acts(model) if hasattr(x, "moving_variance")]
        )

        def correct(images, labels, training):
            logits = model(images, training=training)
            right = tf.argmax(logits, 1, tf.int32) == tf.cast(
                labels["label"], tf.int32
            )
            weight = labels["weight"]
            right = tf.cast(right, weight.dtype) * weight
            return tf.reduce_sum(right), tf.reduce_sum(weight)

        self._correct = tf.function(correct, autograph=False)

    def __call__(self) -> dict[str, float]:
        """Accuracies by the statistics they were measured with."""
        found = {"moving": self._accuracy(False)}
        if not self.batch_statistics:
            return found
        # A pass in training mode moves the moving statistics.
        weights = self.model.non_trainable_weights
        before = [tf.convert_to_tensor(w) for w in weights]
        found["batch"] = self._accuracy(True)
        conversion.recalibrate(self.model, self.train, _RECALIBRATION_STEPS)
        found["recalibrated"] = self._accuracy(False)
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
        return found

    def _accuracy(self, training: bool) -> float:
        counts = [self._correct(*batch, training) for batch in self.test]
        right, total = (float(tf.add_n(c)) for c in zip(*counts, strict=True))
        return right / total


def sites(model: tf_keras.Model, images: tf.Tensor) -> list[dict[str, float]]:
    """What each EvoNorm-B0 site does to one batch, in training mode.

    Returns:
      Per site: mean and standard deviation of v over the channels, and the
      share of elements at which the per-sample bound decides.
    """
    layers = [x for x in norm_acts(model) if hasattr(x, "v")]
    probe = tf_keras.Model(model.input, [x.input for x in layers])
    found = []
    for layer, x in zip(layers, probe(images, training=True), strict=True):
        v = tf.convert_to_tensor(layer.v)
        batch = tf.math.reduce_variance(x, (0, 1, 2), keepdims=True)
        own = tf.math.reduce_variance(x, (1, 2), keepdims=True)
        bound = v * x + tf.sqrt(own + layer.epsilon)
        decides = bound > tf.sqrt(batch + layer.epsilon)
        found.append(
            {
                "v_mean": float(tf.reduce_mean(v)),
                "v_std": float(tf.math.reduce_std(v)),
                "bounded": float(tf.reduce_mean(tf.cast(decides, tf.float32))),
            }
        )
    return found


def run(
    trial: Trial, tfds_data_dir: str, steps: int | None = None
) -> dict[str, Any]:
    """Trains and measures one trial; arguments as in `prepare`."""
    began = time.process_time()
    tf_keras.backend.clear_session()
    params, task = prepare(trial, tfds_data_dir, steps)
    tf_keras.utils.set_random_seed(trial.seed)
    model = task.build_model()
    fixed = []
    for layer in norm_acts(model):
        if trial.layer == "evonorm_b0":
            layer.v.assign(tf.fill(layer.v.shape, trial.v))
            fixed += [layer.v] if trial.fixed_v else []
    optimizer = task.create_optimizer(params.trainer.optimizer_config)
    step = training_step(task, model, optimizer, fixed)
    evaluate = Evaluation(task, params, model)
    length = params.trainer.train_steps
    losses, accuracy = [], {}
    data = task.build_inputs(params.task.train_data).take(length)
    for index, batch in enumerate(data, start=1):
        losses.append(float(step(*batch)))
        if index == length // 2:
            accuracy["middle"] = evaluate()
    accuracy["end"] = evaluate()
    last = losses[-_LOSS_STEPS:]
    result = dataclasses.asdict(trial) | {
        "name": trial.name,
        "steps": length,
        "training_loss": sum(last) / len(last),
        "accuracy": accuracy,
        "cpu_seconds": round(time.process_time() - began),
    }
    if trial.layer == "evonorm_b0":
        result["sites"] = sites(model, batch[0])
    return result


def line(result: dict[str, Any]) -> str:
    """A result as one line of the printed table."""
    cells = [f"{result['name']:26s}", f"{result['training_loss']:7.3f}"]
    for moment in ("middle", "end"):
        found = result["accuracy"][moment]
        for kind in ("moving", "batch", "recalibrated"):
            value = found.get(kind)
            cells.append("     -" if value is None else f"{100 * value:6.1f}")
    return " ".join(cells)


_HEADER = (
    f"{'':26s}    loss  middle of training    end of training\n"
    f"{'':34s} moving batch recal. moving batch recal."
)


def main() -> None:
    """Runs the trials that are missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tfds_data_dir", required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="of the trials"
    )
    args = parser.parse_args()
    unknown = set(args.only) - {trial.name for trial in TRIALS}
    if unknown:
        parser.error(
            f"There is no such trial: {sorted(unknown)}. The trials: "
            f"{[trial.name for trial in TRIALS]}"
        )
    results = []
    if args.json.exists():
        results = json.loads(args.json.read_text())["results"]
    known = {result["name"]: result for result in results}
    print(_HEADER, flush=True)
    for trial in TRIALS:
        if args.only and trial.name not in args.only:
            continue
        if trial.name not in known:
            results.append(run(trial, args.tfds_data_dir))
            known[trial.name] = results[-1]
            document = {
                "recipe": RECIPE,
                "results": results,
                "tensorflow": tf.__version__,
            }
            args.json.parent.mkdir(parents=True, exist_ok=True)
            part = args.json.with_suffix(".part")
            part.write_text(json.dumps(document, indent=1) + "\n")
            os.replace(part, args.json)
        print(line(known[trial.name]), flush=True)


if __name__ == "__main__":
    main()
