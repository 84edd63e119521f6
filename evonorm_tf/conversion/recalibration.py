"""Moving statistics from data, after weights changed without training."""

import contextlib
import inspect
import itertools
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from evonorm_tf import catalog
from evonorm_tf.conversion import structures


def recalibrate(
    model: Any, dataset: Iterable[Any], steps: int | None = None
) -> int:
    """Sets moving statistics to their means over batches of a data set.

    After a conversion the moving statistics are those of other activations.
    Each batch goes through the model as in training (dropout too), layer
    after layer on its own statistics; a layer's moving ones then are the means
    of the batches', each with the weight of its samples ("standing
    statistics", arXiv:1809.11096; update_bn of stochastic weight averaging,
    arXiv:1803.05407, does the same). In a batch, a layer that is used several
    times has the mean of its uses. Whatever the statistics were before, NaN
    included, does not matter. No other weight changes. Frozen layers
    (`trainable=False`) keep theirs, and so do those that a model's own graph
    calls with `training=False`; models without batch statistics need no data:
    nothing is read. After an error all statistics are as they were.

    Args:
      model: a model of Keras 3 or tf_keras, on one device.
      dataset: batches as for `fit`: x, (x, y) or (x, y, weights), also as a
        list; x is a tensor or whatever else the model takes. If the model has
        several inputs and x does not, the members of a batch are the inputs.
      steps: batches to take; None for all.

    Returns:
      How many statistics, [C] each, were set.

    Raises:
      ValueError: if there are fewer batches than `steps`, none, or if
        `steps` is missing for a data set without an end; if a batch does not
        fit the model's inputs; if statistics are not finite.
      TypeError: for a bare array, which has no batches.
    """
    found = {id(layer): layer for layer in model._flatten_layers()}.values()
    targets = {
        layer: weights
        for layer in found
        if layer.trainable and (weights := statistics(layer))
    }
    if not targets:
        return 0
    _check_data(dataset, steps)
    flat = [weight for weights in targets.values() for weight in weights]
    before = [structures.value(weight) for weight in flat]
    means = before
    sums, total, taken = [0.0] * len(flat), 0, 0
    try:
        with _averaging(targets) as uses:

            def step(x):
                uses.clear()  # Counted anew in each trace.
                model(x, training=True)

            run = _traced(step)
            for batch in itertools.islice(dataset, steps):
                x = _inputs(model, batch)
                run(x)
                _check_finite(targets, uses, taken)
                count = len(structures.flatten(x)[0])
                total, taken = total + count, taken + 1
                for k, weight in enumerate(flat):
                    sums[k] += count * structures.value(weight)
        if not total or (steps is not None and taken < steps):
            raise ValueError(
                "The data set ended too early; the moving statistics are as "
                f"they were. Expected {steps or 'some'} batches. "
                f"Received: {taken}"
            )
        used = [
            id(layer) in uses for layer, own in targets.items() for _ in own
        ]
        means = [
            value / total if fresh else old
            for value, old, fresh in zip(sums, before, used)
        ]
    finally:
        # Nor does what a failed batch left stay.
        for value, weight in zip(means, flat):
            weight.assign(value)
    return sum(used)


def statistics(layer: Any) -> list[Any]:
    """The moving statistics of a layer: variables [C].

    Args:
      layer: any layer of either Keras. A NormAct layer is asked for its own;
        of others, BatchNormalization for one, they are the weights that
        training does not learn and that are named as Keras names them.
    """
    row = getattr(layer, "row", None)
    if isinstance(row, catalog.Row):
        names = [name for name, _ in row.kernel.statistics]
        # Without its activation a layer may have none of them.
        return [getattr(layer, n) for n in names if hasattr(layer, n)]
    momentum = getattr(layer, "momentum", None)
    if not isinstance(momentum, numbers.Real) or not layer.trainable:
        return []
    return [
        weight
        for weight in layer.non_trainable_weights
        if weight.name.split("/")[-1].startswith("moving_")
    ]


