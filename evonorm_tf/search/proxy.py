"""The proxy task: what a candidate is rejected and ranked by.

Quality   a short training of an anchor; below 20 % validation accuracy after
          100 steps the candidate goes (Section 3.3, arXiv:2004.02967)
Fitness   a longer one; its accuracy is what tournaments compare
Stability gradient ascent on the weights, towards the largest norm of the
          loss's gradient; above 1e8 the candidate goes

One training is one TensorFlow function with one loop inside, traced for one
candidate and dropped: neither XLA nor the graph optimiser earns its time
back in a hundred steps on a CPU.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from evonorm_tf.catalog import Row
from evonorm_tf.search import data as data_lib
from evonorm_tf.search.anchors import Network
from evonorm_tf.search.data import Images
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import GUESS

Tensor = tf.Tensor
_MOMENTUM = 0.9
_MOVING_DECAY = 0.9
# A training whose mean loss over these steps is no better than a guess is
# given up after them, where `early_exit` says so.
EARLY = (20, 40)


class Training(NamedTuple):
    """What a training came to.

    Attributes:
      accuracy: on the validation images, with moving statistics.
      loss: of the last batch; not finite where the training broke off.
      steps: taken.
      early: mean loss over the steps EARLY; 0 if it did not get there.
    """

    accuracy: float
    loss: float
    steps: int
    early: float


class Stability(NamedTuple):
    """The largest gradient norm found, and after how many steps."""

    norm: float
    steps: int


def configure_process() -> None:
    """One thread and no graph optimiser: for a process of its own."""
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
        # Tensors from here on: a copy for every candidate would take longer
        # than some of their trainings.
        self._settings = settings
        self._images = Images(*(tf.constant(part) for part in images))

    def train(self, row: Row, anchor: str, steps: int) -> Training:
        """Trains an anchor from its seeded start, and validates it."""
        settings, images = self._settings, self._images
        network = self._network(row, anchor)
        weights, moving, decays = self._draw(network)
        batches = data_lib.batches(settings, len(images.train), steps)
        rates = np.full(steps, settings.rate, np.float32)
        if settings.cosine and steps == settings.fitness_steps:
            rates *= 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))

        def run(data, held, weights, moving):
            train = _Step(network, decays, settings)
            step, loss, early, *after = _loop(train, data, weights, moving)

            def validate():
                pixels, labels = held
                logits, _ = network(*after, pixels, training=False)
                right = tf.argmax(logits, 1, tf.int32) == labels
                right &= tf.reduce_all(tf.math.is_finite(logits), 1)
                return tf.reduce_mean(tf.cast(right, tf.float32))

            # Most candidates break off; there is nothing to validate then.
            whole = tf.math.is_finite(loss) & (step == steps)
            accuracy = tf.cond(whole, validate, lambda: tf.constant(0.0))
            return accuracy, loss, step, early

        data = images.train, images.train_labels, batches, rates
        held = images.validation, images.validation_labels
        found = _once(run, data, held, weights, moving)
        accuracy, loss, step, early = (value.numpy() for value in found)
        early = float(early) if int(step) >= EARLY[1] else 0.0
        return Training(float(accuracy), float(loss), int(step), early)

    def stability(self, row: Row) -> Stability:
        """Climbs to the largest gradient norm, on the first anchor.

        Each step moves all weights by `stability_rate` of their norm, along
        the exact gradient of log ||dL/dw|| (second derivatives of L). The
        paper gives neither the rate nor the batch of its ascent.
        """
        settings, images = self._settings, self._images
        network = self._network(row, settings.anchors[0])
        weights, moving, _ = self._draw(network)
        count = settings.stability_batch

        def run(pixels, labels, weights, moving):
            def loss_of(weights):
                logits, _ = network(weights, moving, pixels, training=True)
                return _cross_entropy(logits, labels)

            def body(step, largest, weights):
                norm, uphill = climb(loss_of, weights)
                length = tf.linalg.global_norm(uphill) + 1e-30
                size = tf.linalg.global_norm(weights)
                scale = settings.stability_rate * size / length
                weights = [w + scale * d for w, d in zip(weights, uphill)]
                # NaN compares false, and must not pass for a small norm.
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

    def _network(self, row: Row, anchor: str) -> Network:
        settings = self._settings
        return Network(anchor, row, settings.width, settings.groups)

    def _draw(self, network: Network):
        shape = tuple(self._images.train.shape[1:])
        if self._settings.crop:
            shape = (self._settings.crop, self._settings.crop, shape[-1])
        return network.draw(self._settings.seed, shape)


def climb(
    loss_of: Callable[[list[Tensor]], Tensor], weights: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The norm of a loss's gradient, and the gradient of that norm's log."""
    with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape() as inner:
            inner.watch(weights)
            loss = loss_of(weights)
        norm = tf.linalg.global_norm(_gradient(inner, loss, weights))
        height = tf.math.log(norm + 1e-30)
    return norm, _gradient(outer, height, weights)


