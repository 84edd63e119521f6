"""Generates images from a generator's averaged weights."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from evonorm_tf import conversion, files
from gan import datasets, experiment, latent, networks, spectral
from training import workers

_SAMPLES, _STANDING, _GRID = range(3)  # Streams of random numbers.


class Sampler:
    """Generates images, the same for any number of replicas."""

    def __init__(
        self,
        generator: networks.Generator,
        task: experiment.Task,
        strategy: tf.distribute.Strategy,
    ):
        """Takes a generator; `settle` it before images are generated.

        Args:
          generator: its weights are only read.
          task: the run's config.
          strategy: in whose scope the generator was built.
        """
        self._generator = generator
        self._model, self._settings = task.model, task.evaluation
        self._strategy = strategy
        self._make = tf.function(self._make_batches)
        self._stand = tf.function(self._standing_batch)
        self._statistics = [
            (layer, statistic)
            for layer in generator._flatten_layers()
            for statistic in conversion.statistics(layer)
        ]

    def about(self) -> str:
        """Describes `images`: the settings that they depend on."""
        settings = self._settings
        text = (
            "made of the averaged generator's classes in turn, no truncation, "
            f"seed {settings.seed}, batches of {settings.batch_size}, "
            f"{settings.settle_iterations} power iterations, "
            f"{spectral.layers(self._generator)[0].compute_dtype}"
        )
        if self._statistics:
            text += f", {settings.standing_batches} standing batches"
        return text

    def settle(self) -> None:
        """Recomputes what depends on the weights: `u`, then batch statistics.

        Batch statistics become "standing" ones, means over new batches
        (arXiv:1809.11096), because moving statistics are not those of averaged
        weights. Layers without batch statistics need none.
        """
        spectral.settle(self._generator, self._settings.settle_iterations)
        if not self._statistics:
            return
        sums = [0.0] * len(self._statistics)
        count = self._settings.standing_batches
        for number in range(count):
            for _, statistic in self._statistics:
                statistic.assign(tf.zeros_like(statistic))
            self._stand(tf.constant(number, tf.int64))
            for index, (layer, statistic) in enumerate(self._statistics):
                # From 0, one update leaves (1 - momentum) of the batch's own.
                fresh = statistic.numpy() / (1.0 - layer.momentum)
                sums[index] = sums[index] + fresh
        for (_, statistic), total in zip(self._statistics, sums):
            statistic.assign(total / count)

    def images(self, count: int) -> Iterator[np.ndarray]:
        """Yields batches [n, S, S, 3], uint8, of the classes in turn.

        Each of several workers gets its part of every batch; the last one may
        have images beyond `count`.

        Args:
          count: number of images in all.
        """
        devices, batch = self._strategy, self._settings.batch_size
        replicas = devices.num_replicas_in_sync
        for first in range(0, -(-count // batch), replicas):
            made = self._make(tf.constant(first, tf.int64))
            local = devices.experimental_local_results(made)
            pixels = np.concatenate([part.numpy() for part in local])
            if not workers.several(devices):
                pixels = pixels[: count - first * batch]
            yield pixels

    def grid(self, rows: int, truncation: float = 0.0) -> np.ndarray:
        """Returns a picture [rows * S, classes * S, 3], a class per column.

        Args:
          rows: images per class.
          truncation: of the latents, see `latent.truncated`; 0 for none.
        """
        size, classes = self._model.latent_size, self._columns()
        z = latent.truncated(self._seed(), rows * classes, size, truncation)
        return self._picture(z, tf.tile(tf.range(classes), [rows]), rows)

    def truncation(self, truncations: Sequence[float]) -> np.ndarray:
        """Returns a picture: a truncation per row, a class per column.

        Args:
          truncations: factors of a column's truncated normals, at most 1.
        """
        size, classes = self._model.latent_size, self._columns()
        z = latent.truncated(self._seed(), classes, size, 1.0)
        z = tf.concat([factor * z for factor in truncations], axis=0)
        rows = len(truncations)
        return self._picture(z, tf.tile(tf.range(classes), [rows]), rows)

    def interpolation(self, columns: int = 9) -> np.ndarray:
        """Returns a picture: a class per row, from one latent to another.

        Args:
          columns: number of images, including both ends.
        """
        size, classes = self._model.latent_size, self._columns()
        ends = latent.truncated(self._seed(), 2 * classes, size, 0.0)
        z = latent.between(ends[:classes], ends[classes:], columns)
        labels = tf.repeat(tf.range(classes), columns)
        return self._picture(tf.reshape(z, [-1, size]), labels, classes)

    def _columns(self) -> int:
        """Returns the number of classes in a picture."""
        return min(self._model.num_classes, 10)

    def _seed(self) -> tf.Tensor:
        return latent.key(self._settings.seed, _GRID)

    def _picture(
        self, z: tf.Tensor, labels: tf.Tensor, rows: int
    ) -> np.ndarray:
        """Arranges images of latents and labels in rows."""
        pixels = datasets.to_uint8(self._generator(z, labels, training=False))
        side, columns = pixels.shape[1], len(labels) // rows
        pixels = tf.reshape(pixels, [rows, columns, side, side, 3])
        pixels = tf.transpose(pixels, [0, 2, 1, 3, 4])
        return tf.reshape(pixels, [rows * side, columns * side, 3]).numpy()

    @tf.autograph.experimental.do_not_convert
    def _make_batches(self, first: tf.Tensor) -> tf.Tensor:
        """Returns a batch on each replica; the first has number `first`."""

        def make() -> tf.Tensor:
            batch = self._settings.batch_size
            context = tf.distribute.get_replica_context()
            replica = context.replica_id_in_sync_group
            number = first + tf.cast(replica, tf.int64)
            seed = latent.key(self._settings.seed, _SAMPLES, number)
            z = tf.random.stateless_normal(
                [batch, self._model.latent_size], seed
            )
            labels = number * batch + tf.range(batch, dtype=tf.int64)
            labels = tf.cast(labels % self._model.num_classes, tf.int32)
            return datasets.to_uint8(self._generator(z, labels, training=False))

        return self._strategy.run(make)

    @tf.autograph.experimental.do_not_convert
    def _standing_batch(self, number: tf.Tensor) -> None:
        """Runs a batch through batch statistics, the same on each replica.

        So statistics that are pooled over replicas are those of one.
        """

        def stand() -> None:
            z, labels = latent.draw(
                latent.key(self._settings.seed, _STANDING, number),
                self._settings.batch_size,
                self._model.latent_size,
                self._model.num_classes,
            )
            self._generator(z, labels, training=True)

        self._strategy.run(stand)


def write_png(pixels: np.ndarray, path: str) -> None:
    """Writes a picture [H, W, 3], uint8."""
    files.write(path, tf.io.encode_png(pixels).numpy())
