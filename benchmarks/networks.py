"""Time of a training step of networks, as ratios to fused BatchNorm + ReLU.

    python -m benchmarks.networks [--json FILE] [--rows evonorm_b0 ...]

A step is the forward pass, the gradient of the cross-entropy and the update of
SGD with momentum. The networks of a layer and of tf_keras's BatchNormalization
and ReLU, with its fused kernel, are timed alternately, and the ratio is the
median over rounds of the ratio within a round, so that other load on the
machine affects both. The first row compares the baseline with a second copy of
itself; its difference from 1 is the error of a ratio.
"""

import argparse
import functools
import gc
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from benchmarks import record
from evonorm_tf import catalog, legacy, nets

NETWORKS = ("resnet50", "mobilenet_v2")
FUSED = "tf_keras BatchNormalization + ReLU"
ROWS = ("bn_relu", "evonorm_b0", "evonorm_s0")
CLASSES = 1000

NormAct = Callable[..., Any]


def fused(activation: bool = True) -> NormAct:
    """Applies tf_keras's own layers."""
    norm = tf_keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    if not activation:
        return norm
    relu = tf_keras.layers.ReLU()
    return lambda x: relu(norm(x))


def norm_act(row: str) -> NormAct:
    """Returns the function that creates one layer per call, for a row."""
    return fused if row == FUSED else functools.partial(legacy.norm_act, row)


class Training:
    """A network and its training step.

    Args:
      network: a name of `evonorm_tf.nets`.
      row: a catalog name, or FUSED.
      images: [N, H, W, C].
      labels: [N].
      scale: `width` and `max_depth`, see `nets.backbone`.
    """

    def __init__(
        self,
        network: str,
        row: str,
        images: tf.Tensor,
        labels: tf.Tensor,
        scale: dict[str, Any],
    ):
        layers = tf_keras.layers
        inputs = layers.Input(images.shape[1:], batch_size=images.shape[0])
        features = nets.backbone(
            network, inputs, layers, norm_act(row), **scale
        )
        model = tf_keras.Model(
            inputs, nets.classifier(features, layers, CLASSES)
        )
        # At rate 0 everything is computed, and no layer can diverge to values
        # that are faster or slower to compute.
        optimizer = tf_keras.optimizers.SGD(0.0, momentum=0.9, nesterov=True)
        optimizer.build(model.trainable_variables)
        self._data = images, labels
        self._step = _step(model, optimizer)

    def seconds(self, repeat: int) -> float:
        """Returns the time of one step, a mean over `repeat`."""
        start = time.perf_counter()
        for _ in range(repeat):
            loss = self._step(*self._data)
        loss.numpy()  # Waits for the computation.
        return (time.perf_counter() - start) / repeat


def _step(model: tf_keras.Model, optimizer: Any) -> Callable[..., tf.Tensor]:
    @tf.function(autograph=False)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    return step


def compare(
    make: Callable[[str], Training],
    names: list[str],
    rounds: int,
    repeat: int,
) -> list[dict[str, Any]]:
    """Times each row alternately with the first, the baseline, and prints it.

    Args:
      make: maps a name to a training.
      names: of the rows; the first is also compared with itself.
      rounds: number of comparisons of each row.
      repeat: steps per comparison.
    """
    baseline = make(names[0])
    baseline.seconds(1)
    measured = []
    for row in names:
        start = time.perf_counter()
        other = make(row)
        other.seconds(1)
        first = time.perf_counter() - start
        pairs = []
        for index in range(rounds):
            # They take turns in going first.
            order = (baseline, other) if index % 2 else (other, baseline)
            took = {id(t): t.seconds(repeat) for t in order}
            pairs.append((took[id(other)], took[id(baseline)]))
        ratios = sorted(a / b for a, b in pairs)
        found = {
            "layer": row,
            "ratio": round(statistics.median(ratios), 3),
            "lowest": round(ratios[0], 3),
            "highest": round(ratios[-1], 3),
            "ms": round(statistics.median(a for a, _ in pairs) * 1e3, 1),
            "baseline_ms": round(
                statistics.median(b for _, b in pairs) * 1e3, 1
            ),
            "first_step_s": round(first, 1),
        }
        measured.append(found)
        print(_line(found), flush=True)
        del other
        gc.collect()  # A model and its graphs refer to each other.
    return measured


def _line(row: dict[str, Any]) -> str:
    spread = f"{row['lowest']:.2f}..{row['highest']:.2f}"
    return (
        f"{row['layer']:34s}{row['ratio']:7.3f}{spread:>14s}"
        f"{row['ms']:9.1f}{row['baseline_ms']:9.1f}{row['first_step_s']:9.1f}"
    )


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all networks with all rows of the command line."""
    names = [FUSED, *(catalog.get(name).name for name in args.rows)]
    shape = (args.batch, args.image_size, args.image_size, 3)
    images = tf.random.stateless_normal(shape, [0, 1])
    labels = tf.range(args.batch) % CLASSES
    scale = {"width": args.width, "max_depth": args.max_depth}
    rows = []
    for network in args.networks:
        print(f"\n{network} {scale}, images {list(shape)} float32")
        print(
            f"{'layer':34s}{'ratio':>7s}{'of rounds':>14s}{'ms':>9s}"
            f"{'baseline':>9s}{'first s':>9s}"
        )
        make = functools.partial(
            Training, network, images=images, labels=labels, scale=scale
        )
        for row in compare(make, names, args.rounds, args.repeat):
            rows.append(
                {"network": network, "shape": list(shape)} | scale | row
            )
    return rows


def flags() -> argparse.ArgumentParser:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--networks", nargs="+", default=NETWORKS, choices=nets.names(),
        metavar="NETWORK",
    )  # fmt: skip
    parser.add_argument("--rows", nargs="+", default=ROWS, metavar="LAYER")
    parser.add_argument("--image_size", type=int, default=96, metavar="PIXELS")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--max_depth", type=int, default=0, metavar="BLOCKS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=1, metavar="STEPS")
    return parser


def main() -> None:
    """Measures, prints and records."""
    args = flags().parse_args()
    rows = measure(args)
    print(
        "\nratio: median over rounds (lower is faster); ms: of a step; first: "
        "building,\ntracing, compiling and one step."
    )
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
