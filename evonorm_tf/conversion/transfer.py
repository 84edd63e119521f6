"""What the new model takes over from the old one: weights and flags."""

from typing import Any

import numpy as np

from evonorm_tf import catalog
from evonorm_tf.conversion import matching, plan, structures
from evonorm_tf.conversion.rebuild import Rebuilder


def flags(planned: plan.Plan, made: Rebuilder) -> None:
    """Copies `trainable`, which a model sets on all that is inside of it."""
    for old, new in made.models[::-1]:
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for old, new in made.layers:
        if not hasattr(old, "trainable"):  # A Keras 3 operation.
            continue
        for one, other in _parts(old, new):
            other.trainable = one.trainable
    for site, new in planned.new.values():
        new.trainable = site.layer.trainable


def weights(planned: plan.Plan, made: Rebuilder) -> None:
    """Copies by value all weights of layers that stay; then the sites'."""
    for old, new in made.layers:
        for one, other in _parts(old, new):
            store: dict[str, Any] = {}
            one.save_own_variables(store)
            if store:
                values = {key: _value(weight) for key, weight in store.items()}
                other.load_own_variables(values)
    for key, (site, new) in planned.new.items():
        values = _inherited(site.layer, new)
        if matching.applies(site, new):
            follower = planned.followers.get(key)
            # Statistics that both layers have are the old one's.
            values = matching.matched(site, new, follower) | {
                name: value
                for name, value in values.items()
                if name not in ("gamma", "beta")
            }
        for name, value in values.items():
            getattr(new, name).assign(value)


def is_trained(layer: Any) -> bool:
    """Whether a normalization layer's weights are no longer initial ones.

    Those are equal in all channels.
    """
    return any(np.ptp(_value(weight)) > 0 for weight in layer.weights)


def _parts(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """(old, new) of a layer and of all inside of it."""
    if not hasattr(old, "_flatten_layers"):
        return []
    return list(zip(old._flatten_layers(), new._flatten_layers()))


def _inherited(old: Any, new: Any) -> dict[str, np.ndarray]:
    """What a site starts from, by the name of the new layer's weight.

    Gain, offset and moving statistics move by name, unless `matching` finds
    better ones. An affine site that was a BatchNorm gets what that did at
    inference: without statistics nothing else would keep its scale.
    """
    has = {
        name: _value(weight)
        for name in _comparable(old, new)
        if (weight := getattr(old, name, None)) is not None
    }
    if "moving_mean" in has and plan.active(new).name == "affine":
        spread = np.sqrt(has["moving_variance"] + old.epsilon)
        scale = has.get("gamma", 1.0) / spread
        shift = has.get("beta", 0.0) - has["moving_mean"] * scale
        return {"gamma": scale, "beta": shift}
    return {
        name: value
        for name, value in has.items()
        # LayerNorm over more than the channels has no gain for each of them.
        if getattr(new, name, None) is not None
        and value.shape == (new._channels,)
    }


def _comparable(old: Any, new: Any) -> list[str]:
    """Names of weights that mean the same in both layers."""
    if getattr(old, "row", None) is new.row:
        return [
            "gamma",
            "beta",
            *(w.name for w in new.row.weights),
            *_moving(new.row),
        ]
    names = ["gamma", "beta"]
    # A graph numbers its statistics by node: another graph's differ.
    if new.row.name in catalog.names():
        names += _moving(getattr(old, "row", catalog.get("bn_relu")))
    return names


def _moving(row: catalog.Row) -> list[str]:
    return [name for name, _ in row.kernel.statistics]


def _value(weight: Any) -> np.ndarray:
    return structures.value(weight)
