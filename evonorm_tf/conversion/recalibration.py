"""Moving statistics from data, after weights changed without training."""

import itertools
from collections.abc import Iterable
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
    arXiv:1803.05407, does the same). No other weight changes. Frozen layers
    (`trainable=False`) keep theirs, and models without batch statistics need
    no data: nothing is read.

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
    targets = [
        (layer, weight)
        for layer in model._flatten_layers()
        if layer.trainable and hasattr(layer, "momentum")
        for name in ("moving_mean", "moving_variance", "moving_mean_square")
        if (weight := getattr(layer, name, None)) is not None
    ]
    if not targets:
        return 0
    _check_steps(dataset, steps)
    before = [tf.convert_to_tensor(weight) for _, weight in targets]
    run = tf.function(lambda x: model(x, training=True), reduce_retracing=True)
    sums, total, taken = [0.0] * len(targets), 0, 0
    for batch in itertools.islice(dataset, steps):
        x = batch[0] if isinstance(batch, tuple) else batch
        for _, weight in targets:
            weight.assign(tf.zeros_like(weight))
        run(x)
        count = int(tf.shape(tf.nest.flatten(x)[0])[0])
        total, taken = total + count, taken + 1
        for k, (layer, weight) in enumerate(targets):
            # From 0, one update leaves (1 - momentum) of the batch's own.
            fresh = tf.convert_to_tensor(weight) / (1.0 - layer.momentum)
            sums[k] = sums[k] + count * fresh
    short = not total or (steps is not None and taken < steps)
    for k, (_, weight) in enumerate(targets):
        weight.assign(before[k] if short else sums[k] / total)
    if short:
        raise ValueError(
            "The data set ended too early; the moving statistics are as they "
            f"were. Expected {steps or 'some'} batches. Received: {taken}"
        )
    return len(targets)


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