@contextlib.contextmanager
def _averaging(targets: dict[Any, list[Any]]) -> Iterator[dict[int, int]]:
    """Within it, a batch's moving statistics are the means over its uses.

    With a momentum of i / (i + 1) at the i-th use of a layer, what it moves
    to is the mean of all uses. The first one starts from 0, for 0 times what
    stood there would still be NaN where that is not finite. The momentum is a
    Python number, read when a layer is called: in a trace, once for all runs.

    Yields:
      How many uses in training each layer had, by its id.
    """
    uses: dict[int, int] = {}
    momenta = [layer.momentum for layer in targets]
    calls = [vars(layer).get("call") for layer in targets]
    try:
        for layer, weights in targets.items():
            layer.call = _counted(layer, weights, uses)
        yield uses
    finally:
        for layer, momentum, call in zip(targets, momenta, calls):
            layer.momentum = momentum
            del layer.call
            if call is not None:
                layer.call = call


def _counted(
    layer: Any, weights: list[Any], uses: dict[int, int]
) -> Callable[..., Any]:
    usual = layer.call
    signature = inspect.signature(usual)

    def call(*args, **kwargs):
        if signature.bind(*args, **kwargs).arguments.get("training"):
            index = uses.get(id(layer), 0)
            layer.momentum, uses[id(layer)] = index / (index + 1), index + 1
            if index == 0:
                for weight in weights:
                    weight.assign(np.zeros(weight.shape))
        return usual(*args, **kwargs)

    tf = structures.tensorflow()
    return tf.autograph.experimental.do_not_convert(call) if tf else call


def _traced(step: Callable[[Any], None]) -> Callable[[Any], None]:
    """The step as one graph on TensorFlow; on JAX operation by operation."""
    tf = structures.tensorflow()
    keras = sys.modules.get("keras")
    if tf is None or (keras and keras.backend.backend() == "jax"):
        return step
    return tf.function(step, reduce_retracing=True, autograph=False)


def _inputs(model: Any, batch: Any) -> Any:
    """What of a batch the model takes; refuses what does not fit."""
    wanted = [tuple(one.shape) for one in getattr(model, "inputs", None) or []]
    x = batch
    if isinstance(batch, (tuple, list)) and batch:
        x = batch[0]
        alone = len(structures.flatten(x)) != len(wanted)
        if alone and wanted and len(structures.flatten(batch)) == len(wanted):
            x = batch
    got = [tuple(np.shape(one)) for one in structures.flatten(x)]
    fits = len(got) == len(wanted) and all(
        _compatible(one, other) for one, other in zip(got, wanted)
    )
    if not wanted or fits:
        return x
    raise ValueError(
        f"A batch must be x, (x, y) or (x, y, weights), with x of the shape "
        f"of the model's inputs, {', '.join(map(str, wanted))}. "
        f"Received: x of shape {', '.join(map(str, got)) or '()'}, in a batch "
        f"of type {type(batch).__name__}"
    )


def _compatible(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == got for got, size in zip(shape, wanted)
    )


def _check_finite(
    targets: dict[Any, list[Any]], uses: dict[int, int], taken: int
) -> None:
    for layer, weights in targets.items():
        for weight in weights:
            value = structures.value(weight)
            if id(layer) in uses and not np.isfinite(value).all():
                raise ValueError(
                    "The statistics of a batch are not finite; the moving "
                    "statistics are as they were. Look for NaN or infinity in "
                    "the batch and in the weights of the layers before, or "
                    "for activations that overflow. Received: batch number "
                    f"{taken} (from 0), layer {layer.name!r}"
                )


def _check_data(dataset: Any, steps: int | None) -> None:
    if structures.is_constant(dataset):
        raise TypeError(
            "Expected batches, and an array has none. Pass [array] for one "
            "batch of all, or tf.data.Dataset.from_tensor_slices(array)"
            ".batch(32). Received: an array of shape "
            f"{tuple(dataset.shape)}"
        )
    if not hasattr(dataset, "__iter__"):
        raise TypeError(
            "Expected batches: a list, a generator or a data set of them. "
            f"Received: {dataset!r}"
        )
    if steps is not None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                "`steps` must be a positive number of batches, or None for "
                f"all. Received: steps={steps!r}"
            )
        return
    tf = structures.tensorflow()
    if (
        tf is not None
        and isinstance(dataset, tf.data.Dataset)
        and dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise ValueError(
            "The data set repeats without an end: say how many batches to "
            "take. Received: steps=None"
        )
