"""Decides which layers are replaced, and by what; reports all problems at once.

Where no activation follows, an EvoNorm is a plain affine, which normalizes
nothing. By default the old normalization stays there: a trained
post-activation ResNet cannot be fine-tuned if its residual branches lose it
(docs/convert.md has the figures).
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from evonorm_tf.conversion import activations, graph, layer_patterns
from evonorm_tf.conversion.report import Entry
from evonorm_tf.conversion.sites import Found, Site

Choice = str | re.Pattern | Callable[[Site], bool] | None


# Maximum number of names in an error message.
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of a conversion; see `convert`."""

    make: Callable[..., Any]
    sites: Choice = None
    keep_stem: bool = False
    without_activation: str = "normalize"
    unreplaceable: str = "raise"


@dataclasses.dataclass
class Plan:
    """What happens to the layers of a model.

    Attributes:
      new: the site and the new layer of each replaced layer, by its id.
      absorbed: keys of the calls that are no longer needed.
      followers: the activation after each replaced layer, by its id.
      left: sites where the old layer is better than the new one.
      entries: of the report.
    """

    new: dict[int, tuple[Site, Any]] = dataclasses.field(default_factory=dict)
    absorbed: set[int] = dataclasses.field(default_factory=set)
    followers: dict[int, activations.Follower] = dataclasses.field(
        default_factory=dict
    )
    left: list[Site] = dataclasses.field(default_factory=list)
    entries: list[Entry] = dataclasses.field(default_factory=list)


def make(found: Found, request: Request, kit: graph.Kit) -> Plan:
    """Decides what happens at every site.

    Raises:
      ValueError: if requested sites cannot be replaced (the message names all
        of them), or if there is nothing to replace.
      TypeError: if `request.make` does not create a new `NormAct`.
    """
    _check_stem(found, request)
    plan, problems = Plan(followers=found.followers), {}
    for site in found.sites:
        reason = _left(site, request)
        layer = None
        if not reason:
            try:
                layer = _layer(site, request, kit)
                reason = _unfit(site, layer, request)
                plan.left += [site] * bool(reason)
            except ValueError as error:
                problems[site.name] = str(error)
                reason = f"cannot be replaced: {error}"
        if reason:
            plan.entries.append(_entry(site, note=reason))
            continue
        plan.new[id(site.layer)] = (site, layer)
        plan.absorbed |= found.absorbed.get(id(site.layer), set())
        plan.entries.append(_replaced(site, layer))
    if request.unreplaceable == "raise":
        _refuse(problems, kit)
    plan.entries += [Entry(n, what, note=why) for n, what, why in found.unknown]
    plan.entries += [
        Entry(name, what, note=why, activation=True)
        for name, what, why in found.activations
    ]
    if not plan.new:
        raise ValueError(_nothing(found, plan, request))
    return plan


def _left(site: Site, request: Request) -> str:
    """Returns why a site is left in place; empty if it is replaced."""
    if not _chosen(site, request.sites):
        return "not among `sites`"
    if site.stem and request.keep_stem:
        return "the stem: keep_stem=True"
    if not site.activation and request.without_activation == "leave":
        return f"without an activation: {site.why}"
    return ""


def _unfit(site: Site, layer: Any, request: Request) -> str:
    """Returns why the old layer is better than a new one; or ""."""
    old = site.layer
    already = isinstance(old, type(layer)) and is_affine(old)
    keep = request.without_activation == "normalize" and not already
    if keep and is_affine(layer):
        return (
            f"without an activation: {site.why}. The new layer would be a "
            "plain affine there, which normalizes nothing"
        )
    if _one_pixel(site) and _needs_map(layer):
        return (
            "a map of one pixel: a statistic of the new layer over each map "
            "would have one element, whose variance is 0"
        )
    return ""


def _one_pixel(site: Site) -> bool:
    return layer_patterns.one_pixel(site.shape, site.axis)


def _needs_map(layer: Any) -> bool:
    """Returns whether a statistic would have one element on a one-pixel map.

    B layers diverge when they are trained there (MobileNetV3Small at 32
    pixels: losses of 3, 28, 1.6e5, NaN), because they do not subtract a mean.
    """
    formula = active(layer).formula
    alone = layer._groups == layer._channels
    return "_hw(" in formula or ("_hw,c/g(" in formula and alone)


