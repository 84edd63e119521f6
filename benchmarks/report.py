"""Writes docs/performance.md and benchmarks/README.md from docs/runs.

    python -m benchmarks.report [--runs docs/runs]

Every figure comes from a JSON file that a benchmark wrote. Missing runs are
marked *not run*, and missed goals as missed. The tables in README and
docs/export.md are updated too.
"""

import argparse
import ast
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from benchmarks import export_tables, goals
from benchmarks.tables import markdown, read
from training.report import measured

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAYERS = "layers-cpu.json"
INPUT = "input-cpu.json"
CHAIN = "tpu-chain.json"
JAX_LAYERS = "layers-jax-cpu.json"
JAX_CHAIN = "tpu-jax-chain.json"
JAX_RESNET50 = "tpu-jax-resnet50.json"
NOT_RUN = "*Not run.*"
# The rows of the table in README.
_SHOWN = ["tf_keras BatchNormalization + ReLU"]
_SHOWN += [f"evonorm_{k}" for k in ("b0", "b1", "b2", "s0", "s1", "s2")]
_SHOWN += ["bn_relu", "gn_relu"]


def layers(document: dict[str, Any], shown: list[str] | None = None) -> str:
    """Tables time and memory of single layers on CPU.

    Args:
      document: what `benchmarks.layers` wrote.
      shown: the rows of a short table without autodiff; None for all.
    """
    rows = document["rows"]
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    found = {(row["layer"], tuple(row["shape"])): row for row in rows}
    base = {s: found[_SHOWN[0], s]["kept_bytes"] for s in shapes}
    lines = []
    for name in shown or dict.fromkeys(row["layer"] for row in rows):
        each = [found[name, shape] for shape in shapes]
        faster = [r["ratio_to_autodiff"] for r in each]
        kept = [r["kept_bytes"] / base[tuple(r["shape"])] for r in each]
        others = [
            r["kept_bytes_autodiff"] and r["kept_bytes_autodiff"] / base[s]
            for r, s in zip(each, shapes, strict=True)
        ]
        lines.append(
            [
                name,
                *(f"{r['ratio_to_bn_relu']:.2f}" for r in each),
                ", ".join(f"{1 / f:.1f}x" for f in faster if f),
                f"{max(kept):.3f}",
                f"{max(others):.1f}" if all(others) else "",
            ]
        )
    head = ["layer", *(f"time, {list(s)}" for s in shapes)]
    head += ["speedup over autodiff", "saved", "saved by autodiff"]
    if shown:
        keep = [*range(len(shapes) + 1), len(head) - 2]
        head, *lines = [[line[i] for i in keep] for line in [head, *lines]]
    return markdown(head, lines)


def summary(runs: pathlib.Path) -> tuple[str, str]:
    """Tables the times of layers and of ResNet-50 steps.

    Returns:
      The table, and what its columns are and where they were measured.
    """
    columns: dict[str, dict[str, float]] = {}
    notes = []
    for file, name, base in (
        (LAYERS, "CPU, layer", "tf_keras's fused layers"),
        (JAX_LAYERS, "CPU on JAX, layer", "Keras's layers"),
    ):
        single = read(runs, file)
        if not single:
            continue
        for row in single["rows"]:
            column = columns.setdefault(f"{name}, {row['shape']}", {})
            column[row["layer"]] = row["ratio_to_bn_relu"]
        notes.append(
            f"{name}: one layer in float32, relative to {base}; "
            + machine(single)
        )
    whole = read(runs, "networks-224-cpu.json")
    if whole:
        columns["CPU, ResNet-50"] = {
            row["layer"]: row["ratio"] for row in whole["rows"]
        }
        notes.append(
            f"CPU, ResNet-50: a training step, {whole['rows'][0]['shape']}, "
            f"relative to tf_keras's fused layers; {machine(whole)}"
        )
    for part, name, what in (
        ("layers", "GPU, layer", "one layer in bf16, {shape}"),
        (
            "networks",
            "GPU, ResNet-50",
            "a training step in bf16, {batch} images of {size} pixels, with "
            "the layers of an earlier commit ([GPU](#gpu))",
        ),
    ):
        document = goals.gpu(runs, part)
        if document:
            columns[name] = {
                row["layer"]: row["ratio"]
                for row in document["rows"]
                if "ratio" in row
            }
            what = what.format(**document["facts"]["sizes"])
            notes.append(
                f"{name}: {what}, relative to Keras's layers; "
                f"{gpu_machine(document)}."
            )
    lines = [
        [
            name,
            *(f"{c[name]:.2f}" if name in c else "" for c in columns.values()),
        ]
        for name in _SHOWN[1:]
    ]
    table = markdown(["layer", *columns], lines)
    return table, "\n".join(f"- {note}" for note in notes)


