"""Sets moving statistics from data, after weights changed without training."""

import contextlib
import inspect
import itertools
import numbers
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from evonorm_tf import catalog
from evonorm_tf.conversion import graph, structures
from evonorm_tf.errors import is_number


def recalibrate(
    model: Any, dataset: Iterable[Any], steps: int | None = None
) -> int:
    """Sets moving statistics to their means over batches of a dataset.

    After a conversion, moving statistics no longer fit the activations. Each
    batch passes through the model in training mode (including dropout), so
    every layer uses the statistics of the batch. The moving statistics of a
    layer become the means over the batches, weighted by their numbers of
    samples ("standing statistics", arXiv:1809.11096; update_bn of stochastic
    weight averaging, arXiv:1803.05407, does the same). A layer that is used
    several times contributes the mean over its uses. Previous values, even
    NaN, have no influence. Frozen layers (`trainable=False`) keep their
    statistics, and so do layers that the graph of a model calls with
    `training=False`. All other variables of the model are restored, such as
    what spectral normalization writes in training mode and, in Keras 3, the
    state of dropout; tf_keras draws dropout from TensorFlow's generator, which
    advances. For a model without batch statistics no data are read. After an
    error all statistics have their previous values.

    The model runs as one graph, unless part of it is a `tf.function` of its
    own or is not reached that way: it runs eagerly then, which is slower.

    Example:
        ```python
        evonorm_tf.recalibrate(model, dataset, steps=100)
        ```

    Args:
      model: a model of Keras 3 or tf_keras, on one device.
      dataset: batches as for `fit`: x, (x, y) or (x, y, weights), also as a
        list. x is a tensor or any other input of the model, or a dictionary by
        the names of the inputs, also with other entries. If the model has
        several inputs and x is a single one, the members of a batch are the
        inputs.
      steps: number of batches; None for all.

    Returns:
      The number of statistics, [C] each, that were set.

    Raises:
      ValueError: if there are no batches or fewer than `steps`; if `steps` is
        missing for an infinite dataset; if a batch does not match the model's
        inputs; if statistics are not finite.
      TypeError: if `dataset` is an array, which has no batches.
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
    set_here = {id(weight) for weight in flat}
    others = [
        (weight, structures.value(weight))
        for weight in model.variables
        if id(weight) not in set_here
    ]
    before = [structures.value(weight) for weight in flat]
    means = before
    sums, total, taken = [0.0] * len(flat), 0, 0
    try:
        with _averaging(targets) as uses:
            run = _step(model, targets, uses)
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
                "The dataset ended too early; the moving statistics are "
                f"unchanged. Expected {steps or 'some'} batches. "
                f"Received: {taken}"
            )
        used = [
            uses[id(layer)] > 0 for layer, own in targets.items() for _ in own
        ]
        means = [
            value / total if fresh else old
            for value, old, fresh in zip(sums, before, used)
        ]
    finally:
        # This also discards what a failed batch left behind.
        for weight, value in [*others, *zip(flat, means)]:
            weight.assign(value)
    return sum(used)


def statistics(layer: Any) -> list[Any]:
    """Returns the moving statistics of a layer: variables [C].

    Args:
      layer: any layer of either Keras. For a NormAct layer, its own
        statistics. For other layers, such as BatchNormalization, the
        non-trainable weights with the names that Keras gives to statistics.
    """
    row = getattr(layer, "row", None)
    if isinstance(row, catalog.Row):
        names = [name for name, _ in row.kernel.statistics]
        # Without its activation a layer may have no statistics.
        return [getattr(layer, n) for n in names if hasattr(layer, n)]
    momentum = getattr(layer, "momentum", None)
    if not isinstance(momentum, numbers.Real) or not layer.trainable:
        return []
    return [
        weight
        for weight in layer.non_trainable_weights
        if weight.name.split("/")[-1].startswith("moving_")
    ]


class _Uses(Counter):
    """The number of uses in training of each layer called, by its id.

    Attributes:
      graph: what is traced now; None in eager execution.
    """

    graph: Any = None


@contextlib.contextmanager
def _averaging(targets: dict[Any, list[Any]]) -> Iterator[_Uses]:
    """Averages a batch's moving statistics over the uses of each layer.

    With a momentum of i / (i + 1) at the i-th use of a layer, the moving
    statistics become the mean of all uses. The first use starts from 0,
    because 0 times a previous value would still be NaN if that is not finite.
    The momentum is a Python number that is read when a layer is called: in a
    trace, once for all executions.
    """
    uses = _Uses()
    momenta = [layer.momentum for layer in targets]
    calls = [(one, _counted(one, own, uses)) for one, own in targets.items()]
    try:
        with structures.replaced_calls(calls):
            yield uses
    finally:
        for layer, momentum in zip(targets, momenta):
            layer.momentum = momentum


def _counted(layer: Any, weights: list[Any], uses: _Uses) -> Callable[..., Any]:
    usual = layer.call
    signature = inspect.signature(usual)
    tf = structures.tensorflow()

    def call(*args, **kwargs):
        if uses.graph and tf.compat.v1.get_default_graph() is not uses.graph:
            # The error keeps the trace, with its momentum, out of the cache.
            uses.graph = None
            raise RuntimeError("inside a tf.function of the model")
        index = uses[id(layer)]
        uses[id(layer)] = index
        if signature.bind(*args, **kwargs).arguments.get("training"):
            layer.momentum, uses[id(layer)] = index / (index + 1), index + 1
            if index == 0:
                for weight in weights:
                    weight.assign(np.zeros(weight.shape))
        return usual(*args, **kwargs)

    return tf.autograph.experimental.do_not_convert(call) if tf else call


def _step(
    model: Any, targets: dict[Any, list[Any]], uses: _Uses
) -> Callable[[Any], None]:
    """Returns a function of x that runs the model and counts the uses.

    On TensorFlow it is one graph. A `tf.function` inside would store the
    temporary momentum, or already has a trace that does not reach `_counted`;
    then, and on JAX, the model runs eagerly.
    """
    tf = structures.tensorflow()
    keras = sys.modules.get("keras")

    def eager(x):
        uses.clear()
        with _functions_eager(tf):
            model(x, training=True)

    def trace(x):
        uses.clear()  # Counted again in each trace.
        uses.graph = tf.compat.v1.get_default_graph()
        model(x, training=True)

    jax = keras is not None and keras.backend.backend() == "jax"
    if tf is None or jax or not all(map(_has_known_call, targets)):
        return eager
    traced = tf.function(trace, reduce_retracing=True, autograph=False)
    as_graph = True

    def step(x):
        nonlocal as_graph
        if as_graph:
            try:
                traced(x)
            except Exception:
                if uses.graph is not None:
                    raise
                uses.clear()
            as_graph = all(id(layer) in uses for layer in targets)
        if not as_graph:
            uses.graph = None
            eager(x)

    return step


def _has_known_call(layer: Any) -> bool:
    """Returns whether no `tf.function` can hide in a layer's own `call`."""
    home = getattr(type(layer).call, "__module__", "")
    return home.split(".")[0] in ("keras", "tf_keras", "evonorm_tf")


