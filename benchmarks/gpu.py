r"""Cost and accuracy of the layers on a GPU, with Keras on JAX.

    python -m benchmarks.gpu pack cifar10.npz --data=DIR    # needs TFDS's files
    KERAS_BACKEND=jax python -m benchmarks.gpu run --output=docs/runs/gpu \
        --cifar=cifar10.npz [--parts networks layers torch cifar] [--small]
    python -m benchmarks.gpu table docs/runs/gpu

`run` needs JAX and Keras (PyTorch and timm for the part `torch`), and no
TensorFlow. Every part runs in a separate process with a limit in seconds, and
writes its rows to PART.json after each of them, so that finished rows count.

    layers    one layer, forward + backward, bf16, LAYERS of them in a row,
              separated by barriers so that no two are fused; bytes over time
              compared with plain copies
    networks  a training step of ResNet-50, bf16: time, memory, and the batch
              at which the memory of the device is full
    torch     timm's EvoNorms and BatchNorm + ReLU in the same two settings,
              eager and compiled (benchmarks/torch_peers.py)
    cifar     CIFAR-10 from scratch: the studies of STUDIES, with augmentation
              on the device; one recipe for all layers

Ratios are to Keras's own BatchNormalization + ReLU in the same process.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

SEEDS = [0, 1, 2]
# The recipes cifar10/NETWORK-EPOCHS-BATCH of the classification tables.
STUDIES = [
    {
        "network": "mobilenet_v2_cifar",
        "width": 0.25,
        "epochs": 8,
        "batch": 128,
        "layers": {
            "bn_relu": SEEDS,
            "bn_silu": SEEDS,
            "evonorm_b0": SEEDS,
            "evonorm_s0": SEEDS,
        },
    },
    {
        "network": "resnet20_cifar",
        "width": 1.0,
        "epochs": 12,
        "batch": 128,
        "layers": {
            "bn_relu": SEEDS,
            "gn_silu": SEEDS,
            "evonorm_b0": SEEDS,
            "evonorm_s0": SEEDS,
            "bn_silu": SEEDS,
            "gn_relu": SEEDS,
        },
    },
    {
        "network": "resnet20_cifar",
        "width": 1.0,
        "epochs": 30,
        "batch": 128,
        "layers": {
            "gn_silu": SEEDS,
            "evonorm_s0": SEEDS,
            "bn_relu": SEEDS,
            "evonorm_b0": SEEDS,
            "bn_silu": SEEDS,
        },
    },
    {
        "network": "resnet20_cifar",
        "width": 1.0,
        "epochs": 3,
        "batch": 4,
        "layers": {
            "bn_relu": [0],
            "gn_silu": [0],
            "evonorm_b0": [0],
            "evonorm_s0": [0],
        },
    },
]
PARTS = {"layers": 90, "networks": 200, "torch": 90, "cifar": 480}
FULL = {
    "shape": (128, 56, 56, 64),
    "layers": 20,
    "network": "resnet50",
    "batch": 128,
    "size": 224,
    "rounds": 15,
    "studies": STUDIES,
    "jobs": 5,  # trainings at a time; more gained nothing
}
SMALL = {
    "shape": (4, 6, 6, 16),
    "layers": 2,
    "network": "resnet8_cifar",
    "batch": 2,
    "size": 32,
    "rounds": 2,
    "studies": [
        {
            "network": "resnet8_cifar",
            "width": 1.0,
            "epochs": 2,
            "batch": 16,
            "layers": {"bn_relu": [0, 1], "evonorm_s0": [0]},
        }
    ],
    "jobs": 2,
    "examples": 64,
}


class Rows:
    """The rows of a part, written to its file after every one."""

    def __init__(
        self,
        path: pathlib.Path,
        facts: dict[str, Any],
        rows: Sequence[dict[str, Any]] = (),
    ):
        self._path = path
        self._document = {"facts": facts, "rows": [*rows]}

    def add(self, **row: Any) -> None:
        """Appends a row, writes the file and prints the row."""
        self._document["rows"].append(row)
        text = json.dumps(self._document, indent=1) + "\n"
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(text)
        unfinished.replace(self._path)
        print({k: v for k, v in row.items() if k != "curve"}, flush=True)


def pack(path: pathlib.Path, folder: str) -> None:
    """Writes CIFAR-10 as one file, for a machine without TensorFlow."""
    import numpy as np
    import tensorflow_datasets as tfds

    arrays = {}
    for split in ("train", "test"):
        examples = tfds.load(
            "cifar10",
            split=split,
            data_dir=folder,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        found = list(examples.as_numpy_iterator())
        files = [example["image"] for example in found]
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{split}_ends"] = np.cumsum([len(file) for file in files])
        arrays[f"{split}_labels"] = np.array([e["label"] for e in found])
    np.savez(path, **arrays)
    print(f"written: {path}, {path.stat().st_size / 1e6:.1f} MB")


def run(given: argparse.Namespace) -> int:
    """Runs the parts one after another; returns how many failed."""
    given.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for part in given.parts:
        limit = given.limit or PARTS[part]
        command = [sys.executable, "-m", "benchmarks.gpu", "part", part]
        command += ["--output", str(given.output)]
        command += ["--seconds", str(limit - 15)]
        command += ["--cifar", str(given.cifar)] if given.cifar else []
        command += ["--small"] if given.small else []
        command += ["--only", given.only] if given.only else []
        start = time.time()
        print(f"-- {part}, at most {limit} s", flush=True)
        try:
            code = subprocess.run(command, timeout=limit, check=False)
            how = f"exit status {code.returncode}"
            failed += code.returncode != 0
        except subprocess.TimeoutExpired:
            how, failed = "stopped at its limit", failed + 1
        print(f"-- {part}: {how}, {time.time() - start:.0f} s", flush=True)
    return failed


def part(given: argparse.Namespace) -> None:
    """Runs one part in this process."""
    sizes = SMALL if given.small else FULL
    path = given.output / f"{given.part}.json"
    deadline = time.time() + given.seconds
    if given.part == "torch":
        from benchmarks import torch_peers

        torch_peers.measure(sizes, lambda facts: Rows(path, facts), deadline)
        return
    if given.part == "cifar":  # Its processes share the memory.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    from benchmarks import jax_cifar, jax_steps

    facts = jax_steps.facts() | {"sizes": sizes}
    if given.part == "cifar":
        known = _known(path, facts)
        rows = Rows(path, facts, known)
        jobs = jax_cifar.missing(sizes["studies"], given.only, known)
        jax_cifar.measure(
            sizes | {"studies": jobs}, given.cifar, rows, deadline
        )
    else:
        rows = Rows(path, facts)
        measure = {
            "layers": jax_steps.measure_layers,
            "networks": jax_steps.measure_networks,
        }[given.part]
        measure(sizes, rows, deadline)


def _known(path: pathlib.Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Reads the rows of an earlier run, which must be of the same device."""
    if not path.exists():
        return []
    document = json.loads(path.read_text())
    was, now = document["facts"].get("device"), facts["device"]
    if was != now:
        sys.exit(
            f"{path} has to be of this device to be continued. Received: "
            f"{was!r} there, {now!r} here. How to fix it: another --output"
        )
    return document["rows"]


