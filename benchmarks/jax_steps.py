"""Layers and training steps of networks on JAX: time and memory."""

import concurrent.futures
import functools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import evonorm_tf
from benchmarks import record
from evonorm_tf import layers

BASELINE = "keras BatchNormalization + ReLU"
NAMES = ("bn_relu", "bn_silu", "gn_silu")
NAMES += tuple(f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2"))
# With `recompute`, only the input and the moments of a layer are saved.
RECOMPUTED = " recomputed"
NAMES += ("evonorm_b0" + RECOMPUTED, "evonorm_s0" + RECOMPUTED)
# Full-size arrays that the three-step form reads or writes: 2 and 1 forward,
# 4 and 1 backward.
PASSES = 8
COMPILERS = 4  # at a time
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class Normalized:
    """Keras's BatchNormalization and ReLU, called like one of our layers."""

    def __init__(self, activation: bool = True):
        self._norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self._activation = activation

    def __call__(self, x: Any) -> Any:
        """Applies the layer to [N, H, W, C]."""
        y = self._norm(x)
        return keras.layers.ReLU()(y) if self._activation else y


def norm_act(name: str, **options: Any) -> Callable[..., Any]:
    """Returns the `norm_act` of `create_model` for our layer or a baseline."""
    if name == BASELINE:
        return Normalized

    def make(activation: bool = True) -> Any:
        row = name.removesuffix(RECOMPUTED)
        return layers.NormAct(row, activation=activation, **options)

    return make


def facts() -> dict[str, Any]:
    """Returns the device and the versions of a measurement."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "processor": record.processor(),
        "jax": jax.__version__,
        "keras": keras.__version__,
        "evonorm_tf": evonorm_tf.__version__,
    }


# -- single layers ------------------------------------------------------------


def layer_row(
    name: str, shape: Sequence[int], count: int, dtype: str
) -> Callable:
    """A row of equal layers.

    Args:
      name: a catalog name, BASELINE, or "copy".
      shape: of x, [N, H, W, C].
      count: number of layers.
      dtype: of x, "float32" or "bfloat16".

    Returns:
      A step (x, dy, weights) -> output and gradients, and the weights, which
      are arguments lest the compiler simplify a gain of 1 and a bias of 0.
    """
    if name == "copy":

        def copies(x, dy, weights):
            for _ in range(count):
                x = jax.lax.optimization_barrier(-x)
                dy = jax.lax.optimization_barrier(-dy)
            return x, dy

        return copies, []
    keras.config.set_dtype_policy(_POLICIES[dtype])
    inputs = keras.Input(shape[1:], dtype=dtype)
    models = []
    for _ in range(count):
        models.append(keras.Model(inputs, norm_act(name)()(inputs)))
    keras.config.set_dtype_policy("float32")
    trainable = [[v.value for v in m.trainable_variables] for m in models]
    fixed = [[v.value for v in m.non_trainable_variables] for m in models]

    def forward(x, trainable):
        for model, weights, state in zip(models, trainable, fixed, strict=True):
            y, _ = model.stateless_call(weights, state, x, training=True)
            x = jax.lax.optimization_barrier(y)
        return x

    def step(x, dy, weights):
        with evonorm_tf.using(recompute=name.endswith(RECOMPUTED)):
            y, backward = jax.vjp(forward, x, weights)
        # y too, or the last layer's forward pass would not be computed.
        return y, backward(dy)

    return step, trainable


def compiled_layers(
    name: str, x: jax.Array, dy: jax.Array, count: int
) -> tuple[Callable[[], Any], int]:
    """`layer_row` compiled for x and dy, and the bytes of its temporaries."""
    step, weights = layer_row(name, x.shape, count, x.dtype.name)
    compiled = jax.jit(step).lower(x, dy, weights).compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return functools.partial(compiled, x, dy, weights), temporaries


def milliseconds(
    steps: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Times steps alternately, by name."""
    for step in steps.values():
        jax.block_until_ready(step())
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(step())
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """The median ratio of two steps' times within a round."""
    pairs = zip(times[name], times[to])
    return statistics.median(a / b for a, b in pairs)


def measure_layers(sizes: dict, rows: Any, deadline: float) -> None:
    """Part `layers`; arguments as given by benchmarks/gpu.py."""
    shape, count = sizes["shape"], sizes["layers"]
    x, dy = (
        jax.random.normal(jax.random.key(i), shape, jnp.bfloat16)
        for i in range(2)
    )
    steps, memory = {}, {}
    for name in (BASELINE, "copy", *NAMES):
        if time.time() > deadline:
            break
        steps[name], memory[name] = compiled_layers(name, x, dy, count)
    times = milliseconds(steps, sizes["rounds"])
    bytes_copied = 4 * count * x.nbytes  # x and dy, each read and written
    bandwidth = bytes_copied / statistics.median(times["copy"]) * 1e3
    for name in (BASELINE, *NAMES):
        if name not in times:
            continue
        taken = statistics.median(times[name])
        moved = PASSES * count * x.nbytes / taken * 1e3
        rows.add(
            layer=name,
            ms_per_layer=round(taken / count, 4),
            ratio=round(ratio(times, name, BASELINE), 3),
            bandwidth_fraction=round(moved / bandwidth, 3),
            temporary_bytes=memory[name],
        )
    # Three digits, also of a small test on a busy CPU.
    rows.add(
        layer="copy", terabytes_per_second=float(f"{bandwidth / 1e12:.3g}")
    )


# -- networks -----------------------------------------------------------------


def training_step(name: str, sizes: dict) -> tuple[Callable, list]:
    """Builds a training step in bf16.

    Args:
      name: a catalog name or BASELINE.
      sizes: see benchmarks/gpu.py.

    Returns:
      The step (weights, state, momenta, images, labels), and the arrays of
      weights, state and optimizer.
    """
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = evonorm_tf.create_model(
        sizes["network"], norm_act(name), image_size=sizes["size"]
    )
    keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def objective(weights, state, images, labels):
        with evonorm_tf.using(recompute=name.endswith(RECOMPUTED)):
            logits, state = model.stateless_call(
                weights, state, images, training=True
            )
        return loss(labels, logits), state

    def step(weights, state, momenta, images, labels):
        (value, state), gradients = jax.value_and_grad(objective, has_aux=True)(
            weights, state, images, labels
        )
        weights, momenta = optimizer.stateless_apply(
            momenta, gradients, weights
        )
        return weights, state, momenta, value

    values = [
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    ]
    return step, values


def _batch(sizes: dict, count: int) -> tuple[jax.Array, jax.Array]:
    side = sizes["size"]
    images = jax.random.normal(
        jax.random.key(0), (count, side, side, 3), jnp.bfloat16
    )
    return images, jnp.arange(count) % 1000


def _compile(step: Callable, arguments: Sequence[Any]) -> Any:
    shapes = jax.tree.map(
        lambda t: jax.ShapeDtypeStruct(t.shape, t.dtype), arguments
    )
    return jax.jit(step, donate_argnums=(0, 1, 2)).lower(*shapes)


def _memory(compiled: Any) -> int:
    """Returns the bytes on the device during a step, including arguments."""
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )


