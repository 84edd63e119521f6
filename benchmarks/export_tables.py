"""Tables and goals of exported files, from the JSON of two benchmarks."""

import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.tables import markdown, read

LATENCY = ("inference-cpu.json", "inference-224-cpu.json")
AGREEMENT = "export-agreement.json"
_OWN = "tflite"  # The format that an int8 file is compared with.


def documents(
    runs: pathlib.Path, names: Sequence[str] = LATENCY
) -> list[dict[str, Any]]:
    """The latency benchmark's documents that exist."""
    return [found for name in names if (found := read(runs, name))]


def _rows(
    runs: pathlib.Path, names: Sequence[str] = LATENCY
) -> list[dict[str, Any]]:
    found = documents(runs, names)
    return [row for document in found for row in document["rows"]]


def _own(row: dict[str, Any]) -> bool:
    """Whether a row compares an int8 file with its layer's float32 file."""
    return row["file"] != _OWN and row["baseline"].endswith(f" {_OWN}")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"


def latency(runs: pathlib.Path, names: Sequence[str] = LATENCY) -> str:
    """Tables latency and size of every network, layer and format."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in _rows(runs, names):
        network = f"{row['network']}, {row['image_size']} px"
        column = "own" if _own(row) else row["form"]
        key = network, row["file"], row["layer"]
        found.setdefault(key, {})[column] = row
    lines = [
        [
            *key,
            f"{columns['folded']['ms']:.2f}",
            _cell(columns["folded"]),
            _cell(columns.get("own")),
            f"{columns['folded']['bytes'] / 1e6:.2f} MB",
        ]
        for key, columns in found.items()
    ]
    head = ["network", "format", "layer", "ms", "relative to bn_relu (range)"]
    head += ["relative to the layer in float32 (range)", "size"]
    return markdown(head, lines)


def agreement(document: dict[str, Any]) -> str:
    """Tables how often a file decides as its network's float32 file."""
    lines = [
        [
            row["layer"],
            row["file"],
            f"{100 * row['agreement']:.1f} %",
            f"{100 * row['accuracy']:.1f} %",
            f"{row['difference']:.1e}",
            f"{row['bytes'] / 1e6:.2f} MB",
        ]
        for row in document["rows"]
    ]
    head = ["layer", "format", "agreement", "accuracy"]
    return markdown([*head, "largest difference", "size"], lines)


def ratios(runs: pathlib.Path, file: str, network: str) -> dict[str, float]:
    """Latency of a format relative to bn_relu, by layer, the worst size."""
    return _worst(
        row
        for row in _rows(runs)
        if (row["file"], row["network"]) == (file, network)
        and row["form"] == "folded"
        and not _own(row)
    )


def int8_ratios(runs: pathlib.Path) -> dict[str, float]:
    """Latency of int8 relative to float32, by layer, the worst network."""
    return _worst(row for row in _rows(runs) if _own(row))


def _worst(rows: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        if row["layer"] != "bn_relu":
            name = row["layer"]
            found[name] = max(found.get(name, 0.0), row["ratio"])
    return found


def int8_agreement(runs: pathlib.Path) -> dict[str, float]:
    """Share of equal decisions of int8 and float32, by layer."""
    document = read(runs, AGREEMENT)
    return {
        row["layer"]: row["agreement"]
        for row in (document["rows"] if document else [])
        if row["file"] == "tflite_int8"
    }
