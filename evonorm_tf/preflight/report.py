"""The result of a preflight, as data and as text."""

import dataclasses
from collections.abc import Callable
from typing import Any

from evonorm_tf.preflight import tpu
from evonorm_tf.preflight.module import Module

GIB = 2**30
# XLA reserves part of a chip's memory: it offers 15.75 of a v5e's 16 GiB.
_RESERVED = 0.25 * GIB
_STEP = 8  # batches are multiples of it
_FULL = 0.97  # fraction of the memory that a largest batch must use
_CLOSE = 1.02  # ratio of a batch that does not fit to the largest that does
_TRIALS = 10  # maximum number of compilations to find it
_NONE = "no norm_act"

# Maps (layer, batch per chip) to the module of the step; the layer is None for
# the network without norm_act layers.
Build = Callable[[str | None, int], Module]


@dataclasses.dataclass(frozen=True)
class Request:
    """A requested preflight.

    Attributes:
      build: creates the module of the step.
      layer: the catalog name of the layer.
      batch: examples per step on one chip.
      topology: as libtpu names it, "v5e:2x2".
      baseline: a layer for comparison; the network without norm_act layers is
        compiled too. None for the step alone.
      largest: whether to find the largest batch that fits.
    """

    build: Build
    layer: str
    batch: int
    topology: str
    baseline: str | None = "bn_relu"
    largest: bool = True


