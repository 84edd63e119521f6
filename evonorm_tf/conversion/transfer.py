"""Transfers weights and flags from the old model to the new one."""

from typing import Any

import numpy as np

from evonorm_tf import catalog
from evonorm_tf.conversion import layer_state, matching, plan, structures
from evonorm_tf.conversion.rebuild import Rebuilder


def flags(planned: plan.Plan, made: Rebuilder) -> None:
    """Copies `trainable`, which a model sets on everything inside it."""
    for old, new in made.models[::-1]:
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for old, new in made.layers:
        if not hasattr(old, "trainable"):  # A Keras 3 operation.
            continue
        for one, other in layer_state.parts(old, new):
            other.trainable = one.trainable
    for site, new in planned.new.values():
        new.trainable = site.layer.trainable


def weights(planned: plan.Plan, made: Rebuilder) -> None:
    """Copies the state of layers that stay, then the weights of the sites."""
    for old, new in made.layers:
        # Again, for layers inside that the first call has created.
        layer_state.copy_tables(old, new)
        for one, other in layer_state.parts(old, new):
            store: dict[str, Any] = {}
            one.save_own_variables(store)
            if store:
                values = {
                    key: structures.value(weight)
                    for key, weight in store.items()
                }
                other.load_own_variables(values)
            layer_state.copy_assets(one, other)
    for key, (site, new) in planned.new.items():
        values = _inherited(site.layer, new)
        if matching.applies(site, new):
            follower = planned.followers.get(key)
            # Statistics that both layers have are copied.
            values = matching.matched(site, new, follower) | {
                name: value
                for name, value in values.items()
                if name not in ("gamma", "beta")
            }
        for name, value in values.items():
            getattr(new, name).assign(value)


def is_trained(layer: Any) -> bool:
    """Returns whether a normalization layer's weights have been trained.

    Initial weights are equal in all channels, and moving moments 0 and 1.
    """
    return matching.has_trained_statistics(layer) or any(
        np.ptp(structures.value(weight)) > 0 for weight in layer.weights
    )


def _inherited(old: Any, new: Any) -> dict[str, np.ndarray]:
    """Returns the initial values of a site, by the new weight's name.

    Gain, offset and moving statistics are copied by name, unless `matching`
    finds better values. A plain affine that was a BatchNorm gets what that did
    at inference, because without statistics its scale would be lost.
    """
    has = {
        name: structures.value(weight)
        for name in _comparable(old, new)
        if (weight := getattr(old, name, None)) is not None
    }
    if "moving_mean" in has and plan.active(new).name == "affine":
        spread = np.sqrt(has["moving_variance"] + old.epsilon)
        scale = has.get("gamma", 1.0) / spread
        shift = has.get("beta", 0.0) - has["moving_mean"] * scale
        has = {"gamma": scale, "beta": shift}
    return {
        name: value
        for name, value in has.items()
        # LayerNorm over several axes has no gain per channel.
        if getattr(new, name, None) is not None
        and value.shape == (new._channels,)
    }


def _comparable(old: Any, new: Any) -> list[str]:
    """Returns names of weights with the same meaning in both layers."""
    row = getattr(old, "row", None)
    # A graph may have been compiled twice, to rows of one spec.
    spec = getattr(row, "spec", None)
    if row is new.row or (spec is not None and spec == new.row.spec):
        return [
            "gamma",
            "beta",
            *(w.name for w in new.row.weights),
            *_moving(new.row),
        ]
    names = ["gamma", "beta"]
    # A graph numbers its statistics by node, so those of graphs differ.
    if new.row.name in catalog.names():
        names += _moving(getattr(old, "row", catalog.get("bn_relu")))
    return names


def _moving(row: catalog.Row) -> list[str]:
    return [name for name, _ in row.kernel.statistics]
