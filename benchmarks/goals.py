"""Performance goals, and whether the recorded figures reach them."""

import json
import pathlib
from typing import Any

from benchmarks import export_tables

EVONORMS = tuple(f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2"))
NOT_RUN = "*not run*"


def preflights(runs: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads the preflights of ResNet-50, tpu-r50-LAYER.json, by layer."""
    names = ("bn_relu", "evonorm_b0", "evonorm_s0")
    files = {name: runs / f"tpu-r50-{name}.json" for name in names}
    return {
        name: json.loads(path.read_text())
        for name, path in files.items()
        if path.exists()
    }


def steps(documents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the compiled steps of all preflights, by layer."""
    found: dict[str, dict[str, Any]] = {}
    for document in documents.values():
        found |= document["steps"]
    return dict(sorted(found.items()))


def _verdict(values: dict[str, float], goal: float, least: bool) -> list[str]:
    """Formats the values, and whether all of them reach the goal."""
    if not values:
        return [NOT_RUN, ""]
    met = [v >= goal if least else v <= goal for v in values.values()]
    said = ", ".join(f"{name} {v:.3f}" for name, v in values.items())
    return [said, "reached" if all(met) else "**missed**"]


def _tpu(runs: pathlib.Path, key: str) -> dict[str, float]:
    found = steps(preflights(runs))
    base = found.get("bn_relu")
    if base is None:
        return {}
    return {
        name: found[name][key] / base[key] for name in EVONORMS if name in found
    }


def _largest(runs: pathlib.Path) -> dict[str, float]:
    found = {
        name: document["largest_batch"]["batch"]
        for name, document in preflights(runs).items()
        if "largest_batch" in document
    }
    base = found.pop("bn_relu", None)
    return {name: v / base for name, v in found.items()} if base else {}


def _chain(runs: pathlib.Path, key: str) -> dict[str, float]:
    path = runs / "tpu-chain.json"
    if not path.exists():
        return {}
    return {
        row["layer"]: row[f"{key}_ratio"]
        for row in json.loads(path.read_text())["rows"]
        if row["layer"] in EVONORMS and row["dtype"] == "bfloat16"
    }


def _tpu_jax(runs: pathlib.Path, network: str, key: str) -> dict[str, float]:
    path = runs / f"tpu-jax-{network}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    found = {row["layer"]: row[key] for row in rows}
    return {
        name: found[name] / found["bn_relu"]
        for name in EVONORMS
        if name in found
    }


def _cpu(runs: pathlib.Path, name: str) -> dict[str, float]:
    path = runs / name
    found: dict[str, float] = {}
    for row in json.loads(path.read_text())["rows"] if path.exists() else []:
        if row["layer"] in EVONORMS:
            ratio = max(found.get(row["layer"], 0.0), row["ratio_to_bn_relu"])
            found[row["layer"]] = ratio
    return found


def gpu(runs: pathlib.Path, part: str) -> dict[str, Any] | None:
    """Reads a part of benchmarks/gpu.py; None if it was not run."""
    path = runs / "gpu" / f"{part}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _gpu(runs: pathlib.Path, part: str, key: str) -> dict[str, float]:
    document = gpu(runs, part)
    return {
        row["layer"]: row[key]
        for row in (document["rows"] if document else [])
        if row["layer"] in EVONORMS and key in row
    }


def gpu_largest(runs: pathlib.Path) -> dict[str, float]:
    """Returns largest batches on the GPU as ratios to Keras's baseline."""
    document = gpu(runs, "networks")
    found = {
        row["layer"]: row["largest_batch"]
        for row in (document["rows"] if document else [])
        if "largest_batch" in row
    }
    base = next(iter(found.values()), 1)
    return {name: batch / base for name, batch in found.items()}


def _exports(runs: pathlib.Path) -> list[tuple[str, float, bool, dict]]:
    """The goals of exported files, as `rows` has them."""
    found = [
        (
            "TensorFlow Lite, int8: latency of one image relative to the "
            "layer's float32 file",
            1.0,
            False,
            export_tables.int8_ratios(runs),
        ),
        (
            "the same: top-1 decisions equal to float32 on 250 images",
            0.98,
            True,
            export_tables.int8_agreement(runs),
        ),
    ]
    latencies = (
        (
            "TensorFlow Lite, float32, MobileNetV2",
            "tflite",
            "mobilenet_v2",
            1.3,
        ),
        ("ONNX Runtime, ResNet-50", "onnx", "resnet50", 1.3),
        ("ONNX Runtime, MobileNetV2", "onnx", "mobilenet_v2", 1.6),
    )
    for what, file, network, goal in latencies:
        measured = export_tables.ratios(runs, file, network)
        what = f"{what}: latency of one image relative to bn_relu"
        found.append((what, goal, False, measured))
    return found


def rows(runs: pathlib.Path) -> list[list[str]]:
    """Returns the rows (measure, goal, reached, verdict) of the table.

    Args:
      runs: folder of the benchmarks' JSON files.
    """
    measured = (
        (
            "CPU, one layer, forward + backward: time relative to tf_keras "
            "BatchNormalization + ReLU, the worse of two sizes",
            1.2,
            False,
            _cpu(runs, "layers-cpu.json"),
        ),
        (
            "TPU compiler, ResNet-50 step, batch 128, bf16: bytes accessed "
            "relative to bn_relu",
            1.02,
            False,
            _tpu(runs, "bytes_accessed"),
        ),
        ("the same: temporaries", 1.02, False, _tpu(runs, "temporary_bytes")),
        (
            "TPU compiler, chain of convolutions, all six: bytes accessed",
            1.02,
            False,
            _chain(runs, "bytes_accessed"),
        ),
        (
            "the same chain: temporaries",
            1.02,
            False,
            _chain(runs, "temporary_bytes"),
        ),
        (
            "largest ResNet-50 batch on one v5e, relative to bn_relu",
            0.98,
            True,
            _largest(runs),
        ),
        (
            "JAX, CPU, one layer, forward + backward: time relative to "
            "Keras's BatchNormalization + ReLU, the worse of two sizes",
            1.1,
            False,
            _cpu(runs, "layers-jax-cpu.json"),
        ),
        (
            "JAX, TPU compiler, step of ResNet-50, batch 128, bf16: bytes "
            "accessed relative to bn_relu",
            1.02,
            False,
            _tpu_jax(runs, "resnet50", "bytes_accessed"),
        ),
        (
            "the same on JAX: temporaries",
            1.02,
            False,
            _tpu_jax(runs, "resnet50", "temporary_bytes"),
        ),
        (
            "JAX, TPU compiler, chain of convolutions: bytes accessed",
            1.02,
            False,
            _tpu_jax(runs, "chain", "bytes_accessed"),
        ),
        (
            "the same chain on JAX: temporaries",
            1.02,
            False,
            _tpu_jax(runs, "chain", "temporary_bytes"),
        ),
        (
            "GPU, ResNet-50 step, batch 128, bf16: time relative to Keras's "
            "BatchNormalization + ReLU",
            1.05,
            False,
            _gpu(runs, "networks", "ratio"),
        ),
        (
            "the same: memory",
            1.05,
            False,
            _gpu(runs, "networks", "memory_ratio"),
        ),
        (
            "the same: largest batch",
            0.98,
            True,
            {k: v for k, v in gpu_largest(runs).items() if k in EVONORMS},
        ),
        (
            "GPU, one layer: fraction of copy bandwidth",
            0.7,
            True,
            _gpu(runs, "layers", "bandwidth_fraction"),
        ),
        *_exports(runs),
    )
    return [
        [
            what,
            f"at {'least' if least else 'most'} {goal:g}",
            *_verdict(values, goal, least),
        ]
        for what, goal, least, values in measured
    ]
