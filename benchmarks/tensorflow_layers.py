"""Single layers on TensorFlow, for `python -m benchmarks.layers`."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from benchmarks import activation_memory
from evonorm_tf import catalog, legacy, validation
from evonorm_tf.ops import settings
from evonorm_tf.ops import tensorflow as backend
from evonorm_tf.ops.kernel import Plan

BASELINE = "tf_keras BatchNormalization + ReLU"
UNFUSED = "keras 3 BatchNormalization + ReLU"
# Full-size reads and writes of the three-step form: 2 + 1 forward, 4 + 1 back.
PASSES = 8

# PyPI's other EvoNorms: name -> (groups, our row of the same layer).
PEERS = {
    "keras_cv_attention_models B0": (-1, "evonorm_b0"),
    "keras_cv_attention_models S0": (32, "evonorm_s0"),
}

Step = Callable[[tf.Tensor, tf.Tensor], Any]


class Normalized:
    """BatchNormalization + ReLU of one of the two Kerases."""

    def __init__(self, module: Any, channels: int):
        self.norm = module.layers.BatchNormalization()
        self.norm.build((None, None, None, channels))
        self.weights = [
            getattr(w, "value", w) if module is keras else w
            for w in self.norm.trainable_variables
        ]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the layer to [N, H, W, C]."""
        return tf.nn.relu(self.norm(x, training=True))


class Peer:
    """EvoNormalization of keras_cv_attention_models, in tf_keras.

    Its B0 needs `in_train_phase`, which Keras 3 no longer has.
    """

    def __init__(self, groups: int, channels: int):
        from keras_cv_attention_models import common_layers

        self.layer = common_layers.EvoNormalization(num_groups=groups)
        self.layer.build((None, None, None, channels))
        self.weights = self.layer.trainable_variables

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the layer to [N, H, W, C]."""
        return self.layer(x, training=True)


class Ours:
    """A catalog row as a layer."""

    def __init__(self, name: str, channels: int):
        self.layer = legacy.NormAct(name)
        self.layer.build((None, None, None, channels))
        self.weights = self.layer.trainable_variables

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the layer to [N, H, W, C]."""
        return self.layer(x, training=True)


