"""The task: model, inputs and losses for the Model Garden's trainer.

It subclasses MaskRCNNTask and corrects what silently makes results wrong: the
normalizer of the RPN loss, out-of-range class ids, images that are not scored
or scored twice, stale annotations, a validation loss that is always 0, and
augmentation that moves the pixels but not the boxes. All draws of a step are
functions of (seed, step), so that a resumed run equals an uninterrupted one.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions, task_factory
from official.vision.losses import maskrcnn_losses
from official.vision.tasks import maskrcnn

from detection import (
    check_config,
    coco_format,
    datasets,
    evaluate,
    ground_truth,
    model,
    results,
    scenes,
    settings,
    transfer,
)
from detection import experiment as _registers  # noqa: F401
from evonorm_tf import files
from training import average, config, dropout_seed, runs, saved

RESULTS_FILE = "results.json"


@task_factory.register_task_cls(settings.Task)
class Task(dropout_seed.Seeded, average.Averaging, maskrcnn.MaskRCNNTask):
    """Boxes, classes and masks.

    Attributes:
      seed: of the initial weights.
      start_step: global step from which a run resumes.
      categories: of the data, id to name.
      exchange: what the losses exchange between replicas.
    """

    exchange = (
        "the losses of Mask R-CNN divide by the number of matched boxes of all "
        "replicas"
    )

    def __init__(self, params: settings.Task, **others: Any):
        super().__init__(params, **others)
        self.seed = params.seed
        self.start_step = 0
        self.categories: dict[int, str] = {}

    def build_model(self) -> tf_keras.Model:
        """Builds the model, with weight decay as an additional loss."""
        with dropout_seed.seedable():
            built = model.build(self.task_config.model)
        if self.task_config.freeze_backbone:
            built.backbone.trainable = False
        decay = self.task_config.losses.l2_weight_decay
        decayed = model.decayed_weights(built)
        if decay:
            built.add_loss(
                lambda: (
                    decay
                    * tf.add_n([tf.nn.l2_loss(weight) for weight in decayed])
                )
            )
        return built

    def initialize(self, model: tf_keras.Model) -> None:
        """Loads the backbone of a classifier, if one is set.

        Prints which weights were loaded and which were not.
        """
        run = self.task_config.init_checkpoint
        if run:
            print(transfer.backbone(model, self.task_config.model, run))

    def build_inputs(
        self,
        params: settings.Data,
        input_context: tf.distribute.InputContext | None = None,
        dataset_fn: Any = None,
    ) -> tf.data.Dataset:
        """Returns batches of (images, labels); see `datasets`.

        Training resumes from `start_step`.
        """
        del dataset_fn  # There is only one reader of records.
        model = self.task_config.model
        if params.is_training:
            return datasets.training(
                model, params, self.seed, self.start_step, input_context
            )
        # Results are scored against annotations, so masks are not decoded.
        return datasets.evaluation(model, params, input_context)

    def _build_rpn_losses(
        self, outputs: Mapping[str, Any], labels: Mapping[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns score and box loss of the proposals, scalars."""
        if self.task_config.rpn_score_normalizer == "model_garden":
            return super()._build_rpn_losses(outputs, labels)
        parser = self.task_config.train_data.parser
        score_loss = maskrcnn_losses.RpnScoreLoss(parser.rpn_batch_size_per_im)
        box_loss = maskrcnn_losses.RpnBoxLoss(
            self.task_config.losses.rpn_huber_loss_delta
        )
        return (
            score_loss(outputs["rpn_scores"], labels["rpn_score_targets"]),
            box_loss(outputs["rpn_boxes"], labels["rpn_box_targets"]),
        )

    def _build_coco_metrics(self) -> None:
        path = None
        if self._logging_dir:
            path = files.join(self._logging_dir, RESULTS_FILE)
        self.coco_metric = results.Collector(
            self.task_config.annotation_file,
            path,
            self.task_config.per_category_metrics,
            self.task_config.model.include_mask,
        )

    def metric_names(
        self, trainer: config_definitions.TrainerConfig
    ) -> list[str]:
        """Returns the names of an evaluation's metrics."""
        one, steps = self.task_config, trainer.validation_steps
        if not one.use_coco_metrics:
            return []
        data = one.validation_data
        return evaluate.names(
            self.categories.values() if one.per_category_metrics else (),
            masks=one.model.include_mask,
            partial=0 <= steps * data.global_batch_size < data.num_examples,
        )

    # As in a training step there is no control flow on tensors to convert.
    @tf.autograph.experimental.do_not_convert
    def validation_step(
        self, inputs: Any, model: tf_keras.Model, metrics: Any = None
    ) -> dict[str, Any]:
        """Returns detections of a batch, without the parent's loss of 0."""
        logs = super().validation_step(inputs, model, metrics)
        del logs[self.loss]
        return logs