def table(folder: pathlib.Path) -> str:
    """Returns the rows of all parts as text."""
    lines = []
    for name in PARTS:
        path = folder / f"{name}.json"
        if not path.exists():
            lines.append(f"{name}: not run")
            continue
        document = json.loads(path.read_text())
        lines.append(f"{name}: {document['facts'].get('device')}")
        for row in document["rows"]:
            cells = [f"{k}={v}" for k, v in row.items() if k != "curve"]
            lines.append("  " + " ".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="write CIFAR-10 as one file")
    packing.add_argument("file", type=pathlib.Path)
    packing.add_argument("--data", required=True, help="TFDS's data_dir")
    running = verbs.add_parser("run", help="run all parts, each in its limit")
    running.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    running.add_argument("--limit", type=int, help="seconds for each part")
    single = verbs.add_parser("part", help="run one part, in this process")
    single.add_argument("part", choices=PARTS)
    single.add_argument("--seconds", type=float, default=1e9)
    for one in (running, single):
        one.add_argument("--output", type=pathlib.Path, required=True)
        one.add_argument("--cifar", type=pathlib.Path, help="file of `pack`")
        one.add_argument("--small", action="store_true", help="for a CPU")
        one.add_argument("--only", default="", help="pattern of STUDY/LAYER")
    tabled = verbs.add_parser("table", help="print the results of a run")
    tabled.add_argument("folder", type=pathlib.Path)
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if given.verb == "pack":
        pack(given.file, given.data)
    elif given.verb == "run":
        sys.exit(run(given))
    elif given.verb == "part":
        part(given)
    else:
        print(table(given.folder))


if __name__ == "__main__":
    main()
