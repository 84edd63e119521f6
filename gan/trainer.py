"""The training step: two networks, two optimizers, one averaged generator.

A step is one of the generator. Its images are fetched at once and divided among
the discriminator's steps, which come first.
"""

from typing import Any

import orbit
import tensorflow as tf
import tf_keras

from gan import experiment, latent, networks, spectral
from training import compilation, config, driver

Tensor = tf.Tensor
METRICS = (
    "discriminator_loss_real",
    "discriminator_loss_fake",
    "generator_loss",
    "score_real",
    "score_fake",
)
# The Model Garden's settings that its trainer and tasks read, and we do not.
_UNREAD = (
    "task.init_checkpoint",
    "task.validation_data",
    "task.allow_image_summary",
    "task.differential_privacy_config",
    "trainer.optimizer_config",
    "trainer.best_checkpoint_export_subdir",
    "trainer.best_checkpoint_eval_metric",
    "trainer.best_checkpoint_metric_comp",
    "trainer.validation_steps",
    "trainer.loss_upper_bound",
    "trainer.recovery_begin_steps",
    "trainer.recovery_max_trials",
    "trainer.train_tf_function",
    "trainer.train_tf_while_loop",
    "trainer.eval_tf_function",
    "trainer.eval_tf_while_loop",
    "trainer.allow_tpu_summary",
    "runtime.loss_scale",
)