def _chosen(site: Site, choice: Choice) -> bool:
    if choice is None:
        return True
    if callable(choice):
        return bool(choice(site))
    return re.search(choice, site.name) is not None


def _layer(site: Site, request: Request, kit: graph.Kit) -> Any:
    """Returns the built layer for a site; ValueError if it is impossible."""
    if site.obstacle:
        raise ValueError(site.obstacle)
    old = site.layer
    options = {}
    # A setting of the user takes precedence, also one of a partial.
    given = getattr(request.make, "keywords", {})
    if _is_synchronized(old) and "synchronized" not in given:
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
            f"Here `norm_act` must create {kit.ours.__name__}.NormAct "
            f"layers. Received: {layer!r} of type {type(layer)}"
        )
    if layer.built:
        raise TypeError(
            "`norm_act` must create a new layer at each call, but one it "
            "returned is built already. Pass a function or functools.partial "
            f"that creates it. Received: {layer!r}"
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
            "keep_stem=True, but no convolution is directly followed by the "
            "first normalization layer, so there is no stem to keep. Omit "
            f"keep_stem, or use `sites`. The first layer found: {first}"
        )


def _nothing(found: Found, plan: Plan, request: Request) -> str:
    """Returns the error for a model without anything to replace."""
    count = counted(len(found.sites), "normalization layer")
    said = f"There is nothing to replace: the model has {count}"
    if plan.entries:
        listed = [f"  {one.layer}: {one.note}" for one in plan.entries]
        more = len(listed) - _LISTED
        listed = listed[:_LISTED] + [f"  and {more} more"] * (more > 0)
        said = "\n".join([f"{said}, and none was chosen:", *listed])
    choice = getattr(request.sites, "pattern", request.sites)
    choice = getattr(choice, "__name__", repr(choice))
    return (
        f"{said}\nReceived: sites={choice}, keep_stem={request.keep_stem}, "
        f"without_activation={request.without_activation!r}, "
        f"unreplaceable={request.unreplaceable!r}"
    )


def counted(number: int, noun: str) -> str:
    """Formats a number with a noun, such as "2 layers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refuse(problems: dict[str, str], kit: graph.Kit) -> None:
    if not problems:
        return
    listed = "\n".join(f"  {name}: {why}" for name, why in problems.items())
    names = ", ".join(repr(name) for name in problems)
    raise ValueError(
        f"{counted(len(problems), 'normalization layer')} cannot be "
        f"replaced:\n{listed}\n"
        "To leave them in place and replace the others, use "
        f"unreplaceable='leave' or "
        f"sites=lambda site: site.name not in {{{names}}}. By hand: in the "
        f"code of the model, create {kit.ours.__name__}.norm_act(NAME) instead "
        "of the normalization and the activation after it."
    )


def _entry(site: Site, **fields: Any) -> Entry:
    old = site.kind
    if site.activation:
        old += f" + {', '.join(site.activation)}"
    return Entry(site.name, old, channels=site.channels, **fields)


def _replaced(site: Site, layer: Any) -> Entry:
    row = active(layer)
    notes = [] if site.activation else [f"without an activation: {site.why}"]
    groups = layer._groups if row.grouped else None
    if groups and _one_pixel(site):
        size = site.channels // groups
        notes.append(
            f"a map of one pixel: {size} elements in a group; use "
            "min_group_size for more"
        )
    asked = layer.groups is not None or layer.group_size is not None
    if groups == site.channels:
        notes.append("one channel per group; min_group_size makes it more")
    elif groups == 1 and not asked:
        notes.append("one group: 32, lowered until it divides the channels")
    lost = [
        name
        for name in ("gamma", "beta")
        if (weight := getattr(site.layer, name, None)) is not None
        and tuple(weight.shape) != (site.channels,)
    ]
    if lost:
        notes.append(
            f"{' and '.join(lost)} not kept: the old layer has more than one "
            "per channel"
        )
    if not layer.trainable:
        notes.append("frozen (trainable=False) like the old layer")
    return _entry(site, new=row.name, groups=groups, note="; ".join(notes))


def is_affine(layer: Any) -> bool:
    """Returns whether a NormAct layer is only x * gamma + beta."""
    return not layer.activation and active(layer).name == "affine"


def active(layer: Any) -> Any:
    """Returns the catalog entry that a layer computes."""
    row = layer.row
    return row if layer.activation else row.without_activation or row