def others(runs: pathlib.Path) -> str:
    """Tables the same layers and networks on the other processors."""
    found = []
    for name in goals.OTHERS:
        single = read(runs / name, LAYERS)
        if single:
            found += [
                f"### {single['machine']['processor']}",
                f"Layers: {machine(single)}",
                layers(single, _SHOWN),
                f"Networks:\n\n{networks(runs / name)}",
            ]
    return "\n\n".join(found) or NOT_RUN


def whole_commands(runs: pathlib.Path) -> str:
    """Tables what the tests and the demo take, on every processor tried."""
    found = [d for f in goals.processors(runs) if (d := read(f, goals.TARGETS))]
    lines = [
        [
            document["machine"]["processor"],
            {"test": "`make test`", "demo": "the demo"}[row["command"]],
            f"{row['minutes']:.1f}",
            f"{row['processor_minutes']:.1f}",
            f"{row['gigabytes']:.1f}",
        ]
        for document in found
        for row in document["rows"]
    ]
    head = ["processor, 2 cores", "command", "minutes", "of processors", "GB"]
    return markdown(head, lines) if lines else NOT_RUN


def networks(runs: pathlib.Path) -> str:
    """Tables training steps of whole networks on CPU."""
    found = [d for name in goals.NETWORKS if (d := read(runs, name))]
    if not found:
        return NOT_RUN
    lines = [
        [
            f"{row['network']}, width {row['width']:g}",
            str(row["shape"]),
            row["layer"],
            f"{row['ratio']:.2f}",
            f"{row['lowest']:.2f} to {row['highest']:.2f}",
            str(document["machine"]["cores"]),
        ]
        for document in found
        for row in document["rows"]
    ]
    head = ["network", "batch", "layer", "ratio", "range of rounds", "cores"]
    machines = [
        f"- {row['shape']}: {machine(document)}"
        for document in found
        for row in document["rows"][:1]
    ]
    return "\n\n".join([markdown(head, lines), "\n".join(machines)])


def pipeline(document: dict[str, Any]) -> str:
    """Tables images per second of the training input."""
    lines = [
        [
            row["case"],
            row["whose"],
            f"{row['images_per_second']:.0f}",
            f"{row['ratio_to_model_garden']:.2f}",
        ]
        for row in document["rows"]
    ]
    return markdown(["input", "pipeline", "images/s", "ratio"], lines)


def chain(document: dict[str, Any]) -> str:
    """Tables the TPU compiler's figures of a chain of convolutions."""
    lines = [
        [
            row["layer"],
            row["dtype"],
            f"{row['bytes_accessed'] / 1e9:.2f} GB",
            f"{row['bytes_accessed_ratio']:.3f}",
            f"{row['temporary_bytes'] / 1e6:.0f} MB",
            f"{row['temporary_bytes_ratio']:.3f}",
            f"{row['seconds_estimate_ratio']:.3f}",
        ]
        for row in document["rows"]
    ]
    head = ["layer", "dtype", "accessed", "ratio", "temporaries", "ratio"]
    return markdown([*head, "estimate, ratio"], lines)


def preflights(documents: dict[str, dict[str, Any]]) -> str:
    """Tables the TPU compiler's figures of ResNet-50 steps."""
    steps = goals.steps(documents)
    if "bn_relu" not in steps:
        return NOT_RUN
    base = steps["bn_relu"]
    lines = []
    for name, step in steps.items():
        largest = documents.get(name, {}).get("largest_batch")
        lines.append(
            [
                name,
                f"{step['bytes_accessed'] / 1e9:.1f} GB",
                f"{step['bytes_accessed'] / base['bytes_accessed']:.3f}",
                f"{step['temporary_bytes'] / 2**30:.2f} GiB",
                f"{step['temporary_bytes'] / base['temporary_bytes']:.3f}",
                f"{step['seconds_estimate'] / base['seconds_estimate']:.3f}",
                str(largest["batch"]) if largest else "",
            ]
        )
    head = ["layer", "accessed", "ratio", "temporaries", "ratio"]
    return markdown([*head, "estimate, ratio", "largest batch"], lines)