def _once(function: Callable[..., Any], *inputs: Any) -> Any:
    """Traces a function, runs it once and forgets it."""
    inputs = tf.nest.map_structure(tf.constant, inputs)
    traced = tf.function(function, autograph=False)
    # Called through its one trace: a new function for every candidate is
    # what TensorFlow warns of, and what is meant here.
    return traced.get_concrete_function(*inputs)(*inputs)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses)


def _gradient(tape: tf.GradientTape, target: Tensor, sources: Any):
    return tape.gradient(
        target,
        sources,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _crop(pixels: Tensor, corners: Tensor, size: int) -> Tensor:
    """A square of each image [N, H, W, C], at corners [N, 2] in [0, 1)."""
    room = tf.constant([pixels.shape[1] - size + 1] * 2, tf.float32)
    starts = tf.cast(corners * room, tf.int32)
    for axis in (1, 2):
        index = starts[:, axis - 1, None] + tf.range(size)
        if axis == 1:
            pixels = tf.gather(pixels, index, axis=1, batch_dims=1)
        else:
            pixels = tf.gather(
                tf.transpose(pixels, [0, 2, 1, 3]), index, batch_dims=1, axis=1
            )
            pixels = tf.transpose(pixels, [0, 2, 1, 3])
    return pixels


class _Step:
    """One step of SGD with Nesterov momentum."""

    def __init__(
        self, network: Network, decays: Sequence[bool], settings: Settings
    ):
        self._network, self._decays = network, decays
        self._settings = settings

    def __call__(self, batch, rate, weights, velocities, moving):
        """Returns the loss before the step and everything after it."""
        images, labels = batch
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, fresh = self._network(weights, moving, images, True)
            loss = _cross_entropy(logits, labels)
        grads = _gradient(tape, loss, weights)
        after = []
        for w, v, g, decays in zip(weights, velocities, grads, self._decays):
            if decays:
                g += self._settings.decay * w
            v = _MOMENTUM * v + g
            after.append((w - rate * (g + _MOMENTUM * v), v))
        weights, velocities = (list(part) for part in zip(*after))
        moving = [
            m + (f - m) * (1.0 - _MOVING_DECAY) for m, f in zip(moving, fresh)
        ]
        return loss, weights, velocities, moving

    @property
    def crop(self) -> int:
        return self._settings.crop

    @property
    def gives_up(self) -> bool:
        return self._settings.early_exit and self._settings.rejection


def _loop(train: _Step, data, weights, moving):
    """All steps, or those up to where it is hopeless.

    Returns:
      Steps taken, the last loss, the mean loss over EARLY (once they are
      over), weights, moving statistics.
    """
    pixels, labels, batches, rates = data
    velocities = [tf.zeros_like(w) for w in weights]
    first, last = EARLY

    def body(step, loss, early, weights, velocities, moving):
        rows = tf.cast(batches[step, :, 0], tf.int32)
        images = tf.gather(pixels, rows)
        if train.crop:
            images = _crop(images, batches[step, :, 1:], train.crop)
        batch = images, tf.gather(labels, rows)
        loss, *after = train(batch, rates[step], weights, velocities, moving)
        counts = tf.cast((step >= first) & (step < last), tf.float32)
        return step + 1, loss, early + counts * loss / (last - first), *after

    def goes_on(step, loss, early, *state):
        del state
        finite = tf.math.is_finite(loss)
        if not train.gives_up:
            return finite
        return finite & ((step != last) | (early < GUESS))

    step, loss, early, weights, _, moving = tf.while_loop(
        goes_on,
        body,
        [
            *(tf.constant(0), tf.constant(0.0), tf.constant(0.0)),
            *(weights, velocities, moving),
        ],
        maximum_iterations=tf.shape(rates)[0],
    )
    return step, loss, early, weights, moving
