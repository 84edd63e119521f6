"""Which example comes when, and which input pipeline reads it.

Example `step * batch + i` of a run is the i-th of a step's global batch,
however many hosts share it: of k input pipelines the p-th has the p-th of k
equal parts of every batch, so that a replica's examples do not depend on k.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

FOREVER = np.iinfo(np.int64).max
_as_written = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of training.

    Attributes:
      seed: of the order.
      batch: examples per step, over all replicas.
      buffer: number of records that are shuffled together, over all pipelines,
        if the reader cannot shuffle the dataset as a whole.
    """

    seed: int
    batch: int
    buffer: int = 1


@dataclasses.dataclass(frozen=True)
class Share:
    """One of several input pipelines.

    Attributes:
      pipelines: number of pipelines.
      pipeline: index of this one, from 0.
    """

    pipelines: int = 1
    pipeline: int = 0

    @classmethod
    def of(
        cls, context: tf.distribute.InputContext | None, batch: int
    ) -> "Share":
        """Returns the pipeline of an input context, for global batches.

        Raises:
          ValueError: if the pipelines do not divide the batch.
        """
        context = context or tf.distribute.InputContext()
        pipelines = context.num_input_pipelines
        if batch % pipelines:
            raise ValueError(
                "The global batch size must be divisible by the number of "
                "hosts. Received: "
                f"global_batch_size={batch}, input pipelines={pipelines}"
            )
        return cls(pipelines, context.input_pipeline_id)

    def positions(self, batch: int, start_step: int = 0) -> tf.data.Dataset:
        """Yields the numbers of this share's examples, without end."""
        each = batch // self.pipelines
        first = self.pipeline * each
        return tf.data.Dataset.range(start_step * each, FOREVER).map(
            _as_written(lambda k: k // each * batch + first + k % each)
        )

    def of_batches(
        self, stream: tf.data.Dataset, batch: int
    ) -> tf.data.Dataset:
        """Returns this share of a stream of global batches."""
        if self.pipelines == 1:
            return stream
        each = batch // self.pipelines

        def is_mine(number: tf.Tensor, _: object) -> tf.Tensor:
            return number % batch // each == self.pipeline

        mine = stream.enumerate().filter(_as_written(is_mine))
        return mine.map(_as_written(lambda _, one: one))

    def of_evaluation(self, examples: int, batch: int) -> tuple[int, int]:
        """Returns the first and last (exclusive) index in an evaluation.

        Indices from `examples` on pad the batches.
        """
        each = math.ceil(examples / batch) * batch // self.pipelines
        return self.pipeline * each, (self.pipeline + 1) * each

    def say_that_all_is_read(self, shards: int, batch: int) -> None:
        """Logs once why the pipelines read more than their own shards."""
        _say(
            f"Each of {self.pipelines} hosts reads all of the training data, "
            f"because {shards} shards and a batch of {batch} cannot be divided "
            "among them. With a number of shards that is divisible by the "
            "number of hosts, each would read only its own"
        )


ALONE = Share()


@functools.cache
def _say(text: str) -> None:
    print(text)


def shuffled(examples: int, seed: int, number: tf.Tensor) -> tf.Tensor:
    """0 to examples - 1, int64, in the order of an epoch.

    Args:
      examples: how many.
      seed: of the order.
      number: of the epoch, int64.
    """
    return tf.random.experimental.stateless_shuffle(
        tf.range(examples, dtype=tf.int64),
        seed=tf.stack([tf.constant(seed, tf.int64), number]),
    )
