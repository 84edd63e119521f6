"""Benchmarks' results in docs/runs, as Markdown for the results page.

A benchmark that was not run is marked *not run*.
"""

import json
import pathlib
import statistics
from typing import Any

from training.report import claims

NOT_RUN = "*Not run.*"
_STATISTICS = ("moving", "batch", "recalibrated")


def read(runs: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Reads a document of docs/runs; None if it does not exist."""
    path = runs / name
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def gpu_documents(runs: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what `benchmarks.gpu` wrote about training on CIFAR-10."""
    paths = sorted(runs.glob("gpu*/cifar.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def study(row: dict[str, Any]) -> str:
    """Describes which training a row of `gpu_documents` is of."""
    return "{network}, {epochs} epochs, batch {batch}".format(**row)


def convergence(document: dict[str, Any] | None) -> str:
    """Tables `benchmarks.convergence`: accuracies by kind of statistics."""
    if document is None:
        return NOT_RUN
    heads = ["trial", "training loss"]
    heads += [f"{when}, {kind}" for when in ("middle", "end")
              for kind in _STATISTICS]  # fmt: skip
    heads += ["v", "bounded"]
    lines = []
    for result in document["results"]:
        cells = [result["name"], f"{result['training_loss']:.3f}"]
        for moment in ("middle", "end"):
            found = result["accuracy"][moment]
            cells += [
                f"{100 * found[kind]:.1f}" if kind in found else ""
                for kind in _STATISTICS
            ]
        lines.append([*cells, *_sites(result.get("sites", []))])
    return claims.markdown(heads, lines)


def gaps(
    recipe: pathlib.Path, layers: tuple[str, ...], steps: tuple[int, ...]
) -> str:
    """Tables training and test accuracies in % at some steps, of seed 0.

    Args:
      recipe: folder of its runs, LAYER/seed0.
      layers: in this order.
      steps: must have a line of training and one of evaluation each.
    """
    from training import runs  # Imports TensorFlow, which is slow.

    heads, lines = ["layer"], []
    for step in steps:
        heads += [f"training, step {step}", f"test, step {step}"]
    for layer in layers:
        found = {
            (line["step"], line["kind"]): f"{100 * line['accuracy']:.1f}"
            for line in runs.Run(recipe / layer / "seed0").metrics()
        }
        kinds = [(step, kind) for step in steps for kind in ("train", "eval")]
        lines.append([layer, *(found[each] for each in kinds)])
    return claims.markdown(heads, lines)


def _sites(sites: list[dict[str, float]]) -> list[str]:
    """Formats v, and the fraction of elements where the bound applies."""
    if not sites:
        return ["", ""]
    v = sum(site["v_mean"] for site in sites) / len(sites)
    shares = [site["bounded"] for site in sites]
    return [f"{v:.2f}", f"{min(shares):.2f} to {max(shares):.2f}"]


def finetune(document: dict[str, Any] | None) -> str:
    """Tables `benchmarks.finetune`: by rate, and by step at the best rate."""
    if document is None:
        return NOT_RUN
    runs: dict[str, dict[float, dict]] = {}
    for result in document["results"]:
        runs.setdefault(result["arm"], {})[result["rate"]] = result
    rates = sorted({rate for by_rate in runs.values() for rate in by_rate})
    ends, curves, steps = [], [], []
    for arm, by_rate in runs.items():
        found = [by_rate.get(rate) for rate in rates]
        ends.append([arm, *(_percent(r and r["accuracy"]) for r in found)])
        best = max(by_rate.values(), key=lambda result: result["accuracy"])
        steps, values = zip(*best["curve"])
        shown = [*values, best["accuracy"]]
        curves.append([arm, f"{best['rate']:g}", *map(_percent, shown)])
    total = document["settings"]["steps"]
    heads = ["", *(f"rate {rate:g}" for rate in rates)]
    by_step = ["", "best rate", *map(str, steps), f"{total}, all images"]
    return (
        claims.markdown(heads, ends) + "\n\n" + claims.markdown(by_step, curves)
    )


def _percent(value: float | None) -> str:
    return NOT_RUN if value is None else f"{100 * value:.1f}"


def gpu(documents: list[dict[str, Any]]) -> str:
    """Tables `benchmarks.gpu`: mean and spread of every layer, by study."""
    if not documents:
        return NOT_RUN
    studies: dict[str, dict[str, list[dict]]] = {}
    for document in documents:
        device = document["facts"].get("device", "device not recorded")
        for row in document["rows"]:
            by_layer = studies.setdefault(f"{study(row)}; {device}.", {})
            by_layer.setdefault(row["layer"], []).append(row)
    parts = []
    for title, by_layer in studies.items():
        lines = []
        for layer, own in by_layer.items():
            losses = claims.seed_means(own, "training_loss")
            values = claims.seed_means(own, "accuracy")
            loss = f"{statistics.fmean(losses):.3f}"
            lines.append([layer, claims.spread(values), loss])
        heads = ["layer", "test accuracy %", "training loss"]
        parts += [title, claims.markdown(heads, lines)]
    return "\n\n".join(parts)
