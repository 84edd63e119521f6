"""What the layers cost on a GPU: a folder that needs jax, not TensorFlow.

    python -m benchmarks.gpu write FOLDER         # here
    python run.py --time                          # there, in FOLDER
    python torch_peers.py                         # there, with torch and timm
    python -m benchmarks.gpu collect FOLDER --json docs/runs/gpu.json

`write` makes a bundle (docs/preflight.md) of ResNet-50 training steps, bf16,
and of single layers, forward and backward, LAYERS of them in a row with a
barrier between, so that no two fuse and starting a program weighs little.
`copy` is the same row of plain copies: what the memory gives. torch_peers.py
times PyTorch's BatchNorm + ReLU and timm's EvoNorms on the same sizes.
"""

import argparse
import functools
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from benchmarks import torch_peers
from evonorm_tf import legacy, nets, preflight
from evonorm_tf.preflight import Feed

LAYER_SHAPE, LAYERS = (128, 56, 56, 64), 20
BATCH, SIZE, CLASSES = 128, 224, 1000
ROWS = ("bn_relu", "bn_silu", "gn_silu")
ROWS += tuple(f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2"))
NETWORKS = ("bn_relu", "evonorm_b0", "evonorm_s0")
COPY = "copy"


@tf.custom_gradient
def barrier(x: tf.Tensor) -> Any:
    """The identity, which nothing is fused across, nor its gradient."""

    def apart(t):
        (t,) = gen_xla_ops.xla_optimization_barrier([t])
        return t

    return apart(x), apart


def layer_step(row: str, shape: tuple[int, ...]) -> Callable[..., list]:
    """f(x, dy) -> a number, and x's gradient through a row of layers.

    Args:
      row: a catalog name, or "copy".
      shape: of x and dy [N, H, W, C], bfloat16.
    """
    if row == COPY:

        def copies(x, dy):
            for _ in range(LAYERS):
                x = barrier(x * tf.cast(1.5, x.dtype))
            return [tf.reduce_sum(x[0, 0, 0]), x + dy]

        return copies
    layers = [legacy.NormAct(row) for _ in range(LAYERS)]
    for layer in layers:
        layer.build(shape)
    weights = [w for layer in layers for w in layer.trainable_variables]

    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for layer in layers:
                y = barrier(layer(y, training=True))
        dx, *rest = tape.gradient(y, [x, *weights], output_gradients=dy)
        return [tf.reduce_sum(tf.cast(y[0, 0, 0], tf.float32)), dx, *rest]

    return step


def network_step(row: str, batch: int, size: int) -> Callable[..., tf.Tensor]:
    """f(images, labels) -> loss: a ResNet-50's step, SGD with momentum."""
    layers = tf_keras.layers
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        inputs = layers.Input((size, size, 3), batch_size=batch)
        norm_act = functools.partial(legacy.norm_act, row)
        features = nets.backbone("resnet50", inputs, layers, norm_act)
        model = tf_keras.Model(
            inputs, nets.classifier(features, layers, CLASSES)
        )
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    _fill(model)
    optimizer = tf_keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    step = preflight.keras_step(model)

    def train(images, labels):
        images = tf.cast(images, tf.float32) / 127.5 - 1.0
        return step(images, labels)

    return train


def _fill(model: tf_keras.Model) -> None:
    """Kernels that look random and pack to nothing: the folder is carried."""
    pattern = np.random.default_rng(0).normal(size=4096)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            spread = (2 / np.prod(weight.shape[:-1])) ** 0.5
            weight.assign(spread * np.resize(pattern, weight.shape))


def write(
    folder: pathlib.Path,
    networks: dict[str, int],
    shape: tuple[int, ...] = LAYER_SHAPE,
) -> None:
    """Makes the folder.

    Args:
      folder: is made when it is not there.
      networks: batch and size of the ResNet-50 steps.
      shape: of the single layers' input.
    """
    batch, size = networks["batch"], networks["size"]
    feeds = (
        Feed("random", (batch, size, size, 3), "uint8"),
        Feed("random", (batch,), "int32", below=CLASSES),
    )
    for row in NETWORKS:
        step = preflight.Step(network_step(row, batch, size), feeds, batch)
        about = f"ResNet-50, {row}, batch {batch}, {size} px, bf16"
        preflight.write(
            folder, preflight.Run(f"resnet50-{row}", step, 30, 0, about)
        )
    feeds = tuple(Feed("random", shape, "bfloat16", below=7) for _ in "xy")
    for row in (COPY, *ROWS):
        step = preflight.Step(layer_step(row, shape), feeds, shape[0])
        about = f"{LAYERS} x {row}, {list(shape)} bf16, forward + backward"
        preflight.write(
            folder, preflight.Run(f"layer-{row}", step, 30, 0, about)
        )
    shutil.copyfile(torch_peers.__file__, folder / "torch_peers.py")
    sizes = {"shape": list(shape), "batch": batch, "size": size}
    (folder / torch_peers.SIZES).write_text(json.dumps(sizes) + "\n")


def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """What ran in a folder: seconds a step, ratios, bandwidth.

    A layer's fraction of the copy's bandwidth counts 2 reads and 1 write
    forward, 4 reads and 1 write backward, of full-size arrays.
    """
    found = {r["run"]: r for r in preflight.collect(folder)}
    peers = folder / torch_peers.RESULTS
    if peers.exists():
        found |= {r["run"]: r for r in json.loads(peers.read_text())}
    timed = {name: r for name, r in found.items() if "step_seconds" in r}
    measured = []
    for name, result in timed.items():
        kind, _, layer = name.rpartition("-")
        base = timed.get(f"{kind}-bn_relu")
        copy = timed.get(f"layer-{COPY}")
        one = {
            "run": name,
            "kind": kind,
            "layer": layer,
            "device": result["device"],
            "ms": result["step_seconds"] * 1e3,
        }
        if base and base["device"] == result["device"]:
            one["ratio"] = result["step_seconds"] / base["step_seconds"]
        if copy and kind == "layer" and layer != COPY:
            # A copy is one read and one write.
            passes = torch_peers.PASSES / 2
            one["bandwidth_fraction"] = (
                passes * copy["step_seconds"] / result["step_seconds"]
            )
        measured.append(one)
    return measured


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["write", "collect"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels")
    parser.add_argument("--shape", type=int, nargs=4, default=LAYER_SHAPE)
    given = parser.parse_args()
    if given.what == "write":
        sizes = {"batch": given.batch, "size": given.size}
        write(given.folder, sizes, tuple(given.shape))
        print(f"Carry {given.folder} to the GPU; `python run.py --time` there.")
        return
    measured = rows(given.folder)
    for one in measured:
        ratio = f"{one['ratio']:6.3f}" if "ratio" in one else ""
        print(f"{one['run']:36} {one['ms']:10.3f} ms {ratio}  {one['device']}")
    if given.json:
        given.json.write_text(json.dumps({"rows": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
