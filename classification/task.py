"""The task: model, inputs, loss and metrics for the Model Garden's trainer."""

from typing import Any

import tensorflow as tf
import tf_keras
from official.core import base_task, task_factory

from classification import data, settings
from classification import experiment as _registers  # noqa: F401
from evonorm_tf import legacy
from evonorm_tf.nets import resnet
from evonorm_tf.training import config, schedule

# AutoGraph would rewrite every layer's source for control flow that none of
# it has: a third of the time to the first step of a small network.
_as_written = tf.autograph.experimental.do_not_convert


def decayed_weights(model: tf_keras.Model) -> list[tf.Variable]:
    """Trainable weights that weight decay applies to.

    All but those that a NormAct layer owns (section 6 of the paper's
    recipe: gamma, beta and v1 are not decayed); by ownership, for names
    change with nesting.
    """
    owned = {
        id(weight)
        for layer in model._flatten_layers()
        if isinstance(layer, legacy.NormAct)
        for weight in layer.weights
    }
    return [w for w in model.trainable_weights if id(w) not in owned]


@task_factory.register_task_cls(settings.Task)
class Task(base_task.Task):
    """Classification with one integer label an image.

    Attributes:
      seed: of the weights' initial values.
      start_step: global step that the training data go on from.
    """

    def __init__(self, params: settings.Task, **others: Any):
        super().__init__(params, **others)
        self.seed = params.seed
        self.start_step = 0
        self._sources: dict[bool, data.Source] = {}

    def source(self, training: bool) -> data.Source:
        """The training or the validation set, opened once."""
        if training not in self._sources:
            params = self.task_config
            chosen = params.train_data if training else params.validation_data
            if not chosen.tfds_data_dir:
                chosen = chosen.replace(
                    tfds_data_dir=params.train_data.tfds_data_dir
                )
            classes = params.model.num_classes
            self._sources[training] = data.open_source(chosen, classes)
        return self._sources[training]

    @_as_written
    def build_model(self) -> tf_keras.Model:
        """[N, H, W, C] images to [N, num_classes] logits."""
        params, layers = self.task_config.model, tf_keras.layers
        size = resnet.scaled(_size(params), params.width, params.max_depth)
        images = layers.Input(self.source(training=False).shape)
        norm_act = params.norm_act.bind(legacy)
        x = resnet.resnet(images, layers, norm_act, size)
        x = layers.GlobalAveragePooling2D()(x)
        if params.dropout:
            x = layers.Dropout(params.dropout, seed=self.seed)(x)
        logits = layers.Dense(
            params.num_classes,
            kernel_initializer=tf_keras.initializers.RandomNormal(0.0, 0.01),
            # A softmax over many classes needs more than 16 bits.
            dtype="float32",
        )(x)
        model = tf_keras.Model(images, logits)
        decayed = decayed_weights(model)
        if self.task_config.weight_decay:
            model.add_loss(lambda: self._penalty(decayed))
        return model

    def _penalty(self, weights: list[tf.Variable]) -> tf.Tensor:
        squares = tf.add_n([tf.nn.l2_loss(weight) for weight in weights])
        return self.task_config.weight_decay * tf.cast(squares, tf.float32)

    def build_inputs(
        self,
        params: settings.Data,
        input_context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Batches of (images, {"label", "weight"}), from `start_step` on."""
        source = self.source(params.is_training)
        return data.inputs(source, params, self.start_step, input_context)

    def build_losses(
        self, labels: Any, model_outputs: tf.Tensor, aux_losses: Any = None
    ) -> tf.Tensor:
        """Mean cross-entropy over the examples that count, and the decay."""
        each = self._cross_entropy(labels["label"], model_outputs)
        weight = labels["weight"]
        loss = tf.reduce_sum(each * weight) / tf.reduce_sum(weight)
        return tf.add_n([loss, *(aux_losses or [])])

    def _cross_entropy(self, label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """[N]"""
        smoothing = self.task_config.label_smoothing
        if not smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=label, logits=logits
            )
        classes = self.task_config.model.num_classes
        target = tf.one_hot(label, classes) * (1 - smoothing)
        return tf.nn.softmax_cross_entropy_with_logits(
            labels=target + smoothing / classes, logits=logits
        )

    def build_metrics(self, training: bool = True) -> list[Any]:
        """Accuracy, and for validation the cross-entropy as well."""
        metrics = [tf_keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if not training:
            metrics.append(
                tf_keras.metrics.SparseCategoricalCrossentropy(
                    "cross_entropy", from_logits=True
                )
            )
        return metrics

    def process_metrics(
        self, metrics: Any, labels: Any, model_outputs: Any, **_: Any
    ) -> None:
        """Updates the metrics with the examples that count."""
        for metric in metrics:
            metric.update_state(
                labels["label"], model_outputs, labels["weight"]
            )

    @_as_written
    def train_step(
        self,
        inputs: Any,
        model: tf_keras.Model,
        optimizer: Any,
        metrics: Any = None,
    ) -> dict[str, tf.Tensor]:
        """One step, as the Model Garden takes it."""
        return super().train_step(inputs, model, optimizer, metrics)

    @_as_written
    def validation_step(
        self, inputs: Any, model: tf_keras.Model, metrics: Any = None
    ) -> dict[str, Any]:
        """One batch of an evaluation.

        The trainer's own validation loss is a mean of batch means, wrong
        when the last batch is partly filled: `cross_entropy` stands for it.
        """
        images, labels = inputs
        logits = self.inference_step(images, model)
        self.process_metrics(metrics or [], labels, logits)
        return {}


def _size(params: settings.Model) -> resnet.Size:
    if params.network not in resnet.SIZES:
        near = config.nearest(params.network, resnet.SIZES)
        raise ValueError(
            f"Unknown network. {near}. Received: network={params.network!r}"
        )
    return resnet.SIZES[params.network]


def prepare(params: config.Experiment) -> Task:
    """Opens the data and fills the schedule in, for `driver.run`.

    Args:
      params: the experiment's config, changed in place.

    Raises:
      ValueError: data, network or schedule that cannot be.
    """
    task = Task(params.task)
    _size(params.task.model)
    train = params.task.train_data
    schedule.resolve(
        params.trainer,
        params.task.schedule,
        task.source(training=True).examples,
        train.global_batch_size,
    )
    return task