@contextlib.contextmanager
def _functions_eager(tf: Any) -> Iterator[None]:
    if tf is None:
        yield
        return
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _inputs(model: Any, batch: Any) -> Any:
    """Returns the model's inputs from a batch; rejects mismatches."""
    wanted = [tuple(one.shape) for one in getattr(model, "inputs", None) or []]
    x = batch
    if isinstance(batch, (tuple, list)) and batch:
        x = batch[0]
    if wanted and isinstance(x, Mapping):
        x = _by_name(model, x)
    elif x is not batch:
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


def _by_name(model: Any, x: Mapping[str, Any]) -> Any:
    """Returns the model's inputs from a dictionary, as `fit` takes them.

    The keys are those of the model's own dictionary or the names of its inputs;
    there may be others, which are not inputs.
    """
    structure, _ = graph.structure(model)
    if isinstance(structure, Mapping):
        return {key: x[key] for key in structure if key in x}
    leaves = structures.flatten(structure)
    if all(leaf.name in x for leaf in leaves):
        return structures.map_structure(lambda leaf: x[leaf.name], structure)
    return x


def _compatible(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == got for got, size in zip(shape, wanted)
    )


def _check_finite(
    targets: dict[Any, list[Any]], uses: _Uses, taken: int
) -> None:
    for layer, weights in targets.items():
        for weight in weights:
            value = structures.value(weight)
            if uses[id(layer)] and not np.isfinite(value).all():
                raise ValueError(
                    "The statistics of a batch are not finite; the moving "
                    "statistics are unchanged. Look for NaN or infinity in "
                    "the batch and in the weights of earlier layers, and for "
                    "activations that overflow. Received: batch number "
                    f"{taken} (from 0), layer {layer.name!r}"
                )


def _check_data(dataset: Any, steps: int | None) -> None:
    if structures.is_constant(dataset):
        raise TypeError(
            "Expected batches, not an array. Pass [array] for a single batch "
            "with all samples, or tf.data.Dataset.from_tensor_slices(array)"
            ".batch(32). Received: an array of shape "
            f"{tuple(dataset.shape)}"
        )
    if not hasattr(dataset, "__iter__"):
        raise TypeError(
            "Expected batches: a list, a generator or a data set of them. "
            f"Received: {dataset!r}"
        )
    if steps is not None:
        if not is_number(numbers.Integral, steps) or steps < 1:
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
            "The dataset is infinite: set `steps`, the number of batches. "
            "Received: steps=None"
        )
