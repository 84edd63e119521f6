"""Images from a generator's averaged weights."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from evonorm_tf import legacy
from gan import data, experiment, latent, networks, spectral

_SAMPLES, _STANDING, _GRID = range(3)  # Streams of random numbers.


class Sampler:
    """Makes images, the same whatever the number of replicas."""

    def __init__(
        self,
        generator: networks.Generator,
        task: experiment.Task,
        strategy: tf.distribute.Strategy,
    ):
        """Takes a generator; `settle` it before images are made.

        Args:
          generator: whose weights are only read.
          task: the run's config.
          strategy: whose scope the generator was built in.
        """
        self._generator = generator
        self._model, self._settings = task.model, task.evaluation
        self._strategy = strategy
        self._make = tf.function(self._make_batches)
        self._stand = tf.function(self._standing_batches)

    def settle(self) -> None:
        """Finds anew what hangs on the weights: `u`, then batch statistics.

        Batch statistics become "standing" ones, means over fresh batches
        (arXiv:1809.11096): moving ones were never those of an average of
        weights. Layers without batch statistics need none.
        """
        spectral.settle(self._generator, self._settings.settle_iterations)
        layers = [
            (layer, name)
            for layer in self._generator._flatten_layers()
            if isinstance(layer, legacy.NormAct)
            for name, _ in layer.row.kernel.statistics
        ]
        if not layers:
            return
        sums = [0.0] * len(layers)
        replicas = self._strategy.num_replicas_in_sync
        count = -(-self._settings.standing_batches // replicas)
        for k in range(count):
            for layer, name in layers:
                statistic = getattr(layer, name)
                statistic.assign(tf.zeros_like(statistic))
            self._stand(tf.constant(k * replicas, tf.int64))
            for index, (layer, name) in enumerate(layers):
                # From 0, one update leaves (1 - momentum) of the batch's own.
                fresh = getattr(layer, name).numpy() / (1.0 - layer.momentum)
                sums[index] = sums[index] + fresh
        for (layer, name), total in zip(layers, sums):
            getattr(layer, name).assign(total / count)

    def images(self, count: int) -> Iterator[np.ndarray]:
        """Batches [n, S, S, 3], uint8, of the classes in turn, `count` in all.

        Args:
          count: images to make.
        """
        batch, made = self._settings.batch_size, 0
        while made < count:
            first = tf.constant(made // batch, tf.int64)
            local = self._strategy.experimental_local_results(self._make(first))
            for pixels in local:
                kept = pixels.numpy()[: count - made]
                made += len(kept)
                if len(kept):
                    yield kept

    def grid(self, rows: int, truncation: float = 0.0) -> np.ndarray:
        """One picture, [rows * S, classes * S, 3], uint8: a class a column.

        Args:
          rows: images of each class.
          truncation: threshold of the latents; 0 for none.
        """
        classes = min(self._model.num_classes, 10)
        seed = latent.key(self._settings.seed, _GRID)
        z = latent.truncated(
            seed, rows * classes, self._model.latent_size, truncation
        )
        labels = tf.tile(tf.range(classes), [rows])
        pixels = data.to_uint8(self._generator(z, labels, training=False))
        side = pixels.shape[1]
        pixels = tf.reshape(pixels, [rows, classes, side, side, 3])
        pixels = tf.transpose(pixels, [0, 2, 1, 3, 4])
        return tf.reshape(pixels, [rows * side, classes * side, 3]).numpy()

    @tf.autograph.experimental.do_not_convert
    def _make_batches(self, first: tf.Tensor) -> tf.Tensor:
        """A batch on each replica, the first of them number `first`."""

        def make() -> tf.Tensor:
            batch = self._settings.batch_size
            number = first + _replica()
            seed = latent.key(self._settings.seed, _SAMPLES, number)
            z = tf.random.stateless_normal(
                [batch, self._model.latent_size], seed
            )
            labels = number * batch + tf.range(batch, dtype=tf.int64)
            labels = tf.cast(labels % self._model.num_classes, tf.int32)
            return data.to_uint8(self._generator(z, labels, training=False))

        return self._strategy.run(make)

    @tf.autograph.experimental.do_not_convert
    def _standing_batches(self, first: tf.Tensor) -> None:
        """One batch through batch statistics on each replica."""

        def stand() -> None:
            number = first + _replica()
            z, labels = latent.draw(
                latent.key(self._settings.seed, _STANDING, number),
                self._settings.batch_size,
                self._model.latent_size,
                self._model.num_classes,
            )
            self._generator(z, labels, training=True)

        self._strategy.run(stand)


def _replica() -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return tf.cast(context.replica_id_in_sync_group, tf.int64)


def write_png(pixels: np.ndarray, path: str) -> None:
    """Writes a picture [H, W, 3], uint8."""
    tf.io.write_file(path, tf.io.encode_png(pixels))
