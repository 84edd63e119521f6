"""Time of a detector's training step, as ratios to bn_relu.

    python -m benchmarks.detection [--json FILE] [--rows evonorm_b0 ...]

A step is that of `detection.train`: Mask R-CNN's forward pass, its losses, the
gradient and the update, on one batch of digit scenes. The detectors of a layer
and of bn_relu are timed alternately, as in `benchmarks.networks`.
"""

import argparse
import functools
import pathlib
import tempfile
import time
from typing import Any

import tensorflow as tf

from benchmarks import networks, record
from detection import experiment as _registers  # noqa: F401
from detection import pyramid, task
from detection.settings import Task
from evonorm_tf import catalog
from training import config

BASELINE = "bn_relu"


def parameters(args: argparse.Namespace) -> config.Experiment:
    """Returns the small detector of the digit scenes, at the given size."""
    params = config.parse("scenes_maskrcnn")
    one = params.task
    one.scenes.size = args.image_size
    one.scenes.train, one.scenes.validation = args.batch, 1
    one.train_data.global_batch_size = args.batch
    one.train_data.shuffle_buffer_size = args.batch
    one.model.input_size = [args.image_size, args.image_size, 3]
    one.model.network = args.network
    one.model.width, one.model.max_depth = args.width, args.max_depth
    if args.network.startswith("spinenet"):
        one.model.min_level, one.model.max_level = 3, 7
    return params


class Training(networks.Training):
    """A detector and its training step, timed as networks are.

    Args:
      params: the experiment.
      row: a catalog name.
      batch: (images, labels).
    """

    def __init__(self, params: config.Experiment, row: str, batch: tuple):
        copy: Task = params.task.replace()
        copy.model.norm_act.name = row
        # At rate 0 everything is computed, and no layer can diverge to values
        # that are faster or slower to compute.
        sgd = {"optimizer": {"type": "sgd", "sgd": {"momentum": 0.9}}}
        rate = {"type": "constant", "constant": {"learning_rate": 0.0}}
        optimizer_config = type(params.trainer.optimizer_config)(
            sgd | {"learning_rate": rate}
        )
        made = task.Task(copy)
        model = made.build_model()
        optimizer = made.create_optimizer(optimizer_config, params.runtime)
        # tf_keras has two kinds of optimizers.
        create = getattr(optimizer, "_create_all_weights", None)
        (create or optimizer.build)(model.trainable_variables)

        @tf.function(autograph=False)
        def step(*inputs):
            return made.train_step(inputs, model, optimizer)[made.loss]

        self._data, self._step = batch, step


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all rows of the command line."""
    names = [catalog.get(name).name for name in args.rows]
    names = [BASELINE, *(name for name in names if name != BASELINE)]
    params = parameters(args)
    with tempfile.TemporaryDirectory() as folder:
        prepared = task.prepare(params, folder)
        data = prepared.build_inputs(params.task.train_data)
        batch = next(iter(data.take(1)))
    shape = list(batch[0].shape)
    model = params.task.model
    print(
        f"\n{model.network}, width {model.width}, at most {model.max_depth} "
        f"blocks per stage, images {shape} float32"
    )
    print(
        f"{'layer':34s}{'ratio':>7s}{'of rounds':>14s}{'ms':>9s}"
        f"{'baseline':>9s}{'first s':>9s}"
    )
    make = functools.partial(Training, params, batch=batch)
    rows = networks.compare(make, names, args.rounds, args.repeat)
    return [{"network": model.network, "shape": shape} | row for row in rows]


def flags() -> argparse.ArgumentParser:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--rows", nargs="+", default=catalog.names(), metavar="LAYER"
    )
    parser.add_argument(
        "--network", default="resnet50_postact", choices=list(pyramid.SIZES)
    )
    parser.add_argument("--image_size", type=int, default=128, metavar="PIXELS")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--max_depth", type=int, default=0, metavar="BLOCKS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=1, metavar="STEPS")
    return parser


def main() -> None:
    """Measures, prints and records."""
    args = flags().parse_args()
    start = time.perf_counter()
    rows = measure(args)
    print(
        "\nratio: median over rounds (lower is faster); ms: of a step; first: "
        "building,\ntracing, compiling and one step. "
        f"In all {time.perf_counter() - start:.0f} s."
    )
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
