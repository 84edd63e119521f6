"""`convert`: another normalization for a model that exists."""

import functools
import warnings
from typing import Any

from evonorm_tf import catalog
from evonorm_tf.conversion import (
    graph,
    plan,
    rebuild,
    recalibration,
    transfer,
)
from evonorm_tf.conversion import sites as sites_lib
from evonorm_tf.conversion.report import Report

_CHOICES = {
    "without_activation": ("normalize", "replace", "leave"),
    "unreplaceable": ("raise", "leave"),
}
# Of the layer, and the same at all sites.
_SETTINGS = (
    *("groups", "group_size", "min_group_size", "momentum", "epsilon"),
    *("synchronized", "xla"),
)
# What a class derived from a model may have for its training.
_STEPS = (
    *("train_step", "test_step", "predict_step", "compute_loss"),
    *("compute_metrics", "compile", "fit", "evaluate", "predict"),
)


def convert(
    model: Any,
    norm_act: Any,
    *,
    sites: plan.Choice = None,
    keep_stem: bool = False,
    without_activation: str = "normalize",
    unreplaceable: str = "raise",
    return_report: bool = False,
    **settings: Any,
) -> Any:
    """A new model with norm-act layers where the old one normalizes.

    Replaced are BatchNormalization, GroupNormalization, LayerNormalization
    and SyncBatchNormalization over channels, and layers of this library,
    each with the activations that alone read its output. The new layer has
    the old one's name. A normalization that no activation follows stays if
    the new layer would normalize nothing there, and so does one on maps of
    one pixel if the new layer needs larger maps. All other layers are copied
    with their weights, names, dtype policies and `trainable`; shared layers
    stay shared. The old model is left as it is.

    Args:
      model: a functional or sequential model of Keras 3 or tf_keras, built;
        models in it are converted too.
      norm_act: a name of `evonorm_tf.names()` or whatever else `NormAct`
        takes, or, for layers that differ by site, a callable that makes one a
        call, with `evonorm_tf.norm_act` (for tf_keras that of
        `evonorm_tf.legacy`). It is called with `activation`, `axis`, `name`,
        `dtype` and, where the old layer was, `synchronized`.
      sites: which to replace: a regular expression that is found in a site's
        name, or a function from a `Site` to bool; None for all.
      keep_stem: leave the first normalization, right after a convolution.
      without_activation: what becomes of normalization layers that no
        activation follows. "normalize" leaves them where the new layer would
        be a plain affine, as EvoNorms are, and replaces them where it
        normalizes without its activation, as baselines do; "replace" replaces
        all (an affine as in the authors' code); "leave" leaves all.
      unreplaceable: "raise" an error that names all sites that cannot be
        replaced, or "leave" them; the report says why.
      return_report: return (model, `Report`).
      **settings: of every new layer, see `NormAct`: `groups`, `group_size`,
        `min_group_size`, `momentum`, `epsilon`, `synchronized`, `xla`; with a
        name only, a callable has its own.

    Returns:
      A model of the same Keras, sequential or functional as the old one, not
      compiled. Classes derived from these are lost; the report says so.

    Warns:
      UserWarning: if a trained normalization became a plain affine, or more
        sites did than got the layer; if layers with batch statistics stay
        beside a layer that has none; if the model's class has a `train_step`
        or the like, which the new model has not.

    Raises:
      TypeError: for what is no model of either Keras, a callable that makes
        other layers, or unknown settings.
      ValueError: for a subclassed or unbuilt model, for sites that cannot be
        replaced, all of them by name, or if there is none to replace.
    """
    kit = graph.kit_of(model)
    _check(model, kit)
    _check_choices(
        without_activation=without_activation, unreplaceable=unreplaceable
    )
    make = _maker(norm_act, settings, kit)
    request = plan.Request(
        make, sites, keep_stem, without_activation, unreplaceable
    )
    planned = plan.make(sites_lib.find(model, kit), request, kit)
    made = rebuild.Rebuilder(planned, kit)
    new = made.model(model)
    transfer.flags(planned, made)
    transfer.weights(planned, made)
    for said in (
        _affine(planned),
        _mixed(planned),
        _lost_steps(model, new),
    ):
        if said:
            warnings.warn(said, UserWarning, stacklevel=2)
    if not return_report:
        return new
    notes = [
        _became(old, other)
        for old, other in made.models
        if type(old) is not type(other)
    ]
    return new, Report(tuple(planned.entries), tuple(notes))