def restore(
    model_dir: str | None, checkpoint: str = "latest"
) -> saved.Restored:
    """Reads a run's detector; no data are opened.

    Args:
      model_dir: the run's folder; None to find it from the checkpoint.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: if there is no run or checkpoint.
    """
    return saved.restore(
        settings.Task(),
        lambda params, _: Task(params.task),
        model_dir,
        checkpoint,
    )


def names(
    run: saved.Restored, annotations: str | None = None
) -> dict[int, str]:
    """Returns category ids to names.

    Args:
      run: the run, which records them.
      annotations: COCO's JSON, for others.

    Returns:
      The names, {} for a run of an earlier version whose annotations were
      moved.
    """
    recorded = run.run.facts().get("categories")
    if recorded and not annotations:
        return {int(key): name for key, name in recorded.items()}
    path = annotations or run.params.task.annotation_file
    if not annotations and not (path and files.is_file(path)):
        return {}
    return ground_truth.categories(path)


def prepare(params: config.Experiment, model_dir: str) -> Task:
    """Creates scenes if requested and no data are named; checks the data.

    Args:
      params: the experiment's config, changed in place.
      model_dir: the run's folder, which gets the scenes.

    Raises:
      ValueError: if data or options are invalid.
    """
    task, run = params.task, runs.Run(model_dir)
    check_config.options(params)
    if task.scenes.train and not task.train_data.input_path:
        _use_scenes(task, run.folder)
    annotated = check_config.annotations(task)
    for line in annotated.filled.lines(coco_format.FILLED):
        print(f"{annotated.path}: {line}")
    task.validation_data.num_examples = len(annotated.images)
    if task.validation_data.num_objects:
        task.validation_data.num_objects = len(annotated.annotations())
    if task.init_recipe:
        task.init_recipe = _init_recipe(task, run)
    prepared = Task(task, logging_dir=run.folder)
    prepared.categories = annotated.categories
    return prepared


def _init_recipe(task: settings.Task, run: runs.Run) -> str:
    """Returns the recipe of the classifier from which the run starts."""
    if not task.init_checkpoint:
        return ""
    before = run.config()
    if run.step() and before is not None:
        # Its classifier may be gone or have been trained further.
        return before["task"].get("init_recipe", "")
    found = transfer.recipes(task.init_checkpoint)
    asked = task.init_recipe
    return asked if asked in found else ", ".join(found)


def _use_scenes(task: settings.Task, model_dir: str) -> None:
    if task.validation_data.input_path or task.annotation_file:
        raise ValueError(
            "Validation data are set, but no training data, for which scenes "
            "would be used. Set task.train_data.input_path as well, or none of "
            "them. Received: train_data.input_path='', "
            f"validation_data.input_path={task.validation_data.input_path!r}, "
            f"annotation_file={task.annotation_file!r}"
        )
    made = scenes.ensure(task.scenes, model_dir)
    task.train_data.input_path = files.join(made, "train.tfrecord")
    task.validation_data.input_path = files.join(made, "validation.tfrecord")
    task.annotation_file = files.join(made, "validation.json")
    task.train_data.num_examples = task.scenes.train
