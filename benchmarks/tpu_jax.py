"""What the TPU's compiler thinks of the layers on JAX, without a TPU.

    python -m benchmarks.tpu_jax chain --json docs/runs/tpu-jax-chain.json
    python -m benchmarks.tpu_jax resnet50 --json docs/runs/tpu-jax-resnet50.json

`chain` is six convolutions with a layer after each, forward and backward, as
in benchmarks/tpu.py; `resnet50` is a step of `fit` with 128 images. Both are
in bf16 and are compiled by libtpu for one chip. Bytes accessed, temporaries
and the estimated time are the compiler's own figures, not measurements on a
TPU. The file is written after every layer, and a layer that was compiled
before is read from the compiler's cache.
"""

import argparse
import functools
import importlib.metadata
import os
import pathlib
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # No TPU is looked for.

import jax
import jax.numpy as jnp
import keras

import evonorm_tf
from benchmarks import jax_steps
from benchmarks.gpu import Rows
from evonorm_tf import preflight

# As in benchmarks/tpu.py, whose words say why.
SHAPE = (256, 28, 28, 256)
CONVOLUTIONS = 6
BATCH, SIZE = 128, 224
BARE = "none"
BASELINE = "bn_relu"
FIRST = (BASELINE, jax_steps.BASELINE, "evonorm_b0", "evonorm_s0")
NAMES = (*FIRST, *(n for n in jax_steps.NAMES if n not in FIRST), BARE)
KEYS = ("bytes_accessed", "temporary_bytes", "seconds_estimate", "flops")


def layer(name: str) -> Callable[..., Any]:
    """What is put after a convolution: a layer of the table, or nothing."""
    if name == BARE:
        return keras.layers.Identity
    return jax_steps.norm_act(name)


def chain(name: str, shape: tuple[int, ...] = SHAPE) -> str:
    """Loss and gradients of a chain of convolutions and layers, StableHLO.

    Args:
      name: of the layer, one of NAMES.
      shape: of the input, [N, H, W, C].
    """
    x = inputs = keras.Input(shape[1:], dtype="bfloat16")
    for _ in range(CONVOLUTIONS):
        x = keras.layers.Conv2D(shape[-1], 3, padding="same", use_bias=False)(x)
        x = layer(name)()(x)
    model = keras.Model(inputs, x)
    state = [v.value for v in model.non_trainable_variables]

    def objective(weights, x):
        y, _ = model.stateless_call(weights, state, x, training=True)
        return jnp.mean(jnp.square(y.astype("float32")))

    weights = [
        jax.ShapeDtypeStruct(v.shape, v.value.dtype)
        for v in model.trainable_variables
    ]
    x = jax.ShapeDtypeStruct(shape, "bfloat16")
    traced = jax.jit(jax.value_and_grad(objective)).trace(weights, x)
    return traced.lower(lowering_platforms=("tpu",)).as_text()


def resnet50(name: str) -> str:
    """A step of `fit` of ResNet-50, StableHLO; arguments as in `chain`."""
    model = evonorm_tf.create_model("resnet50", layer(name), image_size=SIZE)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), "float32")
    labels = jax.ShapeDtypeStruct((BATCH,), "int32")
    return preflight.keras_module(model, images, labels).text


def measure(
    lower: Callable[[str], str], names: list[str], topology: str, rows: Any
) -> None:
    """Compiles a step with every layer and adds the figures to `rows`.

    Args:
      lower: maps the name of a layer to a step in StableHLO.
      names: of layers.
      topology: as libtpu names it.
      rows: what keeps the figures, a `benchmarks.gpu.Rows`.
    """
    keras.config.set_dtype_policy("mixed_bfloat16")
    for name in names:
        recompute = name.endswith(jax_steps.RECOMPUTED)
        # What is traced here is for an accelerator.
        with evonorm_tf.using(
            reduction="sum", moments="one_pass", recompute=recompute
        ):
            text = lower(name)
        figures = preflight.compile_text(text, topology)
        rows.add(layer=name, **{key: figures[key] for key in KEYS})
    keras.config.set_dtype_policy("float32")


def main() -> None:
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("network", choices=("chain", "resnet50"))
    parser.add_argument(
        "--json", type=pathlib.Path, required=True, help="file to write"
    )
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--shape", type=int, nargs=4, default=SHAPE)
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES)
    given = parser.parse_args()
    lower = resnet50
    if given.network == "chain":
        lower = functools.partial(chain, shape=tuple(given.shape))
    facts = jax_steps.facts() | {
        "topology": given.topology,
        "libtpu": importlib.metadata.version("libtpu"),
    }
    rows = Rows(given.json, facts)
    measure(lower, given.rows, given.topology, rows)


if __name__ == "__main__":
    main()
