"""The training loop of the proxy task.

The cost of a candidate depends more on the operations in its graph than on its
steps. Weights, velocities and moving statistics are therefore one vector each,
which the loop carries and updates at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf.search.anchors import Network
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import GUESS

Tensor = tf.Tensor
_MOMENTUM = 0.9
_MOVING_DECAY = 0.9
# With `early_exit`, a training whose mean loss over these steps is no better
# than guessing is ended after them.
EARLY = (20, 40)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses)


def gradient(tape: tf.GradientTape, target: Tensor, sources: Any):
    """Returns gradients, with zeros for unconnected sources."""
    return tape.gradient(
        target,
        sources,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def crop(pixels: Tensor, corners: Tensor, size: int) -> Tensor:
    """Crops a square of each image [N, H, W, C] at corners [N, 2] in [0, 1)."""
    room = tf.constant([pixels.shape[1] - size + 1] * 2, tf.float32)
    starts = tf.cast(corners * room, tf.int32)
    for axis in (0, 1):
        index = starts[:, axis, None] + tf.range(size)
        pixels = tf.gather(pixels, index, axis=1, batch_dims=1)
        # Columns as rows: gathering along axis 2 takes twice as long.
        pixels = tf.transpose(pixels, [0, 2, 1, 3])
    return pixels


class Flat:
    """Stores tensors in one vector, so that a loop has one state.

    Args:
      like: arrays with the shapes of the tensors.
    """

    def __init__(self, like: Sequence[np.ndarray]):
        self._shapes = [part.shape for part in like]
        self._sizes = [part.size for part in like]

    def pack(self, parts: Sequence[Tensor]) -> Tensor:
        """Returns the vector of the tensors."""
        if not self._shapes:
            return tf.zeros([0])
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    def unpack(self, vector: Tensor) -> list[Tensor]:
        """Returns the tensors of the vector."""
        if not self._shapes:
            return []
        parts = tf.split(vector, self._sizes)
        return [
            part if len(shape) == 1 else tf.reshape(part, shape)
            for part, shape in zip(parts, self._shapes)
        ]


class Step:
    """One step of SGD with Nesterov momentum.

    Args:
      network: the network to train.
      drawn: its initial weights, from `Network.draw`.
      settings: of the search.
    """

    def __init__(self, network: Network, drawn, settings: Settings):
        weights, moving, decays = drawn
        self._network, self._settings = network, settings
        self._weights, self._moving = Flat(weights), Flat(moving)
        start = [np.ravel(w) for w in weights]
        rates = [settings.decay * decays_ for decays_ in decays]
        rates = np.repeat(rates, [w.size for w in weights])
        self._decay = rates.astype(np.float32)
        # Of the weights, their velocity and the moving statistics.
        self.start = (
            np.concatenate(start),
            np.zeros_like(self._decay),
            np.concatenate([np.zeros(0, np.float32), *moving]),
        )

    def __call__(self, batch, rate, vector, velocity, moving):
        """Returns the loss before the step and the new state."""
        images, labels = batch
        weights = self._weights.unpack(vector)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, fresh = self._network(weights, [], images, True)
            loss = cross_entropy(logits, labels)
        grad = self._weights.pack(gradient(tape, loss, weights))
        grad += self._decay * vector
        velocity = _MOMENTUM * velocity + grad
        vector -= rate * (grad + _MOMENTUM * velocity)
        moved = (self._moving.pack(fresh) - moving) * (1.0 - _MOVING_DECAY)
        return loss, vector, velocity, moving + moved

    def validate(self, images, labels, vector, velocity, moving):
        """Returns the accuracy with moving statistics."""
        del velocity
        weights = self._weights.unpack(vector)
        moving = self._moving.unpack(moving)
        logits, _ = self._network(weights, moving, images, training=False)
        right = tf.argmax(logits, 1, tf.int32) == labels
        right &= tf.reduce_all(tf.math.is_finite(logits), 1)
        return tf.reduce_mean(tf.cast(right, tf.float32))

    @property
    def crop(self) -> int:
        """Returns the side of training crops."""
        return self._settings.crop

    @property
    def gives_up(self) -> bool:
        """Returns whether the early exit is on."""
        return self._settings.early_exit


def loop(train: Step, pixels, labels, batches, rates):
    """Runs all steps, or stops early if the training fails.

    Returns:
      The number of steps, the last loss, the mean loss over EARLY (once they
      are over), and the state after them, as `train.start`.
    """
    first, last = EARLY

    def body(step, loss, early, *state):
        rows = tf.cast(batches[step, :, 0], tf.int32)
        images = tf.gather(pixels, rows)
        if train.crop:
            images = crop(images, batches[step, :, 1:], train.crop)
        batch = images, tf.gather(labels, rows)
        loss, *state = train(batch, rates[step], *state)
        counts = tf.cast((step >= first) & (step < last), tf.float32)
        return step + 1, loss, early + counts * loss / (last - first), *state

    def goes_on(step, loss, early, *state):
        del state
        finite = tf.math.is_finite(loss)
        if not train.gives_up:
            return finite
        return finite & ((step != last) | (early < GUESS))

    return tf.while_loop(
        goes_on,
        body,
        [
            *(tf.constant(0), tf.constant(0.0), tf.constant(0.0)),
            *(tf.constant(part) for part in train.start),
        ],
        maximum_iterations=tf.shape(rates)[0],
    )