def jax_layers(document: dict[str, Any] | None) -> str:
    """Tables times and temporaries of single layers on JAX and a CPU."""
    if document is None:
        return NOT_RUN
    found: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        found.setdefault(row["layer"], []).append(row)
    first = next(iter(found.values()))
    lines = [
        [
            name,
            *(f"{row['ratio_to_bn_relu']:.2f}" for row in each),
            *(f"{row['temporary_bytes'] / 1e6:.1f} MB" for row in each),
        ]
        for name, each in found.items()
    ]
    shapes = [row["shape"] for row in first]
    head = ["layer", *(f"time, {shape}" for shape in shapes)]
    return markdown([*head, *(f"temporaries, {s}" for s in shapes)], lines)


def jax_tpu(document: dict[str, Any] | None) -> str:
    """Tables the TPU compiler's figures of a step on JAX."""
    if document is None:
        return NOT_RUN
    found = {row["layer"]: row for row in document["rows"]}
    base = found["bn_relu"]
    lines = [
        [
            name,
            f"{row['bytes_accessed'] / 1e9:.2f} GB",
            f"{row['bytes_accessed'] / base['bytes_accessed']:.3f}",
            f"{row['temporary_bytes'] / 1e6:.0f} MB",
            f"{row['temporary_bytes'] / base['temporary_bytes']:.3f}",
            f"{row['seconds_estimate'] / base['seconds_estimate']:.3f}",
        ]
        for name, row in found.items()
    ]
    head = ["layer", "accessed", "ratio", "temporaries", "ratio"]
    return markdown([*head, "estimated time, ratio"], lines)


def gpu_layers(document: dict[str, Any] | None) -> str:
    """Tables single layers on a GPU."""
    if document is None:
        return NOT_RUN
    lines = [
        [
            row["layer"],
            f"{1e3 * row['ms_per_layer']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['bandwidth_fraction']:.2f}",
        ]
        for row in document["rows"]
        if "ratio" in row
    ]
    head = ["layer", "time, µs", "ratio", "fraction of copy bandwidth"]
    return markdown(head, lines)


def gpu_networks(runs: pathlib.Path) -> str:
    """Tables training steps of ResNet-50 on a GPU."""
    document = goals.gpu(runs, "networks")
    if document is None:
        return NOT_RUN
    largest = {
        row["layer"]: row["largest_batch"]
        for row in document["rows"]
        if "largest_batch" in row
    }
    to_base = goals.gpu_largest(runs)
    lines = []
    for row in document["rows"]:
        if "ms" not in row:
            continue
        name = row["layer"]
        lines.append(
            [
                name,
                f"{row['ms']:.1f} ms",
                f"{row['ratio']:.2f}",
                f"{row['memory_bytes'] / 2**30:.2f} GiB",
                f"{row['memory_ratio']:.2f}",
                str(largest.get(name, "")),
                f"{to_base[name]:.2f}" if name in to_base else "",
            ]
        )
    head = ["layer", "time", "ratio", "memory", "ratio"]
    return markdown([*head, "largest batch", "ratio"], lines)


def gpu_cifar(documents: list[dict[str, Any]]) -> str:
    """Tables CIFAR-10 accuracies on a GPU, one column per seed."""
    rows = [row for document in documents for row in document["rows"]]
    if not rows:
        return NOT_RUN
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    for row in rows:
        key = measured.study(row), row["layer"]
        seeds = found.setdefault(key, {})
        seeds.setdefault(row["seed"], []).append(f"{row['accuracy']:.2f}")
    count = range(1 + max(row["seed"] for row in rows))
    lines = [
        [*names, *(", ".join(seeds.get(s, ["*not run*"])) for s in count)]
        for names, seeds in found.items()
    ]
    return markdown(["", "layer", *(f"seed {s}" for s in count)], lines)


def gpu_torch(document: dict[str, Any] | None) -> str:
    """Tables timm's layers on a GPU."""
    if document is None:
        return NOT_RUN
    lines = [
        [row["kind"], row["layer"], row["mode"], f"{row['ms']:.2f} ms"]
        + [f"{row['ratio']:.2f}"]
        for row in document["rows"]
    ]
    return markdown(["what", "layer", "mode", "time", "ratio"], lines)


def gpu_machine(document: dict[str, Any] | None) -> str:
    """Describes the device and versions of a part of benchmarks/gpu.py."""
    if document is None:
        return NOT_RUN
    facts = document["facts"]
    device = facts["device"].partition(": ")[2]
    return f"{device}, JAX {facts['jax']}, Keras {facts['keras']}"


def machine(document: dict[str, Any]) -> str:
    """Describes the machine of a CPU benchmark."""
    found = document["machine"]
    backends = {"tensorflow": "TensorFlow", "jax": "JAX"}
    versions = [f"{backends[k]} {found[k]}" for k in backends if k in found]
    cores = f"{found['cores']} core{'s' * (found['cores'] > 1)}"
    return (
        f"{cores}, {found['processor']}, {', '.join(versions)}, "
        f"load average {found['load_average']:.1f}."
    )


