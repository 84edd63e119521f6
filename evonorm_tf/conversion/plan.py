"""Which sites are replaced, and by what: all problems at once, by name."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from evonorm_tf.conversion import graph
from evonorm_tf.conversion.report import Entry
from evonorm_tf.conversion.sites import Found, Site

Choice = str | re.Pattern | Callable[[Site], bool] | None


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for; see `convert`."""

    make: Callable[..., Any]
    sites: Choice = None
    keep_stem: bool = False
    without_activation: str = "replace"


@dataclasses.dataclass
class Plan:
    """What becomes of a model's layers.

    Attributes:
      new: of a layer, by id, its site and the layer that takes its place.
      absorbed: keys of the calls that become superfluous.
      entries: of the report.
    """

    new: dict[int, tuple[Site, Any]] = dataclasses.field(default_factory=dict)
    absorbed: set[int] = dataclasses.field(default_factory=set)
    entries: list[Entry] = dataclasses.field(default_factory=list)


def make(found: Found, request: Request, kit: graph.Kit) -> Plan:
    """Decides on every site.

    Raises:
      ValueError: for sites that were to be replaced and cannot be, all of
        them by name, or if there is nothing to replace.
      TypeError: if `request.make` makes something else than a `NormAct`.
    """
    _check_stem(found, request)
    plan, problems = Plan(), {}
    for site in found.sites:
        reason = _left(site, request)
        if reason:
            plan.entries.append(_entry(site, note=reason))
            continue
        try:
            layer = _layer(site, request, kit)
        except ValueError as error:
            problems[site.name] = str(error)
            continue
        plan.new[id(site.layer)] = (site, layer)
        plan.absorbed |= found.absorbed.get(id(site.layer), set())
        plan.entries.append(_replaced(site, layer))
    _refuse(problems)
    if not plan.new:
        raise ValueError(
            "There is nothing to replace: of the model's "
            f"{len(found.sites)} normalization layers none was chosen. "
            f"Received: {request}"
        )
    plan.entries += [
        Entry(name, what, note=why) for name, what, why in found.activations
    ]
    return plan


def _left(site: Site, request: Request) -> str:
    """Why a site is left as it is; empty if it is to be replaced."""
    if not _chosen(site, request.sites):
        return "not among `sites`"
    if site.stem and request.keep_stem:
        return "the stem: keep_stem=True"
    if not site.activation and request.without_activation == "leave":
        return f"without an activation: {site.why}"
    return ""


def _chosen(site: Site, choice: Choice) -> bool:
    if choice is None:
        return True
    if callable(choice):
        return bool(choice(site))
    return re.search(choice, site.name) is not None


def _layer(site: Site, request: Request, kit: graph.Kit) -> Any:
    """The built layer for a site; ValueError if there can be none."""
    if site.obstacle:
        raise ValueError(site.obstacle)
    old = site.layer
    options = {}
    if _is_synchronized(old):
        options["synchronized"] = True
    layer = request.make(
        activation=bool(site.activation),
        axis=site.axis,
        name=old.name,
        dtype=old.dtype_policy.name,
        **options,
    )
    if not isinstance(layer, kit.ours.NormAct):
        raise TypeError(
            f"For this model `norm_act` must make {kit.ours.__name__}.NormAct "
            f"layers. Received: {layer!r} of type {type(layer)}"
        )
    layer.build(site.shape)
    layer.trainable = old.trainable
    return layer


def _is_synchronized(layer: Any) -> bool:
    named = type(layer).__name__ == "SyncBatchNormalization"
    return named or getattr(layer, "synchronized", False)


def _check_stem(found: Found, request: Request) -> None:
    if request.keep_stem and not any(site.stem for site in found.sites):
        first = found.sites[0].name if found.sites else "none"
        raise ValueError(
            "keep_stem=True, but no normalization layer follows right after a "
            "convolution with none before it: there is no stem to keep. Leave "
            f"keep_stem out, or use `sites`. The first layer found: {first}"
        )


def _refuse(problems: dict[str, str]) -> None:
    if not problems:
        return
    listed = "\n".join(f"  {name}: {why}" for name, why in problems.items())
    names = ", ".join(repr(name) for name in problems)
    raise ValueError(
        f"{len(problems)} normalization layers cannot be replaced:\n{listed}\n"
        "To leave them as they are, and replace the others: "
        f"sites=lambda site: site.name not in {{{names}}}. By hand: replace "
        "them where the model is written, see docs/convert.md."
    )


def _entry(site: Site, **fields: Any) -> Entry:
    old = site.kind
    if site.activation:
        old += f" + {', '.join(site.activation)}"
    return Entry(site.name, old, channels=site.channels, **fields)


def _replaced(site: Site, layer: Any) -> Entry:
    row = layer.row
    if not site.activation:
        row = row.without_activation or row
    notes = [] if site.activation else [f"without an activation: {site.why}"]
    groups = layer._groups if row.grouped else None
    pixels = site.shape[1:-1] if site.axis == -1 else site.shape[2:]
    if row.kernel.instance and pixels and set(pixels) == {1}:
        notes.append("a map of one pixel: docs/choosing.md")
    if groups == site.channels:
        notes.append("one channel a group; min_group_size raises it")
    return _entry(site, new=row.name, groups=groups, note="; ".join(notes))