class Autodiff:
    """The same row as the plain formula, differentiated by TensorFlow."""

    def __init__(self, name: str, channels: int):
        row = catalog.get(name)
        names = ["gamma", "beta", *(w.name for w in row.weights)]
        initial = [tf.ones([channels]), tf.zeros([channels])]
        initial += [
            tf.fill([] if w.scalar else [channels], w.initial)
            for w in row.weights
        ]
        self.weights = [tf.Variable(value) for value in initial]
        groups = validation.resolve_groups(channels) if row.grouped else 1
        how = settings.Settings("sum", "two_pass", False)
        self.names = names
        self.plan = Plan(row.kernel, how, groups=groups)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Applies the layer to [N, H, W, C]."""
        n, h, w, c = x.shape
        values = dict(zip(self.names, map(tf.convert_to_tensor, self.weights)))
        flat = tf.reshape(x, [n, h * w, c])
        y, *_ = backend.plain(self.plan, flat, values)
        return tf.reshape(y, x.shape)


def gradient_step(layer: Any) -> Step:
    """A compiled graph of one forward and backward pass."""

    @tf.function(autograph=False)
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, *layer.weights], output_gradients=dy)

    return step


def milliseconds(step: Step, x: tf.Tensor, dy: tf.Tensor, repeat: int) -> float:
    """Returns the time of a step, a mean over `repeat`."""
    start = time.perf_counter()
    for _ in range(repeat):
        out = step(x, dy)
    # Reading a value waits for the computation.
    tf.reshape(tf.nest.flatten(out)[0], [-1])[0].numpy()
    return (time.perf_counter() - start) / repeat * 1e3


def measure(
    shape: tuple[int, ...], names: list[str], rounds: int, repeat: int
) -> list[dict[str, Any]]:
    """Times all layers on one shape [N, H, W, C]; returns the rows."""
    # A function for each layer is retracing by design.
    tf.get_logger().setLevel("ERROR")
    x, dy = (tf.random.stateless_normal(shape, [0, i]) for i in (1, 2))
    channels = shape[-1]
    layers = {BASELINE: Normalized(tf_keras, channels)}
    layers[UNFUSED] = Normalized(keras, channels)
    peers = _peers(names)
    for peer in peers:
        layers[peer] = Peer(PEERS[peer][0], channels)
    for name in names:
        layers[name] = Ours(name, channels)
        layers[f"{name} autodiff"] = Autodiff(name, channels)
    steps = {name: gradient_step(layer) for name, layer in layers.items()}
    copy = tf.function(lambda x, dy: x * 1.5, jit_compile=True)
    first = {}
    for name, step in steps.items():
        first[name] = milliseconds(step, x, dy, 1) / 1e3
    times: dict[str, list[float]] = {name: [] for name in (*steps, "copy")}
    milliseconds(copy, x, dy, repeat)
    for _ in range(rounds):
        for name, step in (*steps.items(), ("copy", copy)):
            times[name].append(milliseconds(step, x, dy, repeat))

    def ratio(a: str, b: str) -> float:
        return statistics.median(p / q for p, q in zip(times[a], times[b]))

    rows = []
    for name in (BASELINE, UNFUSED, *peers, *names):
        autodiff = f"{name} autodiff"
        # A copy moves two arrays; forward and backward move PASSES.
        fraction = PASSES / 2 / ratio(name, "copy")
        rows.append(
            {
                "layer": name,
                "shape": list(shape),
                "ratio_to_bn_relu": round(ratio(name, BASELINE), 3),
                "ratio_to_autodiff": round(ratio(name, autodiff), 3)
                if autodiff in times
                else None,
                "ms": round(statistics.median(times[name]), 3),
                "first_call_s": round(first[name], 2),
                "kept_bytes": activation_memory.kept_bytes(layers[name], shape),
                "kept_bytes_autodiff": activation_memory.kept_bytes(
                    layers[autodiff], shape
                )
                if autodiff in layers
                else None,
                "copy_bandwidth_fraction": round(fraction, 3),
            }
        )
    return rows


def _peers(names: list[str]) -> list[str]:
    """Returns the requested layers of other packages that are installed."""
    if importlib.util.find_spec("keras_cv_attention_models") is None:
        print("keras_cv_attention_models is not installed: not measured")
        return []
    return [peer for peer, (_, ours) in PEERS.items() if ours in names]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, one table a shape."""
    lines = []
    for shape in dict.fromkeys(tuple(r["shape"]) for r in rows):
        lines.append(f"\n{list(shape)} float32, forward + backward")
        lines.append(
            f"{'layer':34s}{'time':>7s}{'autodiff':>9s}{'ms':>7s}"
            f"{'kept MB':>9s}{'autodiff':>9s}{'copy bw':>9s}{'first s':>9s}"
        )
        for r in (r for r in rows if tuple(r["shape"]) == shape):
            speed = r["ratio_to_autodiff"]
            other = r["kept_bytes_autodiff"]
            lines.append(
                f"{r['layer']:34s}{r['ratio_to_bn_relu']:7.2f}"
                f"{'' if speed is None else f'{1 / speed:.1f}x':>9s}"
                f"{r['ms']:7.2f}{r['kept_bytes'] / 1e6:9.2f}"
                f"{'' if other is None else f'{other / 1e6:.2f}':>9s}"
                f"{r['copy_bandwidth_fraction']:9.2f}{r['first_call_s']:9.2f}"
            )
    lines.append(
        "\ntime: ratio to tf_keras BatchNormalization + ReLU (lower is "
        "faster); autodiff: how many\ntimes faster than autodiff of the plain "
        "formula, and what that keeps; kept: between forward\nand backward; "
        "copy bw: fraction of a copy's bandwidth, counting "
        f"{PASSES} full-size passes\n(above 1: caches); first: tracing and "
        "compiling once."
    )
    return "\n".join(lines)
