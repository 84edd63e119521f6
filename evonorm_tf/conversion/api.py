"""`convert`: another normalization for a model that exists."""

import functools
from typing import Any

from evonorm_tf import catalog
from evonorm_tf.conversion import graph, plan, rebuild, transfer
from evonorm_tf.conversion import sites as sites_lib
from evonorm_tf.conversion.report import Report

_WITHOUT = ("replace", "leave")


def convert(
    model: Any,
    norm_act: Any,
    *,
    sites: plan.Choice = None,
    keep_stem: bool = False,
    without_activation: str = "replace",
    return_report: bool = False,
) -> Any:
    """A new model with norm-act layers where the old one normalizes.

    Replaced are BatchNormalization, GroupNormalization, LayerNormalization
    and SyncBatchNormalization over channels, and layers of this library,
    each with the activation after it if nothing else reads what it gives; by
    default all of them. The new layer has the old one's name. All other
    layers are copied with their weights, names, dtype policies and
    `trainable`; shared layers stay shared. The old model is left as it is.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras, built;
        models in it are converted too.
      norm_act: a name of `evonorm_tf.names()` or whatever else `NormAct`
        takes, or, for settings of its own, a callable that makes one layer a
        call: `functools.partial(evonorm_tf.norm_act, "evonorm_s0",
        min_group_size=4)` (for tf_keras that of `evonorm_tf.legacy`). It is
        called with `activation`, `axis`, `name`, `dtype` and, where the old
        layer was, `synchronized`.
      sites: which to replace: a regular expression that is found in a site's
        name, or a function from a `Site` to bool; None for all.
      keep_stem: leave the first normalization, right after a convolution.
      without_activation: "replace" or "leave" normalization layers that no
        activation follows. EvoNorms become a plain affine there (the authors'
        code), baselines the norm without an activation.
      return_report: return (model, `Report`).

    Returns:
      A model of the same Keras, sequential or functional as the old one, not
      compiled. Classes derived from these are lost; the report says so.

    Raises:
      TypeError: for what is no model of either Keras, or a callable that
        makes other layers.
      ValueError: for a subclassed or unbuilt model, for sites that cannot be
        replaced, all of them by name, or if there is none to replace.
    """
    kit = graph.kit_of(model)
    _check(model, kit)
    if without_activation not in _WITHOUT:
        raise ValueError(
            f"without_activation must be one of {_WITHOUT}. "
            f"Received: without_activation={without_activation!r}"
        )
    make = norm_act
    if not callable(norm_act):
        # Looked up here: one error for a wrong name, not one a site.
        make = functools.partial(kit.ours.norm_act, catalog.get(norm_act))
    request = plan.Request(make, sites, keep_stem, without_activation)
    planned = plan.make(sites_lib.find(model, kit), request, kit)
    made = rebuild.Rebuilder(planned, kit)
    new = made.model(model)
    transfer.flags(planned, made)
    transfer.weights(planned, made)
    if not return_report:
        return new
    notes = [
        f"{old.name}: a {type(old).__name__} became a {type(other).__name__}"
        for old, other in made.models
        if type(old) is not type(other)
    ]
    return new, Report(tuple(planned.entries), tuple(notes))


def _check(model: Any, kit: graph.Kit) -> None:
    """Refuses models without a graph, by name."""
    if kit.is_graph(model):
        return
    if isinstance(model, kit.keras.Sequential):
        raise ValueError(
            "A sequential model must be built before it can be converted: "
            "give it an Input, or call model.build((None, height, width, "
            f"channels)). Received: {model.name!r}"
        )
    found = [
        f"{layer.name} ({type(layer).__name__})"
        for layer in graph.inner_layers(model)
        if isinstance(layer, kit.normalizations)
    ]
    raise ValueError(
        "A subclassed model has no graph to convert. By hand: where its class "
        "makes a normalization layer, make "
        f"{kit.ours.__name__}.norm_act(NAME) instead and drop the activation "
        "after it from `call`; where none follows, "
        "norm_act(NAME, activation=False). See docs/convert.md. "
        f"Received: {model.name!r}, a {type(model).__name__}, with "
        f"{', '.join(found) or 'no normalization layer made yet'}"
    )