def _maker(norm_act: Any, settings: dict[str, Any], kit: graph.Kit) -> Any:
    """What makes the layers: a name with its settings, or a callable."""
    unknown = sorted(settings.keys() - set(_SETTINGS))
    if unknown:
        raise TypeError(
            f"Unknown setting of the layer. Expected some of {_SETTINGS}; for "
            "others, `norm_act` can be a callable that makes the layer. "
            f"Received: {', '.join(unknown)}"
        )
    if callable(norm_act):
        if settings:
            raise TypeError(
                "A callable makes layers with settings of its own: give them "
                "to it, functools.partial(norm_act, min_group_size=4), or "
                f"name the layer. Received: norm_act={norm_act!r} and "
                f"{', '.join(settings)}"
            )
        return norm_act
    make = functools.partial(
        kit.ours.norm_act, catalog.get(norm_act), **settings
    )
    # Here: one error for a wrong name or value, not one a site.
    make(name="settings")
    return make


def _check_choices(**given: str) -> None:
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise ValueError(
                f"{name} must be one of {_CHOICES[name]}. "
                f"Received: {name}={value!r}"
            )


def _affine(planned: plan.Plan) -> str:
    """What to say if sites that normalized do so no more; or empty."""
    pairs = planned.new.values()
    affine = [site for site, layer in pairs if plan.is_affine(layer)]
    trained = [site for site in affine if transfer.is_trained(site.layer)]
    if not trained and 2 * len(affine) <= len(pairs):
        return ""
    first = (trained or affine)[0]
    replaced = plan.counted(len(pairs), "replaced normalization layer")
    what = ", trained ones among them," if trained else ""
    return (
        f"{len(affine)} of {replaced}{what} became a plain affine, x * gamma "
        "+ beta, which normalizes nothing. Training on may diverge, or need "
        f"a lower learning rate. The first is {first.name}: {first.why}. To "
        "keep the old layers there: without_activation='normalize', the "
        "default. Where the activation stands before the normalization, as "
        "an argument of the convolution for one, move it right behind the "
        "normalization; return_report=True lists all."
    )


def _mixed(planned: plan.Plan) -> str:
    """What to say if batch statistics stay beside layers without; or empty."""
    new = [layer for _, layer in planned.new.values()]
    left = [s for s in planned.left if recalibration.statistics(s.layer)]
    if not left or any(recalibration.statistics(layer) for layer in new):
        return ""
    count = plan.counted(len(left), "layer")
    kinds = sorted({site.kind for site in left})
    return (
        f"{count} with batch statistics stayed, from {left[0].name} on, so "
        "that the new model still depends on the batch, though "
        f"{new[0].row.name} does not. Without: convert(new, 'gn_relu', "
        f"sites=lambda site: site.kind in {kinds}) makes them GroupNorm, or "
        "without_activation='replace' a plain affine; a trained model may "
        "need a lower learning rate with either."
    )


def _lost(old: Any, new: Any) -> list[str]:
    """The training methods that a model's class had of its own."""
    kinds = type(old), type(new)
    return [
        name
        for name in _STEPS
        if getattr(kinds[0], name, None) is not getattr(kinds[1], name, None)
    ]


def _became(old: Any, new: Any) -> str:
    said = f"{old.name}: a {type(old).__name__} became a {type(new).__name__}"
    lost = _lost(old, new)
    return f"{said}, without its own {', '.join(lost)}" if lost else said


def _lost_steps(old: Any, new: Any) -> str:
    """What to say if the new model does not train as the old one; or empty."""
    if not _lost(old, new):
        return ""
    parts = "new.input, new.output"
    if type(new).__name__ == "Sequential":
        parts = "new.layers"
    return (
        f"{_became(old, new)}: it does not train as the old one did. Way out: "
        f"make one of the class from the new model, "
        f"{type(old).__name__}({parts})"
    )


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
        "norm_act(NAME, activation=False). "
        f"Received: {model.name!r}, a {type(model).__name__}, with "
        f"{', '.join(found) or 'no normalization layer made yet'}"
    )