class Trainer(orbit.StandardTrainer):
    """Trains a BigGAN with the hinge loss.

    Attributes:
      generator: the generator.
      average: its averaged weights. Everything else in it (`u`, moving
        statistics) is recomputed before use: `gan.sampling.settle`.
      discriminator: the discriminator.
      strategy: the distribution strategy.
      global_step: steps of the generator.
      checkpoint: everything that a run needs to resume.
      compilation: what XLA compiles.
    """

    def __init__(
        self,
        params: config.Experiment,
        strategy: tf.distribute.Strategy,
        dataset: Any,
    ):
        """Builds networks and optimizers in the scope of `strategy`.

        Args:
          params: the experiment.
          strategy: the distribution strategy.
          dataset: of (images, labels), for one step per replica.
        """
        super().__init__(
            dataset, orbit.StandardTrainerOptions(use_tf_while_loop=True)
        )
        self.strategy = strategy
        self._task: experiment.Task = params.task
        self._replicas = strategy.num_replicas_in_sync
        model = self._task.model
        with strategy.scope():
            self.generator, self.discriminator = networks.build(model)
            self.average = networks.build_generator(model)
            self.average.set_weights(self.generator.get_weights())
            self._optimizers = [
                _adam(self._task.generator_optimizer, self.generator),
                _adam(self._task.discriminator_optimizer, self.discriminator),
            ]
            self.global_step = orbit.utils.create_global_step()
            self._means = {
                name: tf_keras.metrics.Mean(name) for name in METRICS
            }
        trained = (self.generator, self.discriminator)
        self.compilation = compilation.resolve(
            params.runtime, strategy, trained
        )
        kind = self.compilation.kind
        self._discriminate = compilation.compiled(self._discriminate, kind)
        self._generate = compilation.compiled(self._generate, kind)
        self.checkpoint = tf.train.Checkpoint(
            **self.models,
            generator_optimizer=self._optimizers[0],
            discriminator_optimizer=self._optimizers[1],
            global_step=self.global_step,
        )

    @property
    def models(self) -> dict[str, tf_keras.Model]:
        """Returns the networks, by their names in a checkpoint."""
        return {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
        }

    def train_loop_begin(self) -> None:
        """Resets the last loop's metrics."""
        for mean in self._means.values():
            mean.reset_state()

    def train_loop_end(self) -> dict[str, Tensor]:
        """Returns means over the loop's steps, and the largest sigmas.

        Raises:
          FloatingPointError: if a sigma exceeds its limit, before anything is
            saved.
        """
        logs = {name: mean.result() for name, mean in self._means.items()}
        limit = self._task.sigma_limit
        for name in ("generator", "discriminator"):
            network = getattr(self, name)
            sigma, index = spectral.largest(network)
            logs[f"{name}_sigma"] = sigma
            if limit and float(sigma) > limit:
                layer = spectral.layers(network)[int(index)]
                raise FloatingPointError(
                    f"The {name} has collapsed by step "
                    f"{int(self.global_step.numpy())}: the kernel of "
                    f"{layer.kernel.name!r} {list(layer.kernel.shape)} has "
                    "exceeded its limit. Resume from an earlier checkpoint at "
                    "a lower rate, or increase task.sigma_limit (0: none). "
                    f"Received: sigma={float(sigma):.4g}, sigma_limit={limit}"
                )
        return logs

    def train_step(self, iterator: Any) -> None:
        """Runs one step, in cross-replica context."""
        self.strategy.run(self.replica_step, args=next(iterator))
        self.global_step.assign_add(1)

    # There is no control flow on tensors here: AutoGraph would only convert
    # every layer's source, which took a quarter of the time for tracing.
    @tf.autograph.experimental.do_not_convert
    def replica_step(self, images: Tensor, labels: Tensor) -> None:
        """Runs the steps of discriminator, generator and average."""
        task = self._task
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group
        parts = task.discriminator_steps * task.accumulation
        # With several workers, TensorFlow loses the static batch size.
        count = task.train_data.global_batch_size // self._replicas
        count *= task.discriminator_steps
        images = tf.ensure_shape(images, [count, *images.shape[1:]])
        labels = tf.ensure_shape(labels, [count])
        pieces = list(zip(tf.split(images, parts), tf.split(labels, parts)))
        keys = [
            latent.key(task.seed, self.global_step, replica, substep)
            for substep in range(parts + task.accumulation)
        ]
        for first in range(0, parts, task.accumulation):
            last = first + task.accumulation
            self.discriminator_step(pieces[first:last], keys[first:last])
        self.generator_step(pieces[0][1].shape[0], keys[parts:])
        self.average_step()

    def discriminator_step(
        self, pieces: list[tuple[Tensor, Tensor]], keys: list[Tensor]
    ) -> Tensor:
        """Runs one step of the discriminator on a replica: returns its loss.

        Args:
          pieces: (images, labels) of each part of the batch.
          keys: of its random numbers.
        """
        losses, gradients = zip(
            *(
                self._discriminate(*piece, *self._draw(piece[1].shape[0], k))
                for piece, k in zip(pieces, keys)
            )
        )
        self._apply(gradients, self.discriminator, 1)
        return tf.add_n(losses) / len(losses)

    def generator_step(self, count: int, keys: list[Tensor]) -> Tensor:
        """Runs one step of the generator on a replica: returns its loss.

        Args:
          count: images of each part of the batch.
          keys: of its random numbers.
        """
        losses, gradients = zip(
            *(self._generate(*self._draw(count, k)) for k in keys)
        )
        self._apply(gradients, self.generator, 0)
        return tf.add_n(losses) / len(losses)

    def average_step(self) -> None:
        """Updates the average, in replica context."""
        decay = tf.where(
            self.global_step < self._task.average_start,
            0.0,
            self._task.average_decay,
        )
        context = tf.distribute.get_replica_context()
        context.merge_call(self._move_average, args=(decay,))

    def _draw(self, count: int, key: Tensor) -> tuple[Tensor, Tensor]:
        """Draws latents and classes; XLA would draw other numbers."""
        model = self._task.model
        return latent.draw(key, count, model.latent_size, model.num_classes)

    def _discriminate(
        self, images: Tensor, labels: Tensor, z: Tensor, classes: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the discriminator's loss and gradients."""
        made = self.generator(z, classes, training=True)
        with tf.GradientTape() as tape:
            scores = self.discriminator(
                tf.concat([made, images], axis=0),
                tf.concat([classes, labels], axis=0),
                training=True,
            )
            fake, real = tf.split(scores, 2)
            loss_real = tf.reduce_mean(tf.nn.relu(1.0 - real))
            loss_fake = tf.reduce_mean(tf.nn.relu(1.0 + fake))
            loss = loss_real + loss_fake
            scaled = loss / self._replicas
        self._means["discriminator_loss_real"].update_state(loss_real)
        self._means["discriminator_loss_fake"].update_state(loss_fake)
        self._means["score_real"].update_state(real)
        self._means["score_fake"].update_state(fake)
        variables = self.discriminator.trainable_variables
        return loss, tape.gradient(scaled, variables)

    def _generate(
        self, z: Tensor, classes: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the generator's loss and gradients."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.generator.trainable_variables)
            made = self.generator(z, classes, training=True)
            scores = self.discriminator(made, classes, training=True)
            loss = -tf.reduce_mean(scores)
            scaled = loss / self._replicas
        self._means["generator_loss"].update_state(loss)
        variables = self.generator.trainable_variables
        return loss, tape.gradient(scaled, variables)

    def _apply(
        self,
        gradients: tuple[list[Tensor], ...],
        network: tf_keras.Model,
        which: int,
    ) -> None:
        """Applies one optimizer step with the mean gradient of the parts."""
        parts = len(gradients)
        # A table's gradient is sparse; all are made dense, to be added.
        each = [[tf.convert_to_tensor(g) for g in part] for part in gradients]
        mean = [tf.add_n(parts_of_one) / parts for parts_of_one in zip(*each)]
        self._optimizers[which].apply_gradients(
            zip(mean, network.trainable_variables)
        )

    def _move_average(
        self, strategy: tf.distribute.Strategy, decay: Tensor
    ) -> None:
        """Sets average = decay * average + (1 - decay) * generator."""

        def move(old: tf.Variable, new: Tensor, decay: Tensor) -> None:
            old.assign(decay * old + (1.0 - decay) * new)

        for old, new in zip(
            self.average.trainable_variables, self.generator.trainable_variables
        ):
            strategy.extended.update(old, move, args=(new, decay))


def check(params: config.Experiment, per_replica: int) -> None:
    """Rejects invalid steps.

    Args:
      params: the experiment.
      per_replica: images per step on one replica.

    Raises:
      ValueError: if there is no step or part, parts do not divide a batch, the
        networks are invalid, or a setting would have no effect.
    """
    task: experiment.Task = params.task
    config.refuse_unread(
        params,
        driver.experiment(experiment.Task()),
        _UNREAD,
        "A GAN has the optimizers task.generator_optimizer and "
        "task.discriminator_optimizer, and task.evaluation instead of a "
        "validation set and a best checkpoint, so",
    )
    if params.runtime.mixed_precision_dtype == "float16":
        raise ValueError(
            "A GAN's losses are not scaled, so its small gradients would be 0 "
            "in float16. Use bfloat16, which has the range of float32. "
            "Received: runtime.mixed_precision_dtype='float16'"
        )
    least = dict.fromkeys(("discriminator_steps", "accumulation"), 1)
    config.require_at_least(task, least, "task.")
    least = dict.fromkeys(("global_batch_size", "shuffle_buffer_size"), 1)
    config.require_at_least(task.train_data, least, "task.train_data.")
    networks.check(task.model)
    if per_replica % task.accumulation:
        raise ValueError(
            "task.accumulation must divide the batch of a replica. Received: "
            f"accumulation={task.accumulation}, batch={per_replica}"
        )
    if params.runtime.accumulation_steps != 1:
        raise ValueError(
            "For a GAN use task.accumulation instead. Received: "
            "runtime.accumulation_steps="
            f"{params.runtime.accumulation_steps}"
        )


def _adam(
    settings: experiment.Adam, network: tf_keras.Model
) -> tf_keras.optimizers.Optimizer:
    """Returns the optimizer with slots, which a loop could not create."""
    optimizer = tf_keras.optimizers.Adam(
        settings.learning_rate,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        # Compiled updates fail on a second device of a MirroredStrategy.
        jit_compile=False,
    )
    optimizer.build(network.trainable_variables)
    return optimizer