def measure_networks(sizes: dict, rows: Any, deadline: float) -> None:
    """Part `networks`; arguments as given by benchmarks/gpu.py."""
    batch = _batch(sizes, sizes["batch"])
    double = _batch(sizes, 2 * sizes["batch"])
    made = {name: training_step(name, sizes) for name in (BASELINE, *NAMES)}
    start = time.time()
    lowered = {n: _compile(f, [*v, *batch]) for n, (f, v) in made.items()}
    # The baseline runs first and alone, so that the autotuning of convolutions
    # is then cached for all others.
    compiled = {BASELINE: lowered.pop(BASELINE).compile()}
    with concurrent.futures.ThreadPoolExecutor(COMPILERS) as pool:
        jobs = {n: pool.submit(one.compile) for n, one in lowered.items()}
        compiled |= {name: job.result() for name, job in jobs.items()}
    print(f"compiled in {time.time() - start:.0f} s", flush=True)
    steps = {
        name: _Running(compiled[name], made[name][1], batch) for name in made
    }
    times = milliseconds(steps, sizes["rounds"])
    memory = {name: _memory(one) for name, one in compiled.items()}
    for name in made:
        rows.add(
            layer=name,
            ms=round(statistics.median(times[name]), 3),
            ratio=round(ratio(times, name, BASELINE), 3),
            memory_bytes=memory[name],
            memory_ratio=round(memory[name] / memory[BASELINE], 4),
        )
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    for name in (BASELINE, "bn_relu", "evonorm_b0", "evonorm_s0"):
        if time.time() > deadline or not limit:
            return
        step, values = made[name]
        twice = _memory(_compile(step, [*values, *double]).compile())
        each = (twice - memory[name]) / sizes["batch"]
        largest = int((limit - memory[name]) / each) + sizes["batch"]
        rows.add(
            layer=name,
            largest_batch=largest,
            bytes_per_image=int(each),
            limit_bytes=limit,
            how="memory of the compiled steps at batch and twice the batch",
        )


class _Running:
    """A compiled step that keeps its state on the device."""

    def __init__(self, compiled: Any, values: Any, batch: Any):
        self._compiled, self._batch = compiled, batch
        self._values = jax.tree.map(jnp.array, values)

    def __call__(self) -> jax.Array:
        *self._values, loss = self._compiled(*self._values, *self._batch)
        return loss


def assert_finite(value: Any, what: str) -> float:
    """Returns the number, or raises an error that names it."""
    number = float(value)
    if not np.isfinite(number):
        raise FloatingPointError(
            f"The loss is not finite. Received: loss={number} of {what}"
        )
    return number
