"""What the TPU's compiler thinks of the layers, without a TPU.

    python -m benchmarks.tpu [--json FILE] [--topology v5e:2x2]

Six convolutions with a layer after each, forward and backward, compiled by
libtpu for one chip. Bytes accessed, temporaries and the estimated time are
the compiler's own figures, here as ratios to our bn_relu in the same chain;
they are no measurement on a TPU. "autodiff" is the plain formula of the same
layer, differentiated by TensorFlow.
"""

import argparse
import importlib.metadata
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from benchmarks.tensorflow_layers import Autodiff, Normalized, Ours
from evonorm_tf import preflight

# Arrays of 103 MB: of smaller ones the compiler copies some to a chip's fast
# memory and back, and its choices outweigh the layers (docs/performance.md).
SHAPE = (256, 28, 28, 256)
CONVOLUTIONS = 6
ROWS = ("bn_relu", "bn_silu", "gn_silu")
ROWS += tuple(f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2"))
AUTODIFF = ("evonorm_b0", "evonorm_s0")
FUSED = "tf_keras BatchNormalization + ReLU"
NONE = "none"
BASELINE = "bn_relu"
KEYS = ("bytes_accessed", "temporary_bytes", "seconds_estimate", "flops")


def chain(
    make: Callable[[], Any], dtype: str, shape: tuple[int, ...]
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Loss and gradients of a chain of convolutions and layers.

    Args:
      make: makes a layer with `weights`, called with x [N, H, W, C].
      dtype: of the activations; weights are float32.
      shape: of x.
    """
    channels = shape[-1]
    layers = [make() for _ in range(CONVOLUTIONS)]
    kernels = [
        tf.Variable(tf.zeros([3, 3, channels, channels])) for _ in layers
    ]
    weights = [*kernels, *(w for layer in layers for w in layer.weights)]

    def step(x):
        with tf.GradientTape() as tape:
            y = x
            for kernel, layer in zip(kernels, layers, strict=True):
                y = tf.nn.conv2d(y, tf.cast(kernel, dtype), 1, "SAME")
                y = tf.cast(layer(y), dtype)
            loss = tf.reduce_mean(tf.cast(y, tf.float32) ** 2)
        return [loss, *tape.gradient(loss, weights)]

    return step


class _Identity:
    weights: tuple = ()

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x


class _Float32(Autodiff):
    """The plain formula in float32, as the layers compute."""

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return super().__call__(tf.cast(x, tf.float32))


def _makers(channels: int, dtype: str) -> dict[str, Callable[[], Any]]:
    policy = "mixed_bfloat16" if dtype == "bfloat16" else "float32"
    tf_keras.mixed_precision.set_global_policy(policy)
    makers: dict[str, Callable[[], Any]] = {
        name: lambda name=name: Ours(name, channels) for name in ROWS
    }
    makers[FUSED] = lambda: Normalized(tf_keras, channels)
    makers[NONE] = _Identity
    for name in AUTODIFF:
        makers[f"{name} autodiff"] = lambda name=name: _Float32(name, channels)
    return makers


def measure(topology: str, dtype: str, shape: tuple[int, ...]) -> list[dict]:
    """Compiles every chain; returns the rows."""
    found = {}
    for name, make in _makers(shape[-1], dtype).items():
        print(f"compiling {name}, {dtype}", file=sys.stderr, flush=True)
        step = chain(make, dtype, shape)
        module, _ = preflight.lower(step, tf.TensorSpec(shape, dtype))
        found[name] = preflight.compile_text(module.text, topology)
    tf_keras.mixed_precision.set_global_policy("float32")
    base = found[BASELINE]
    return [
        {"layer": name, "dtype": dtype}
        | {key: figures[key] for key in KEYS}
        | {f"{key}_ratio": figures[key] / base[key] for key in KEYS}
        for name, figures in found.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'layer':36}{'dtype':>10}{'accessed':>10}{'ratio':>7}"
        f"{'temporaries':>13}{'ratio':>7}{'estimate':>10}{'ratio':>7}"
    ]
    lines += [
        f"{row['layer']:36}{row['dtype']:>10}"
        f"{row['bytes_accessed'] / 1e9:7.2f} GB"
        f"{row['bytes_accessed_ratio']:7.3f}"
        f"{row['temporary_bytes'] / 1e6:10.1f} MB"
        f"{row['temporary_bytes_ratio']:7.3f}"
        f"{row['seconds_estimate'] * 1e3:7.2f} ms"
        f"{row['seconds_estimate_ratio']:7.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Compiles, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--shape", type=int, nargs=4, default=SHAPE)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    given = parser.parse_args()
    rows = []
    for dtype in given.dtypes:
        rows += measure(given.topology, dtype, tuple(given.shape))
    print(table(rows))
    if given.json:
        document = {
            "rows": rows,
            "topology": given.topology,
            "shape": list(given.shape),
            "libtpu": importlib.metadata.version("libtpu"),
            "tensorflow": tf.__version__,
        }
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
