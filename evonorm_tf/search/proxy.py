"""The proxy task, by which candidates are rejected and ranked.

Quality   a short training of an anchor; candidates below 20 % validation
          accuracy after 100 steps are rejected (Section 3.3,
          arXiv:2004.02967)
Fitness   a longer training, whose accuracy tournaments compare
Stability gradient ascent on the weights, towards the largest norm of the
          loss's gradient; candidates above 1e8 are rejected

A training is one TensorFlow function with a loop inside. It is traced for one
candidate and discarded: neither XLA nor the graph optimizer pays off within a
hundred steps on a CPU. Most candidates diverge or are rejected within 40 steps,
so the size of the function determines the cost. The layer is therefore a
function that is called everywhere, the weights are one vector, and validation
is traced only for candidates that reach it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from evonorm_tf.catalog import Row
from evonorm_tf.search import data as data_lib
from evonorm_tf.search.anchors import Network
from evonorm_tf.search.data import Images
from evonorm_tf.search.proxy_loop import (
    EARLY,
    Step,
    cross_entropy,
    gradient,
    loop,
)
from evonorm_tf.search.settings import Settings

Tensor = tf.Tensor
# Up to this many steps the layer is one shared function. Its shapes are
# resolved at run time in every step, so it starts faster and runs slower.
SHORT = 100


class Training(NamedTuple):
    """The result of a training.

    Attributes:
      accuracy: on the validation images, with moving statistics.
      loss: of the last batch; not finite if the training diverged.
      steps: number of steps taken.
      early: mean loss over the steps EARLY; 0 if these were not reached.
    """

    accuracy: float
    loss: float
    steps: int
    early: float


class Stability(NamedTuple):
    """The largest gradient norm, and the number of steps to reach it."""

    norm: float
    steps: int


def configure_process() -> None:
    """Sets one thread and no graph optimizer; for a separate process."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )


class Proxy:
    """The proxy task of a search, for any layer.

    Args:
      settings: of the search.
      images: from `data.load`.
    """

    def __init__(self, settings: Settings, images: Images):
        # Kept as tensors, because copying them for every candidate would
        # take longer than some trainings.
        self._settings = settings
        self._images = Images(*(tf.constant(part) for part in images))

    def train(
        self,
        row: Row,
        anchor: str,
        steps: int,
        seed: int | None = None,
        early_exit: bool | None = None,
    ) -> Training:
        """Trains an anchor from its seeded initialization and validates it.

        Args:
          row: the layer.
          anchor: a name of `settings.ANCHORS`.
          steps: of training.
          seed: of weights and order; None for the search's.
          early_exit: whether to end a training that learns nothing; None for
            the search's.
        """
        settings, images = self._settings, self._images
        if seed is not None:
            settings = dataclasses.replace(settings, seed=seed)
        if early_exit is not None:
            settings = dataclasses.replace(settings, early_exit=early_exit)
        network = self._network(row, anchor, shared=steps <= SHORT)
        drawn = self._draw(network, settings.seed)
        batches = data_lib.batches(settings, len(images.train), steps)
        rates = np.full(steps, settings.rate, np.float32)
        if settings.cosine and steps == settings.fitness_steps:
            rates *= 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))
        train = Step(network, drawn, settings)
        data = images.train, images.train_labels, batches, rates
        step, loss, early, *after = _once(functools.partial(loop, train), *data)
        step, loss = int(step), float(loss)
        early = float(early) if step >= EARLY[1] else 0.0
        # Most candidates diverge; then there is nothing to validate.
        accuracy = 0.0
        if math.isfinite(loss) and step == steps:
            held = images.validation, images.validation_labels
            accuracy = float(_once(train.validate, *held, *after))
        return Training(accuracy, loss, step, early)

    def stability(self, row: Row) -> Stability:
        """Finds the largest gradient norm, on the first anchor.

        Each step changes all weights by `stability_rate` of their norm, along
        the exact gradient of log ||dL/dw|| (second derivatives of L). The
        paper gives neither the rate nor the batch of its ascent.
        """
        settings, images = self._settings, self._images
        network = self._network(row, settings.anchors[0], shared=False)
        weights, moving, _ = self._draw(network, settings.seed)
        count = settings.stability_batch

        def run(pixels, labels, weights, moving):
            def loss_of(weights):
                logits, _ = network(weights, moving, pixels, training=True)
                return cross_entropy(logits, labels)

            def body(step, largest, weights):
                norm, uphill = climb(loss_of, weights)
                length = tf.linalg.global_norm(uphill) + 1e-30
                size = tf.linalg.global_norm(weights)
                scale = settings.stability_rate * size / length
                weights = [w + scale * d for w, d in zip(weights, uphill)]
                # Comparisons with NaN are false; it must not pass as small.
                norm = tf.where(tf.math.is_finite(norm), norm, math.inf)
                return step + 1, tf.maximum(largest, norm), weights

            def goes_on(step, largest, weights):
                del step, weights
                return largest <= settings.stability

            step, largest, _ = tf.while_loop(
                goes_on,
                body,
                [tf.constant(0), tf.constant(0.0), weights],
                maximum_iterations=settings.stability_steps,
            )
            return largest, step

        first = images.train[:count], images.train_labels[:count]
        norm, steps = _once(run, *first, weights, moving)
        return Stability(float(norm), int(steps))

    def _network(self, row: Row, anchor: str, shared: bool) -> Network:
        width, groups = self._settings.width, self._settings.groups
        return Network(anchor, row, width, groups, shared=shared)

    def _draw(self, network: Network, seed: int):
        shape = tuple(self._images.train.shape[1:])
        if self._settings.crop:
            shape = (self._settings.crop, self._settings.crop, shape[-1])
        return network.draw(seed, shape)


def climb(
    loss_of: Callable[[list[Tensor]], Tensor], weights: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Returns the norm of a loss's gradient, and the gradient of its log."""
    with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape() as inner:
            inner.watch(weights)
            loss = loss_of(weights)
        norm = tf.linalg.global_norm(gradient(inner, loss, weights))
        height = tf.math.log(norm + 1e-30)
    return norm, gradient(outer, height, weights)


def _once(function: Callable[..., Any], *inputs: Any) -> Any:
    """Traces a function, runs it once and discards it."""
    inputs = tf.nest.map_structure(tf.constant, inputs)
    traced = tf.function(function, autograph=False)
    # Called through its concrete function, because TensorFlow warns about a
    # new function for every candidate, which is intended here.
    return traced.get_concrete_function(*inputs)(*inputs)
