"""The task: model, inputs, loss and metrics for the Model Garden's trainer."""

import math
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import base_task, config_definitions, task_factory

from classification import datasets, experiment, settings
from evonorm_tf import files, legacy, nets
from training import (
    average,
    checkpoints,
    config,
    dropout_seed,
    runs,
    saved,
    schedule,
)
from training.images.sources import Files, Source

# AutoGraph would convert the source of every layer, none of which has control
# flow; this took a third of the time to the first step of a small network.
_as_written = tf.autograph.experimental.do_not_convert


def decayed_weights(model: tf_keras.Model) -> list[tf.Variable]:
    """Returns the trainable weights to which weight decay applies.

    These are all but those of NormAct layers (section 6 of the paper's recipe:
    gamma, beta and v1 are not decayed), found by layer because names change
    with nesting. Biases, of the last layer and of squeeze-and-excitation, are
    decayed: the public TPU recipes of ResNet, MnasNet and EfficientNet exclude
    only the weights of BatchNorm.
    """
    owned = {
        id(weight)
        for layer in model._flatten_layers()
        if isinstance(layer, legacy.NormAct)
        for weight in layer.weights
    }
    return [w for w in model.trainable_weights if id(w) not in owned]


@task_factory.register_task_cls(settings.Task)
class Task(dropout_seed.Seeded, average.Averaging, base_task.Task):
    """Classification with one integer label per image.

    Attributes:
      seed: of the initial weights.
      start_step: global step from which training resumes.
    """

    def __init__(self, params: settings.Task, **others: Any):
        experiment.fill_in(params)
        super().__init__(params, **others)
        self.seed = params.seed
        self.start_step = 0
        self._sources: dict[bool, Source] = {}

    def source(self, training: bool) -> Source:
        """Returns the training or the validation set, opened once."""
        if training not in self._sources:
            params = self.task_config
            chosen = params.train_data if training else params.validation_data
            if not training:
                chosen = datasets.located_as(chosen, params.train_data)
            classes = params.model.num_classes
            self._sources[training] = datasets.open_source(chosen, classes)
        return self._sources[training]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Returns those of the validation set; () if unknown."""
        return tuple(self.source(training=False).class_names)

    @property
    def resized(self) -> bool:
        """Returns whether images are cropped from files and resized."""
        return isinstance(self.source(training=False), Files)

    @_as_written
    def build_model(self) -> tf_keras.Model:
        """Builds the model, [N, H, W, C] images to [N, num_classes] logits."""
        params, layers = self.task_config.model, tf_keras.layers
        images = layers.Input(self.source(training=False).shape)
        with dropout_seed.seedable():
            features = nets.backbone(
                params.network,
                images,
                layers,
                params.norm_act.bind(legacy),
                width=params.width,
                max_depth=params.max_depth,
                stochastic_depth=params.stochastic_depth,
            )
            logits = nets.classifier(
                features, layers, params.num_classes, params.dropout
            )
        model = tf_keras.Model(images, logits)
        decayed = decayed_weights(model)
        if self.task_config.weight_decay:
            model.add_loss(lambda: self._penalty(decayed))
        return model

    def initialize(self, model: tf_keras.Model) -> None:
        """Loads all weights from `init_checkpoint`, if it is set.

        Prints the checkpoint. It is a folder's latest one, or a prefix.

        Raises:
          ValueError: if there is no checkpoint, or one of another model.
        """
        place = self.task_config.init_checkpoint
        if not place:
            return
        path = files.normalize(place)
        if files.is_folder(path):
            path = runs.Run(path).checkpoint()
        if path is None or not files.exists(f"{path}.index"):
            raise ValueError(
                "There is no checkpoint to start from. Set "
                "task.init_checkpoint to the folder of a run, to its best/, "
                "or to a checkpoint without .index; or leave it empty. "
                f"Received: task.init_checkpoint={place!r}"
            )
        reader = tf.train.Checkpoint(model=model)
        try:
            checkpoints.restore(reader, path, {"model": model})
        except ValueError as error:
            raise ValueError(
                "task.init_checkpoint has another model than task.model; give "
                "both the same network, layer and classes. "
                f"Received: task.init_checkpoint={place!r}"
            ) from error
        print(f"Loaded from {path}: all weights of the model.")

    def _penalty(self, weights: list[tf.Variable]) -> tf.Tensor:
        squares = tf.add_n([tf.nn.l2_loss(weight) for weight in weights])
        return self.task_config.weight_decay * tf.cast(squares, tf.float32)

    def build_inputs(
        self,
        params: settings.Data,
        input_context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Returns batches of (images, {"label", "weight"})."""
        source = self.source(params.is_training)
        return datasets.inputs(source, params, self.start_step, input_context)

    def build_losses(
        self, labels: Any, model_outputs: tf.Tensor, aux_losses: Any = None
    ) -> tf.Tensor:
        """Returns the mean weighted cross-entropy, plus the weight decay."""
        each = self._cross_entropy(labels, model_outputs)
        weight = labels["weight"]
        loss = tf.reduce_sum(each * weight) / tf.reduce_sum(weight)
        return tf.add_n([loss, *(aux_losses or [])])

    def _cross_entropy(
        self, labels: dict[str, tf.Tensor], logits: tf.Tensor
    ) -> tf.Tensor:
        """Returns [N], against mixed labels if images were mixed."""
        smoothing = self.task_config.label_smoothing
        if not smoothing and "target" not in labels:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels["label"], logits=logits
            )
        classes = self.task_config.model.num_classes
        target = labels.get("target")
        if target is None:
            target = tf.one_hot(labels["label"], classes)
        target = target * (1 - smoothing) + smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(
            labels=target, logits=logits
        )

    def build_metrics(self, training: bool = True) -> list[Any]:
        """Returns accuracy and, for validation, the cross-entropy."""
        metrics = [tf_keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if not training:
            metrics.append(
                tf_keras.metrics.SparseCategoricalCrossentropy(
                    "cross_entropy", from_logits=True
                )
            )
        return metrics

    def metric_names(
        self, trainer: config_definitions.TrainerConfig
    ) -> list[str]:
        """Returns the names of an evaluation's metrics."""
        del trainer
        return [one.name for one in self.build_metrics(training=False)]

    def process_metrics(
        self, metrics: Any, labels: Any, model_outputs: Any, **_: Any
    ) -> None:
        """Updates the metrics with the weighted examples."""
        for metric in metrics:
            metric.update_state(
                labels["label"], model_outputs, labels["weight"]
            )

    @_as_written
    def validation_step(
        self, inputs: Any, model: tf_keras.Model, metrics: Any = None
    ) -> dict[str, Any]:
        """Runs one batch of an evaluation.

        The trainer's own validation loss is a mean of batch means, which is
        wrong if the last batch is padded; `cross_entropy` is the correct one.
        """
        images, labels = inputs
        logits = self.inference_step(images, model)
        self.process_metrics(metrics or [], labels, logits)
        return {}


class _WithoutData(Task):
    """The task of a recorded run; a model needs only the images' shape."""

    def __init__(self, params: settings.Task, shape: list[int]):
        super().__init__(params)
        self.shape = shape

    def source(self, training: bool) -> Any:
        """Takes the place of either dataset."""
        del training
        return self


def restore(
    model_dir: str | None, checkpoint: str = "latest"
) -> saved.Restored:
    """Reads a run's classifier; no data are opened.

    Args:
      model_dir: the run's folder.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: if there is no run or checkpoint, or the run is too old.
    """
    return saved.restore(settings.Task(), _recorded, model_dir, checkpoint)


def _recorded(params: config.Experiment, run: runs.Run) -> Task:
    facts = run.facts()
    if "input_shape" not in facts:
        raise ValueError(
            f"{runs.FACTS_FILE} is missing or lacks the size of the images; "
            "run the run's command again, which writes it. "
            f"Received: model_dir={run.folder!r}"
        )
    return _WithoutData(params.task, facts["input_shape"])


def _validate(params: settings.Task) -> None:
    """Raises ValueError for invalid settings, before data are opened."""
    for data in (params.train_data, params.validation_data):
        datasets.validate(data)
    # An evaluation of repeated images would never end; training needs them.
    for name, training in (("train_data", True), ("validation_data", False)):
        found = getattr(params, name).is_training
        if found != training:
            raise ValueError(
                f"task.{name}.is_training must be {training}. "
                f"Received: task.{name}.is_training={found}"
            )
    for name, value, low, high in (
        ("model.num_classes", params.model.num_classes, 1, math.inf),
        ("model.dropout", params.model.dropout, 0, 1),
        ("label_smoothing", params.label_smoothing, 0, 1),
        ("weight_decay", params.weight_decay, 0, math.inf),
    ):
        if not low <= value < high:
            raise ValueError(
                f"task.{name} must be at least {low}"
                f"{' and below 1' if high == 1 else ''}. "
                f"Received: task.{name}={value}"
            )


def prepare(params: config.Experiment) -> Task:
    """Opens the data and completes the config, for `driver.run`.

    Args:
      params: the experiment's config, changed in place.

    Raises:
      ValueError: if data, network or schedule are invalid, or training and
        validation data do not match.
    """
    task = Task(params.task)
    train = params.task.train_data
    _validate(params.task)
    for training in (True, False):
        for note in task.source(training).notes:
            print(f"{'Training' if training else 'Validation'} data: {note}")
    datasets.require_alike(
        (train, task.source(training=True)),
        (params.task.validation_data, task.source(training=False)),
    )
    schedule.resolve(
        params.trainer,
        params.task.schedule,
        task.source(training=True).examples,
        train.global_batch_size,
    )
    return task
