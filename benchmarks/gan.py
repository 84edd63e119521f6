"""Time of a GAN step by layer, and of a Frechet distance.

    python -m benchmarks.gan [--json FILE] [--rows evonorm_b0 evonorm_s0]
    python -m benchmarks.gan --distance [--json FILE]

The first times whole steps of the narrow CIFAR-10 BigGAN (one of the
discriminator, one of the generator, the average), every layer in turn in each
round: a ratio to bn_relu is the median over rounds of the ratio within a
round. bn_relu is in it twice; the second copy says how far a ratio can be off.

The second is the time and the memory of the distance between 50,000 samples
of 2048 features and others, with nothing but the features handed in.
"""

import argparse
import pathlib
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import record
from evonorm_tf import catalog
from gan import (
    experiment,  # noqa: F401  Registers the experiments.
    trainer,
)
from gan.metrics import frechet
from gan.metrics.moments import Moments
from gan.tables import TABLES
from training import config

BASELINE = "bn_relu"
AGAIN = "bn_relu again"
_RECIPE = "cifar10/biggan_small"
_SAMPLES, _FEATURES, _BATCH = 50_000, 2048, 500


def step(layer: str, width: int, batch: int) -> Callable[[], None]:
    """A compiled step of the GAN with a layer, on fixed images.

    Args:
      layer: catalog name.
      width: of both networks.
      batch: images per step.
    """
    params = config.parse(row=TABLES.find(f"{_RECIPE}/{layer}"))
    model = params.task.model
    model.generator_width = model.discriminator_width = width
    params.task.train_data.global_batch_size = (
        batch // params.task.discriminator_steps
    )
    made = trainer.Trainer(params, tf.distribute.get_strategy(), [])
    images = tf.random.stateless_uniform([batch, 32, 32, 3], [0, 1], -1.0, 1.0)
    labels = tf.range(batch) % model.num_classes

    @tf.function(autograph=False)
    def run() -> None:
        made.replica_step(images, labels)
        made.global_step.assign_add(1)

    def timed() -> None:
        run()
        made.global_step.numpy()  # Waits for the step.

    return timed


def measure(
    names: list[str], width: int, batch: int, rounds: int
) -> list[dict[str, Any]]:
    """Times all layers; returns the rows."""
    kinds = {BASELINE: BASELINE, AGAIN: BASELINE}
    kinds |= {name: name for name in names if name != BASELINE}
    steps, first = {}, {}
    for label, layer in kinds.items():
        steps[label] = step(layer, width, batch)
        first[label] = _seconds(steps[label])
        steps[label]()
    times: dict[str, list[float]] = {label: [] for label in kinds}
    for index in range(rounds):
        # To and fro: what comes after what must not tell for one of them.
        for label in [*steps][:: -1 if index % 2 else 1]:
            times[label].append(_seconds(steps[label]))
    rows = []
    for label, mine in times.items():
        ratios = [a / b for a, b in zip(mine, times[BASELINE])]
        rows.append(
            {
                "layer": label,
                "width": width,
                "batch": batch,
                "ratio_to_bn_relu": round(statistics.median(ratios), 3),
                "lowest": round(min(ratios), 3),
                "highest": round(max(ratios), 3),
                "ms": round(statistics.median(mine) * 1e3, 1),
                "first_s": round(first[label], 1),
            }
        )
    return rows


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'layer':20s}{'ratio':>7s}{'lowest':>8s}{'highest':>8s}"
        f"{'ms':>9s}{'first s':>9s}"
    ]
    lines += [
        f"{r['layer']:20s}{r['ratio_to_bn_relu']:7.2f}{r['lowest']:8.2f}"
        f"{r['highest']:8.2f}{r['ms']:9.1f}{r['first_s']:9.1f}"
        for r in rows
    ]
    return "\n".join(lines)


def distance(samples: int) -> list[dict[str, Any]]:
    """Time and memory of one distance, the reference's moments known.

    The features are one batch over and over, a little moved each time, so
    that making them takes next to nothing.

    Args:
      samples: whole batches of them are seen.
    """
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((_BATCH, _FEATURES)).astype(np.float32)
    batch = np.maximum(batch, 0)
    real = Moments.of(rng.standard_normal((4096, _FEATURES), np.float32))
    real.covariance()
    peaks, start = [], time.perf_counter()
    made = Moments(_FEATURES)
    for k in range(samples // _BATCH):
        made.update(np.roll(batch, k, axis=1))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    made.covariance()
    moments = time.perf_counter() - start
    frechet.distance(real, made)
    total = time.perf_counter() - start
    half = peaks[len(peaks) // 2]
    return [
        {
            "samples": made.count,
            "features": _FEATURES,
            "moments_s": round(moments, 2),
            "distance_s": round(total - moments, 2),
            "total_s": round(total, 2),
            # ru_maxrss is in KiB on Linux.
            "growth_in_second_half_mib": round((peaks[-1] - half) / 1024, 1),
        }
    ]


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["evonorm_b0", "evonorm_s0", "gn_relu", "ln_relu", "pn_relu"],
        metavar="LAYER",
    )
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--distance", action="store_true", help="time a distance instead"
    )
    parser.add_argument("--samples", type=int, default=_SAMPLES)
    args = parser.parse_args()
    if args.distance:
        rows = distance(args.samples)
        print("\n".join(f"{k:28} {v}" for k, v in rows[0].items()))
    else:
        names = [catalog.get(name).name for name in args.rows]
        rows = measure(names, args.width, args.batch, args.rounds)
        print(table(rows))
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