def page(runs: pathlib.Path) -> str:
    """Returns the text of docs/performance.md."""
    single = read(runs, LAYERS)
    six = read(runs, CHAIN)
    steps = goals.preflights(runs)
    on_jax = read(runs, JAX_LAYERS)
    text = (ROOT / "benchmarks" / "performance.md.in").read_text()
    shown, where = summary(runs)
    parts = {
        "summary": shown,
        "summary_machines": where,
        "goals": goals.table(runs),
        "history": goals.history(runs),
        "layers": layers(single),
        "layers_machine": machine(single),
        "networks": networks(runs),
        "others": others(runs),
        "commands": whole_commands(runs),
        "inference": latency(runs),
        "agreement": agreement(runs),
        "input": pipeline(read(runs, INPUT)),
        "chain": chain(six),
        "chain_what": f"{six['topology']}, {six['shape']}, "
        f"libtpu {six['libtpu']}",
        "preflights": preflights(steps),
        "jax_layers": jax_layers(on_jax),
        "jax_layers_machine": machine(on_jax) if on_jax else NOT_RUN,
        "jax_chain": jax_tpu(read(runs, JAX_CHAIN)),
        "jax_resnet50": jax_tpu(read(runs, JAX_RESNET50)),
        "gpu_machine": gpu_machine(goals.gpu(runs, "networks")),
        "gpu_layers": gpu_layers(goals.gpu(runs, "layers")),
        "gpu_networks": gpu_networks(runs),
        "gpu_cifar": gpu_cifar(measured.gpu_documents(runs)),
        "gpu_torch": gpu_torch(goals.gpu(runs, "torch")),
    }
    for name, value in parts.items():
        text = text.replace(f"@{name}@", value)
    return text


def latency(
    runs: pathlib.Path, names: Sequence[str] = export_tables.LATENCY
) -> str:
    """Tables the latency of exported files, after the machines' names."""
    documents = export_tables.documents(runs, names)
    machines = [
        f"- {row['image_size']} px: {machine(each)}"
        for each in documents
        for row in each["rows"][:1]
    ]
    if not machines:
        return NOT_RUN
    table = export_tables.latency(runs, names)
    return "\n\n".join(["\n".join(machines), table])


def agreement(runs: pathlib.Path) -> str:
    """Tables the decisions of exported files, or says that none were run."""
    document = read(runs, export_tables.AGREEMENT)
    return export_tables.agreement(document) if document else NOT_RUN


def marked(runs: pathlib.Path) -> list[tuple[str, str, str]]:
    """Returns the tables within other pages: (path, name, table)."""
    return [
        ("README.md", "layers", layers(read(runs, LAYERS), _SHOWN)),
        # Of whole networks.
        ("docs/export.md", "latency", latency(runs, export_tables.LATENCY[1:])),
        ("docs/export.md", "agreement", agreement(runs)),
    ]


def filled(text: str, name: str, table: str) -> str:
    """Returns a page with a table between the markers of its name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{table}\n{end}{after}"


def commands() -> str:
    """Returns the text of benchmarks/README.md."""
    lines = [
        "# Benchmarks",
        "",
        "Each benchmark writes JSON with `--json`. `python -m "
        "benchmarks.report` generates "
        "[docs/performance.md](../docs/performance.md), this page and the "
        "table in README from these files. Run benchmarks on an idle "
        "machine: ratios within one run tolerate some load, absolute times do "
        "not.",
    ]
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        about = ast.get_docstring(ast.parse(path.read_text())) or ""
        if f"python -m benchmarks.{path.stem}" not in about:
            continue
        title, _, rest = about.partition("\n\n")
        block = rest.partition("\n\n")[0]
        # Docstrings continue a long command on the next line, indented.
        command = "\n".join(
            re.sub(" +--", " --", line.strip()) for line in block.splitlines()
        )
        lines += ["", f"**{path.stem}**: {title}", "", "```", command, "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=pathlib.Path, default=ROOT / "docs" / "runs"
    )
    parser.add_argument(
        "--note",
        metavar="NAME",
        help="add the goals' figures to their history, as NAME",
    )
    given = parser.parse_args()
    if given.note:
        goals.note(given.runs, given.note)
    (ROOT / "docs" / "performance.md").write_text(page(given.runs))
    (ROOT / "benchmarks" / "README.md").write_text(commands())
    for path, name, table in marked(given.runs):
        (ROOT / path).write_text(filled((ROOT / path).read_text(), name, table))


if __name__ == "__main__":
    main()
