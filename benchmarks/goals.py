"""Performance goals, and how close the recorded figures come to them."""

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks import export_tables
from benchmarks.tables import markdown, read

EVONORMS = tuple(f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2"))
BN_RELU = "bn_relu"
# As `jax_steps` writes it, which imports JAX.
KERAS_BN_RELU = "keras BatchNormalization + ReLU"
NOT_RUN = "*not run*"
HISTORY = "goals-history.json"
# What `benchmarks.targets` writes.
TARGETS = "targets-cpu.json"
# Files of `benchmarks.networks`: small images, large ones, one core.
NETWORKS = (
    "networks-cpu.json",
    "networks-224-cpu.json",
    "networks-cifar-cpu.json",
)

# Folders of the same files of CPU benchmarks, from other processors.
OTHERS = ("intel",)


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


class Goal(NamedTuple):
    """A goal, and the figures that were measured.

    Attributes:
      what: the measure.
      bound: for all layers, or by layer.
      values: by layer; empty if nothing was measured.
      least: whether the bound is the least allowed value, not the most.
    """

    what: str
    bound: float | dict[str, float]
    values: dict[str, float]
    least: bool = False

    def bound_of(self, layer: str) -> float:
        """Returns the bound of a layer."""
        if isinstance(self.bound, dict):
            return self.bound[layer]
        return self.bound

    def worst(self) -> tuple[str, float] | None:
        """Returns the layer furthest from its bound, and its figure."""
        if not self.values:
            return None
        sign = 1.0 if self.least else -1.0
        return min(
            self.values.items(),
            key=lambda item: sign * (item[1] - self.bound_of(item[0])),
        )

    def reached(self) -> bool:
        """Returns whether all layers reach the goal."""
        layer, value = self.worst() or ("", math.nan)
        bound = self.bound_of(layer)
        return value >= bound if self.least else value <= bound

    def line(self) -> list[str]:
        """Returns the goal as a line of the table."""
        which = "at least" if self.least else "at most"
        if isinstance(self.bound, dict):
            bounds = [f"{name} {limit:g}" for name, limit in self.bound.items()]
            bound = f"{which}: {', '.join(bounds)}"
        else:
            bound = f"{which} {self.bound:g}"
        if not self.values:
            return [self.what, bound, NOT_RUN, ""]
        said = ", ".join(f"{name} {v:.3f}" for name, v in self.values.items())
        verdict = "reached" if self.reached() else "**missed**"
        return [self.what, bound, said, verdict]


def _rows(runs: pathlib.Path, name: str) -> list[dict[str, Any]]:
    document = read(runs, name)
    return document["rows"] if document else []


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
    return {
        row["layer"]: row[f"{key}_ratio"]
        for row in _rows(runs, "tpu-chain.json")
        if row["layer"] in EVONORMS and row["dtype"] == "bfloat16"
    }


def _tpu_jax(runs: pathlib.Path, network: str, key: str) -> dict[str, float]:
    rows = _rows(runs, f"tpu-jax-{network}.json")
    found = {row["layer"]: row[key] for row in rows}
    return {
        name: found[name] / found["bn_relu"]
        for name in EVONORMS
        if name in found
    }


def _worst(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Returns the largest figure of each layer or command."""
    result: dict[str, float] = {}
    for name, figure in found:
        result[name] = max(result.get(name, 0.0), figure)
    return result


def processors(runs: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of all processors' figures."""
    return [runs, *(runs / name for name in OTHERS)]


def _cpu(runs: pathlib.Path, name: str) -> dict[str, float]:
    return _worst(
        (row["layer"], row["ratio_to_bn_relu"])
        for folder in processors(runs)
        for row in _rows(folder, name)
        if row["layer"] in EVONORMS
    )


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
    """Returns largest batches on the GPU as ratios to Keras's baseline.

    Returns:
      The ratios by layer; {} if the baseline was not measured.
    """
    document = gpu(runs, "networks")
    found = {
        row["layer"]: row["largest_batch"]
        for row in (document["rows"] if document else [])
        if "largest_batch" in row
    }
    base = found.get(KERAS_BN_RELU)
    return {name: batch / base for name, batch in found.items()} if base else {}


def _networks(
    runs: pathlib.Path,
    name: str,
    network: str,
    to_bn_relu: bool = False,
) -> dict[str, float]:
    found = [
        {
            row["layer"]: row["ratio"]
            for row in _rows(folder, name)
            if row["network"] == network
            and row["layer"] in (BN_RELU, *EVONORMS)
        }
        for folder in processors(runs)
    ]
    if to_bn_relu:
        found = map(_to_bn_relu, found)
    return _worst(pair for one in found for pair in one.items())


def _command(runs: pathlib.Path, name: str, key: str) -> dict[str, float]:
    return _worst(
        (row["command"], row[key])
        for folder in processors(runs)
        for row in _rows(folder, TARGETS)
        if row["command"] == name
    )


def _search(runs: pathlib.Path, speed: str) -> dict[str, float]:
    rows = _rows(runs, "search-cpu.json")
    return {row["speed"]: row["value"] for row in rows if row["speed"] == speed}


def _to_bn_relu(ratios: dict[str, float]) -> dict[str, float]:
    base = ratios.get(BN_RELU, math.nan)
    return {k: v / base for k, v in ratios.items() if k != BN_RELU}


def every(runs: pathlib.Path) -> list[Goal]:
    """Returns all goals with the figures in a folder of JSON files."""
    bn_relu, fused = "relative to bn_relu", "tf_keras BatchNormalization + ReLU"
    on_keras = "Keras's BatchNormalization + ReLU"
    step = {"evonorm_b0": 1.2, "evonorm_s0": 1.1, BN_RELU: 1.0}
    step_224 = {"evonorm_b0": 1.1, "evonorm_s0": 1.05, BN_RELU: 1.0}
    return [
        Goal(
            "CPU, one layer, forward + backward: time relative to "
            f"{fused}, the worse of two sizes",
            1.2,
            _cpu(runs, "layers-cpu.json"),
        ),
        Goal(
            f"CPU, step of ResNet-50, 96 px, batch 8: time relative to {fused}",
            step,
            _networks(runs, NETWORKS[0], "resnet50"),
        ),
        Goal(
            "the same, MobileNetV2",
            step,
            _networks(runs, NETWORKS[0], "mobilenet_v2"),
        ),
        Goal(
            "the same, ResNet-50, 224 px, batch 16",
            step_224,
            _networks(runs, NETWORKS[1], "resnet50"),
        ),
        Goal(
            "CPU, step of mobilenet_v2_cifar, width 0.5, batch 128, one core: "
            f"time {bn_relu}",
            1.2,
            _networks(runs, NETWORKS[2], "mobilenet_v2_cifar", to_bn_relu=True),
        ),
        Goal(
            "TPU compiler, ResNet-50 step, batch 128, bf16: bytes accessed "
            f"{bn_relu}",
            1.02,
            _tpu(runs, "bytes_accessed"),
        ),
        Goal("the same: temporaries", 1.02, _tpu(runs, "temporary_bytes")),
        Goal(
            "TPU compiler, chain of convolutions, all six: bytes accessed",
            1.02,
            _chain(runs, "bytes_accessed"),
        ),
        Goal(
            "the same chain: temporaries",
            1.02,
            _chain(runs, "temporary_bytes"),
        ),
        Goal(
            f"largest ResNet-50 batch on one v5e, {bn_relu}",
            0.98,
            _largest(runs),
            least=True,
        ),
        Goal(
            "JAX, CPU, one layer, forward + backward: time relative to "
            f"{on_keras}, the worse of two sizes",
            1.1,
            _cpu(runs, "layers-jax-cpu.json"),
        ),
        Goal(
            "JAX, TPU compiler, step of ResNet-50, batch 128, bf16: bytes "
            f"accessed {bn_relu}",
            1.02,
            _tpu_jax(runs, "resnet50", "bytes_accessed"),
        ),
        Goal(
            "the same on JAX: temporaries",
            1.02,
            _tpu_jax(runs, "resnet50", "temporary_bytes"),
        ),
        Goal(
            "JAX, TPU compiler, chain of convolutions: bytes accessed",
            1.02,
            _tpu_jax(runs, "chain", "bytes_accessed"),
        ),
        Goal(
            "the same chain on JAX: temporaries",
            1.02,
            _tpu_jax(runs, "chain", "temporary_bytes"),
        ),
        Goal(
            "GPU, ResNet-50 step, batch 128, bf16: time relative to "
            f"{on_keras}",
            1.05,
            _gpu(runs, "networks", "ratio"),
        ),
        Goal("the same: memory", 1.05, _gpu(runs, "networks", "memory_ratio")),
        Goal(
            "the same: largest batch",
            0.98,
            {k: v for k, v in gpu_largest(runs).items() if k in EVONORMS},
            least=True,
        ),
        Goal(
            "GPU, one layer: fraction of copy bandwidth",
            0.7,
            _gpu(runs, "layers", "bandwidth_fraction"),
            least=True,
        ),
        Goal(
            "TensorFlow Lite, int8: latency of one image relative to the "
            "layer's float32 file",
            1.0,
            export_tables.int8_ratios(runs),
        ),
        Goal(
            "the same: top-1 decisions equal to float32 on 250 images",
            0.98,
            export_tables.int8_agreement(runs),
            least=True,
        ),
        Goal(
            "TensorFlow Lite, float32, MobileNetV2: latency of one image "
            f"{bn_relu}",
            1.3,
            export_tables.ratios(runs, "tflite", "mobilenet_v2"),
        ),
        Goal(
            f"ONNX Runtime, ResNet-50: latency of one image {bn_relu}",
            1.3,
            export_tables.ratios(runs, "onnx", "resnet50"),
        ),
        Goal(
            f"ONNX Runtime, MobileNetV2: latency of one image {bn_relu}",
            1.6,
            export_tables.ratios(runs, "onnx", "mobilenet_v2"),
        ),
        Goal(
            "CPU, search: candidates per hour through the 100-step quality "
            "test, two workers",
            6000,
            _search(runs, "candidates/h, 2 workers"),
            least=True,
        ),
        Goal("demo, minutes", 2.5, _command(runs, "demo", "minutes")),
        Goal("tests, minutes", 10, _command(runs, "test", "minutes")),
        Goal(
            "tests, minutes of processors",
            15,
            _command(runs, "test", "processor_minutes"),
        ),
        Goal(
            "tests, memory of all processes together, GB",
            6,
            _command(runs, "test", "gigabytes"),
        ),
    ]


def table(runs: pathlib.Path) -> str:
    """Returns the goals as Markdown."""
    head = ["measure", "goal", "reached", ""]
    return markdown(head, [goal.line() for goal in every(runs)])


def note(runs: pathlib.Path, what: str) -> None:
    """Adds today's figures to the history.

    Args:
      runs: folder of the JSON files.
      what: name of the figures, such as a version and a date.

    Raises:
      ValueError: if the history has that name.
    """
    path = runs / HISTORY
    noted = json.loads(path.read_text()) if path.exists() else {}
    if what in noted:
        raise ValueError(
            "The history of the goals has figures of that name; choose "
            f"another. Received: note={what!r}, file={str(path)!r}"
        )
    noted[what] = {
        goal.what: goal.worst() for goal in every(runs) if goal.values
    }
    path.write_text(json.dumps(noted, indent=1) + "\n")


def history(runs: pathlib.Path) -> str:
    """Returns the figures of all notes as Markdown, one column per note."""
    path = runs / HISTORY
    noted = json.loads(path.read_text()) if path.exists() else {}
    if not noted:
        return NOT_RUN
    measures = [goal.what for goal in every(runs)]
    lines = []
    for what in measures:
        found = [figures.get(what) for figures in noted.values()]
        cells = [f"{one[0]} {one[1]:.3f}" if one else "" for one in found]
        lines.append([what, *cells])
    return markdown(["measure", *noted], lines)
