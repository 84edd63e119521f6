"""`convert`: replaces the normalization of an existing model."""

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
# Settings of the layer that are the same for all.
_SETTINGS = (
    "groups",
    "group_size",
    "min_group_size",
    "momentum",
    "epsilon",
    "synchronized",
    "xla",
)
# Methods that a subclass of a model may override for training.
_STEPS = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "compile",
    "fit",
    "evaluate",
    "predict",
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
    """Returns a copy of a model with norm-act layers as its normalization.

    Replaces BatchNormalization, GroupNormalization, LayerNormalization and
    SyncBatchNormalization over channels, and layers of this library, together
    with the activations that are the only readers of their output. The new
    layer has the old one's name. A normalization without an activation stays
    if the new layer would normalize nothing there, and so does one on maps of
    one pixel if the new layer needs larger maps. All other layers are copied
    with their weights, names, dtype policies and `trainable`; shared layers
    stay shared. The old model is not changed.

    Example:
        ```python
        model = keras.applications.ResNet50()
        new, report = evonorm_tf.convert(
            model, "evonorm_s0", return_report=True
        )
        print(report)
        ```

    Args:
      model: a built functional or sequential model of Keras 3 or tf_keras;
        nested models are converted too.
      norm_act: a name of `evonorm_tf.names()` or anything else that `NormAct`
        accepts. For layers that differ by site, a callable that creates one
        layer per call with `evonorm_tf.norm_act` (for tf_keras,
        `evonorm_tf.legacy.norm_act`). It is called with `activation`, `axis`,
        `name`, `dtype` and, if the old layer was, `synchronized`.
      sites: which layers to replace: a regular expression to search in their
        names, or a function from a `Site` to bool; None for all.
      keep_stem: whether to leave the first normalization, if it directly
        follows a convolution.
      without_activation: what to do with normalizations that no activation
        follows. "normalize" leaves them if the new layer would be a plain
        affine, as EvoNorms are, and replaces them if it normalizes without
        its activation, as baselines do. "replace" replaces all (by an affine
        as in the authors' code), and "leave" leaves all.
      unreplaceable: "raise" raises an error that names all layers that cannot
        be replaced; "leave" leaves them, and the report says why.
      return_report: whether to return (model, `Report`).
      **settings: of every new layer, see `NormAct`: `groups`, `group_size`,
        `min_group_size`, `momentum`, `epsilon`, `synchronized`, `xla`. Not
        with a callable, which has its own.

    Returns:
      A model of the same Keras, sequential or functional as the old one, not
      compiled. Subclasses of these are not preserved; the report says so.

    Warns:
      UserWarning: if a trained normalization became a plain affine, or more
        layers did than were replaced otherwise; if layers with batch
        statistics remain although the new layer has none; if the model's class
        overrides a training method such as `train_step`, which the new model
        does not have.

    Raises:
      TypeError: if the model is not of either Keras, a callable creates other
        layers, or a setting is unknown.
      ValueError: if the model is subclassed or not built, if layers cannot be
        replaced (the message names all of them), or if there is nothing to
        replace.
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
    """Returns what creates the layers: a name with settings, or a callable."""
    unknown = sorted(settings.keys() - set(_SETTINGS))
    if unknown:
        raise TypeError(
            f"Unknown setting of the layer. Expected some of {_SETTINGS}; for "
            "others, `norm_act` can be a callable that creates the layer. "
            f"Received: {', '.join(unknown)}"
        )
    if callable(norm_act):
        if settings:
            raise TypeError(
                "A callable cannot be combined with settings. Pass them to it, "
                "functools.partial(norm_act, min_group_size=4), or use the "
                f"name of a layer. Received: norm_act={norm_act!r} and "
                f"{', '.join(settings)}"
            )
        return norm_act
    make = functools.partial(
        kit.ours.norm_act, catalog.get(norm_act), **settings
    )
    # Checked here, so a wrong name or value is one error, not one per layer.
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
    """Warns if layers that normalized no longer do; or returns ""."""
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
        "+ beta, which normalizes nothing. Further training may diverge, or "
        f"need a lower learning rate. The first is {first.name}: {first.why}. "
        "To keep the old layers there, use without_activation='normalize', "
        "the default. If the activation precedes the normalization, for "
        "example as an argument of the convolution, move it directly after "
        "the normalization. return_report=True lists all layers."
    )


def _mixed(planned: plan.Plan) -> str:
    """Warns if layers with batch statistics remain beside others; or ""."""
    new = [layer for _, layer in planned.new.values()]
    left = [s for s in planned.left if recalibration.statistics(s.layer)]
    if not left or any(recalibration.statistics(layer) for layer in new):
        return ""
    count = plan.counted(len(left), "layer")
    kinds = sorted({site.kind for site in left})
    return (
        f"{count} with batch statistics stayed, from {left[0].name} on, so "
        "the new model still depends on the batch, although "
        f"{new[0].row.name} does not. To avoid this: convert(new, 'gn_relu', "
        f"sites=lambda site: site.kind in {kinds}) makes them GroupNorm, and "
        "without_activation='replace' a plain affine; with either, a trained "
        "model may need a lower learning rate."
    )


def _lost(old: Any, new: Any) -> list[str]:
    """Returns the training methods that a model's class overrides."""
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
    """Warns if the new model trains differently from the old; or returns ""."""
    if not _lost(old, new):
        return ""
    parts = "new.input, new.output"
    if type(new).__name__ == "Sequential":
        parts = "new.layers"
    return (
        f"{_became(old, new)}: it does not train as the old one did. How to "
        f"fix it: create a model of the class from the new one, "
        f"{type(old).__name__}({parts})"
    )


def _check(model: Any, kit: graph.Kit) -> None:
    """Rejects models without a graph and names their layers."""
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
        "creates a normalization layer, create "
        f"{kit.ours.__name__}.norm_act(NAME) instead and remove the activation "
        "after it from `call`; where no activation follows, use "
        "norm_act(NAME, activation=False). "
        f"Received: {model.name!r}, a {type(model).__name__}, with "
        f"{', '.join(found) or 'no normalization layer created yet'}"
    )
