"""Single layers on JAX, for `python -m benchmarks.layers --backend=jax`."""

import statistics
from typing import Any

import jax

from benchmarks import jax_steps
from benchmarks.jax_steps import BASELINE


def measure(
    shape: tuple[int, ...], names: list[str], rounds: int, repeat: int
) -> list[dict[str, Any]]:
    """Times all layers on one shape [N, H, W, C]; returns the rows."""
    x, dy = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    steps, memory = {}, {}
    for name in (BASELINE, *names):
        steps[name], memory[name] = jax_steps.compiled_layers(name, x, dy, 1)
    times = jax_steps.milliseconds(steps, rounds * repeat)
    return [
        {
            "layer": name,
            "shape": list(shape),
            "ratio_to_bn_relu": round(
                jax_steps.ratio(times, name, BASELINE), 3
            ),
            "ms": round(statistics.median(times[name]), 3),
            "temporary_bytes": memory[name],
        }
        for name in steps
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, one table for each shape."""
    lines = []
    for shape in dict.fromkeys(tuple(row["shape"]) for row in rows):
        lines.append(f"\n{list(shape)} float32, forward + backward")
        lines.append(f"{'layer':34s}{'time':>7s}{'ms':>8s}{'temporaries':>13s}")
        lines += [
            f"{row['layer']:34s}{row['ratio_to_bn_relu']:7.2f}"
            f"{row['ms']:8.2f}{row['temporary_bytes'] / 1e6:10.2f} MB"
            for row in rows
            if tuple(row["shape"]) == shape
        ]
    lines.append(f"\ntime: ratio to {BASELINE} (lower is faster)")
    return "\n".join(lines)
