"""Loads weights of a classifier of this project into a detector's backbone.

The detector's ResNet is built by the same function as the classifier's, so
layers are matched by their position in the graph: both networks are traversed
from their last features to the image, and must agree layer by layer.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.ops import preprocess_ops

from detection import settings
from evonorm_tf import files, legacy, nets
from training import checkpoints, config, runs

_NETWORK = ("network", "width", "max_depth")
_LAYER = ("name", "groups", "group_size", "min_group_size")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """The result of a transfer.

    Attributes:
      source: the checkpoint.
      taken: names of the detector's weights that were loaded.
      left: names of its other weights, which keep their initial values.
    """

    source: str
    taken: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"Loaded from {self.source}: {len(self.taken)} weights of the "
            f"backbone, {self.taken[0]} to {self.taken[-1]}.\n"
            f"Not loaded, newly initialized: {len(self.left)} weights, "
            f"{self.left[0]} to {self.left[-1]}; the classifier's last layer "
            "is not used."
        )


def backbone(
    model: tf_keras.Model, params: settings.Model, run: str
) -> Transfer:
    """Loads the weights of a classifier into a detector's backbone.

    Args:
      model: the detector; changed in place.
      params: its settings.
      run: model_dir of a run of `classification.train`; its best/ for a run
        that averages its weights.

    Raises:
      ValueError: if there is no run, its network or layer differs from the
        detector's, or its weights are not those of an evaluation.
    """
    _, recorded = _read(run)
    theirs = recorded["task"]["model"]
    _require_alike(params, theirs, run)
    _require_pixels(recorded["task"].get("train_data", {}), run)
    averaged = recorded["trainer"]["optimizer_config"].get("ema") is not None
    if averaged and files.name(run) != "best":
        raise ValueError(
            "The classifier averages its weights, and the average is in its "
            f"best checkpoint: name {files.join(run, 'best')!r} instead. "
            f"Received: init_checkpoint={run!r}"
        )
    path = runs.Run(run).checkpoint()
    if path is None:
        raise ValueError(
            "The classifier's run has no checkpoint; train it first. "
            f"Received: init_checkpoint={run!r}"
        )
    features = _restored(theirs, path)
    top = max(model.backbone.output, key=int)
    taken = _copy(_ordered(features), _ordered(model.backbone.output[top]))
    left = [w.name for w in model.weights if id(w) not in taken]
    return Transfer(path, tuple(taken.values()), tuple(left))


def recipes(run: str) -> list[str]:
    """Returns the recipes with which a classifier was trained to the end.

    Its run records them in `run.json`: rows with exactly its settings.

    Args:
      run: model_dir of a run of `classification.train`, or its best/.

    Returns:
      Their ids, sorted; empty if it belongs to no row or is unfinished.

    Raises:
      ValueError: if there is no run.
    """
    found, recorded = _read(run)
    if not found.evaluated(recorded["trainer"]["train_steps"]):
        return []
    rows = found.facts().get("rows", [])
    return sorted(row.rpartition("/")[0] for row in rows)


def _read(run: str) -> tuple[runs.Run, dict[str, Any]]:
    """The run, or that which a best/ is of; the config recorded there."""
    for found in (runs.Run(run), runs.Run(files.parent(run))):
        recorded = found.config() or {}
        if "norm_act" in recorded.get("task", {}).get("model", {}):
            return found, recorded
    raise ValueError(
        "There is no run of classification.train with its "
        f"{runs.CONFIG_FILE}. Received: init_checkpoint={run!r}"
    )


def _require_alike(
    params: settings.Model, theirs: dict[str, Any], run: str
) -> None:
    """Refuses a classifier of another network or layer."""
    ours = params.as_dict()
    pairs = {key: (ours[key], theirs.get(key)) for key in _NETWORK}
    default = config.NormAct().as_dict()
    for key in _LAYER:
        other = theirs["norm_act"].get(key, default[key])
        pairs[f"norm_act.{key}"] = (ours["norm_act"][key], other)
    different = [
        f"{key}={mine!r} (the classifier's: {other!r})"
        for key, (mine, other) in pairs.items()
        if mine != other
    ]
    if different:
        raise ValueError(
            "The classifier is not this detector's backbone. Received: "
            f"init_checkpoint={run!r}, {', '.join(different)}"
        )
    if params.network not in nets.names():
        raise ValueError(
            "This network has no classifier to start from; train it from "
            f"scratch. Received: network={params.network!r}"
        )


def _require_pixels(data: dict[str, Any], run: str) -> None:
    """Refuses a classifier of images that were normalized another way.

    Its filters and moving statistics would see other numbers here.
    """
    ours = {"mean": preprocess_ops.MEAN_NORM, "std": preprocess_ops.STDDEV_NORM}
    theirs = {key: data.get(key) for key in ours}
    if any(list(ours[key]) != theirs[key] for key in ours):
        raise ValueError(
            "The classifier's images were normalized another way than a "
            f"detector's, by {ours}; train it with these. Received: "
            f"init_checkpoint={run!r}, task.train_data of {theirs}"
        )


def _restored(theirs: dict[str, Any], path: str) -> Any:
    """The last features of the classifier, its weights read."""
    layers = tf_keras.layers
    params = config.NormAct()
    config.override(params, theirs["norm_act"])
    images = layers.Input([64, 64, 3])  # Any size: weights do not know it.
    features = nets.backbone(
        theirs["network"],
        images,
        layers,
        params.bind(legacy),
        width=theirs["width"],
        max_depth=theirs["max_depth"],
        stochastic_depth=theirs.get("stochastic_depth"),
    )
    logits = nets.classifier(
        features, layers, theirs["num_classes"], theirs["dropout"] or 0.0
    )
    twin = tf_keras.Model(images, logits)
    checkpoints.restore(tf.train.Checkpoint(model=twin), path, {"model": twin})
    return features


def _ordered(output: Any) -> list[tf_keras.layers.Layer]:
    """The layers with weights that a symbolic tensor comes from, in order.

    The order follows from the graph alone: what a layer reads stands before
    it.
    """
    found: dict[int, tf_keras.layers.Layer] = {}
    seen: set[int] = set()

    def visit(tensor: Any) -> None:
        layer, index, _ = tensor._keras_history
        if id(layer) in seen:
            return
        seen.add(id(layer))
        for source in layer._inbound_nodes[index].keras_inputs:
            visit(source)
        if layer.weights:
            found[id(layer)] = layer

    visit(output)
    return list(found.values())


def _copy(
    source: list[tf_keras.layers.Layer], target: Iterable[Any]
) -> dict[int, str]:
    """Copies the weights; names of those written, by their variables' ids."""
    target = list(target)

    def kinds(layers: Iterable[Any]) -> list[tuple]:
        return [
            (type(layer), *(tuple(w.shape) for w in layer.weights))
            for layer in layers
        ]

    if kinds(source[: len(target)]) != kinds(target):
        raise ValueError(
            "The detector's backbone is built of other layers than the "
            f"classifier: {len(target)} and {len(source)} with weights."
        )
    taken = {}
    for one, other in zip(source, target):
        for value, weight in zip(one.weights, other.weights, strict=True):
            weight.assign(value)
            taken[id(weight)] = weight.name
    return taken
