"""Moving statistics from data, after weights changed without training."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf


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
    times has the mean of its uses. No other weight changes. Frozen layers
    (`trainable=False`) keep theirs, and so do those that a model's own graph
    calls with `training=False`; models without batch statistics need no data:
    nothing is read. After an error all statistics are as they were.

    Args:
      model: a model of Keras 3 or tf_keras, on one device.
      dataset: batches as for `fit`: x, (x, y) or (x, y, weights), x being a
        tensor or what else the model takes.
      steps: batches to take; None for all.

    Returns:
      How many statistics, [C] each, were set.

    Raises:
      ValueError: if there are fewer batches than `steps`, none, or if
        `steps` is missing for a data set without an end.
    """
    found = {id(layer): layer for layer in model._flatten_layers()}.values()
    layers = [x for x in found if x.trainable and hasattr(x, "momentum")]
    targets = [
        (layer, weight)
        for layer in layers
        for name in ("moving_mean", "moving_variance", "moving_mean_square")
        if (weight := getattr(layer, name, None)) is not None
    ]
    if not targets:
        return 0
    _check_steps(dataset, steps)
    before = [tf.convert_to_tensor(weight) for _, weight in targets]
    means = before
    sums, total, taken = [0.0] * len(targets), 0, 0
    try:
        with _averaging(layers) as uses:

            def step(x):
                uses.clear()  # Counted anew in each trace.
                model(x, training=True)

            run = tf.function(step, reduce_retracing=True, autograph=False)
            for batch in itertools.islice(dataset, steps):
                x = batch[0] if isinstance(batch, tuple) else batch
                run(x)
                count = int(tf.shape(tf.nest.flatten(x)[0])[0])
                total, taken = total + count, taken + 1
                for k, (_, weight) in enumerate(targets):
                    sums[k] += count * tf.convert_to_tensor(weight)
        if not total or (steps is not None and taken < steps):
            raise ValueError(
                "The data set ended too early; the moving statistics are as "
                f"they were. Expected {steps or 'some'} batches. "
                f"Received: {taken}"
            )
        means = [
            value / total if id(layer) in uses else old
            for value, old, (layer, _) in zip(sums, before, targets)
        ]
    finally:
        # Nor does what a failed batch left stay.
        for value, (_, weight) in zip(means, targets):
            weight.assign(value)
    return sum(id(layer) in uses for layer, _ in targets)


@contextlib.contextmanager
def _averaging(layers: list[Any]) -> Iterator[dict[int, int]]:
    """Within it, a batch's moving statistics are the means over its uses.

    With a momentum of i / (i + 1) at the i-th use of a layer, what it moves
    to is the mean of all uses, whatever stood there before. The momentum is a
    Python number, read when a layer is called: in a trace, once for all runs.

    Yields:
      How many uses in training each layer had, by its id.
    """
    uses: dict[int, int] = {}
    momenta = [layer.momentum for layer in layers]
    calls = [vars(layer).get("call") for layer in layers]
    try:
        for layer in layers:
            layer.call = _counted(layer, uses)
        yield uses
    finally:
        for layer, momentum, call in zip(layers, momenta, calls):
            layer.momentum = momentum
            del layer.call
            if call is not None:
                layer.call = call


def _counted(layer: Any, uses: dict[int, int]) -> Callable[..., Any]:
    usual = layer.call
    signature = inspect.signature(usual)

    @tf.autograph.experimental.do_not_convert
    def call(*args, **kwargs):
        if signature.bind(*args, **kwargs).arguments.get("training"):
            index = uses.get(id(layer), 0)
            layer.momentum, uses[id(layer)] = index / (index + 1), index + 1
        return usual(*args, **kwargs)

    return call


def _check_steps(dataset: Any, steps: int | None) -> None:
    if steps is not None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                "`steps` must be a positive number of batches, or None for "
                f"all. Received: steps={steps!r}"
            )
        return
    endless = tf.data.INFINITE_CARDINALITY
    if (
        isinstance(dataset, tf.data.Dataset)
        and dataset.cardinality() == endless
    ):
        raise ValueError(
            "The data set repeats without an end: say how many batches to "
            "take. Received: steps=None"
        )