def run(
    request: Request, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Compiles the step and, with a baseline, that and the bare network.

    Args:
      request: what to compile.
      say: called with progress messages; a large network compiles for
        minutes.

    Returns:
      The report: a JSON object, which `as_text` formats as a table.

    Raises:
      ValueError: if the topology or the step is invalid.
      CompilerError: if the compiler rejects the step.
    """
    tpu.chip(request.topology)
    others = [] if request.baseline is None else [request.baseline, None]
    names = dict.fromkeys([request.layer, *others])
    rows = {}
    for name in names:
        label = name or _NONE
        say(f"compiling for {request.topology}: {label}")
        module = request.build(name, request.batch)
        rows[label] = _measure(module, request.topology)
    report = {
        "topology": request.topology,
        "chips": tpu.chips(request.topology),
        "chip_memory_bytes": tpu.CHIP_MEMORY[tpu.chip(request.topology)] * GIB,
        "batch": request.batch,
        "layer": request.layer,
        "baseline": request.baseline,
        "steps": rows,
    }
    if request.largest and rows[request.layer]["fits"]:
        report["largest_batch"] = largest_batch(request, rows, say)
    return report


def _measure(module: Module, topology: str) -> dict[str, Any]:
    figures = dict(tpu.compile_text(module.text, topology))
    if figures["fits"]:
        figures["total_bytes"] = (
            figures["argument_bytes"]
            + figures["output_bytes"]
            - figures["alias_bytes"]
            + figures["temporary_bytes"]
            + figures["program_bytes"]
        )
    figures["state_bytes"] = sum(value.bytes for value in module.state)
    figures["module"] = module.key
    return figures


def largest_batch(
    request: Request,
    rows: dict[str, dict[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Finds the largest batch of the layer that fits one chip.

    Memory is almost linear in the batch: two compilations determine the line,
    and a third confirms its prediction. If that leaves more than 3 % of the
    chip unused, the line is fitted again through the new point, because the
    compiler saves memory when it must. If it does not fit, bisection follows
    until less than 2 % is undecided.

    Args:
      request: what to compile.
      rows: what was compiled already.
      say: called with progress messages.

    Returns:
      batch and total_bytes of the largest batch that compiled and fits.
    """
    memory = tpu.CHIP_MEMORY[tpu.chip(request.topology)] * GIB - _RESERVED
    used = {request.batch: rows[request.layer]["total_bytes"]}
    refused = 2**31
    batch = _multiple(request.batch // 2)
    if batch == request.batch:
        batch *= 2
    for _ in range(_TRIALS):
        say(f"compiling for {request.topology}: batch {batch}")
        module = request.build(request.layer, batch)
        found = _measure(module, request.topology)
        if found["fits"]:
            used[batch] = found["total_bytes"]
        else:
            refused = min(refused, batch)
        best = max(used)
        full = used[best] > _FULL * memory or refused <= _CLOSE * best
        if len(used) > 1 and full:
            break
        if len(used) > 1:
            low, high = sorted(used)[-2:]
            slope = max((used[high] - used[low]) / (high - low), 1.0)
            batch = high + int((memory - used[high]) / slope)
        # At most half way to a batch that did not fit.
        batch = _multiple(min(batch, (best + refused) // 2))
        if batch in used or batch >= refused:
            break
    return {"batch": best, "total_bytes": used[best]}


def _multiple(batch: int) -> int:
    return max(_STEP, batch // _STEP * _STEP)


def as_text(report: dict[str, Any]) -> str:
    """Formats the report as text."""
    memory = report["chip_memory_bytes"] / GIB
    lines = [
        f"Preflight for {report['topology']}: {report['chips']} chips of "
        f"{memory:.0f} GiB, {report['batch']} examples per step on each. One "
        "chip's step is compiled; the all-reduce over chips is not in "
        "it.",
        "",
        f"{'':18}{'compiles':>9}{'total':>10}{'state':>10}{'temporary':>11}"
        f"{'FLOP':>10}{'accessed':>10}{'estimate':>10}",
    ]
    steps = report["steps"]
    lines += [_line(name, figures) for name, figures in steps.items()]
    if report["baseline"] is not None:
        lines += [_line(f"  / {report['baseline']}", None, _ratios(report))]
    layer, bare = steps[report["layer"]], steps.get(_NONE)
    if bare is not None and layer["fits"] and bare["fits"]:
        shares = [
            f"{_share(layer, bare, key):.0%} of {words}"
            for key, words in (
                ("bytes_accessed", "the bytes accessed"),
                ("temporary_bytes", "the temporaries"),
                ("seconds_estimate", "the estimated time"),
            )
        ]
        lines += ["", f"Caused by {report['layer']}: {', '.join(shares)}."]
    if "largest_batch" in report:
        found = report["largest_batch"]
        lines += [
            f"Largest batch per chip: {found['batch']} "
            f"({found['total_bytes'] / GIB:.2f} GiB)."
        ]
    lines += [
        f"{name} does not fit: {figures['message'].splitlines()[0]}"
        for name, figures in steps.items()
        if not figures["fits"]
    ]
    return "\n".join(lines)


_COLUMNS = (
    ("total_bytes", 10, GIB, "GiB"),
    ("state_bytes", 10, GIB, "GiB"),
    ("temporary_bytes", 11, GIB, "GiB"),
    ("flops", 10, 1e12, "T"),
    ("bytes_accessed", 10, 1e9, "GB"),
    ("seconds_estimate", 10, 1e-3, "ms"),
)


def _line(name: str, figures: dict | None, ratios: dict | None = None) -> str:
    cells = [f"{name:18}"]
    if figures is None:
        cells.append(f"{'':9}")
        cells += [f"{ratios[k]:>{w}.3f}" for k, w, _, _ in _COLUMNS]
        return "".join(cells)
    cells.append(f"{'yes' if figures['fits'] else 'no room':>9}")
    for key, width, unit, sign in _COLUMNS:
        text = f"{figures[key] / unit:.2f} {sign}" if key in figures else "-"
        cells.append(f"{text:>{width}}")
    return "".join(cells)


def _ratios(report: dict[str, Any]) -> dict[str, float]:
    """Formats ratios of the layer's figures to the baseline's."""
    layer = report["steps"][report["layer"]]
    baseline = report["steps"][report["baseline"]]
    return {
        key: layer.get(key, float("nan")) / baseline.get(key, float("nan"))
        for key, *_ in _COLUMNS
    }


def _share(layer: dict, bare: dict, key: str) -> float:
    return 1 - bare[key] / layer[key]
