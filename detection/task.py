"""The task: model, inputs and losses for the Model Garden's trainer.

Subclasses its MaskRCNNTask and closes the traps that make its numbers wrong
without a word: the RPN loss's normalizer, class ids outside the classes,
images scored in part or twice, stale annotations, a validation loss that is
always 0, augmentation that moves the pixels and leaves the boxes.
"""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import task_factory
from official.vision.losses import maskrcnn_losses
from official.vision.tasks import maskrcnn

from detection import evaluate, experiment, inputs, model, results, scenes
from evonorm_tf.training import config

RESULTS_FILE = "results.json"
_NORMALIZERS = ("rpn_batch_size", "model_garden")


@task_factory.register_task_cls(experiment.Task)
class Task(maskrcnn.MaskRCNNTask):
    """Boxes, classes and masks.

    Attributes:
      seed: of the weights' initial values.
      start_step: global step that a run goes on from.
    """

    def __init__(self, params: experiment.Task, **settings: Any):
        super().__init__(params, **settings)
        self.seed = params.seed
        self.start_step = 0

    def build_model(self) -> tf_keras.Model:
        """Builds the model, with weight decay as a loss of its own."""
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

    def build_inputs(
        self,
        params: experiment.Data,
        input_context: tf.distribute.InputContext | None = None,
        dataset_fn: Any = None,
    ) -> tf.data.Dataset:
        """Batches of (images, labels): ids checked, evaluation filled up."""
        batches = super().build_inputs(params, input_context, dataset_fn)
        batches = inputs.checked(batches, self.task_config.model.num_classes)
        if params.is_training:
            return batches
        return inputs.whole(
            batches,
            params.num_examples,
            params.global_batch_size,
            input_context,
        )

    def _build_rpn_losses(
        self, outputs: Mapping[str, Any], labels: Mapping[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Score and box loss of the proposals, scalars."""
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
            path = os.path.join(self._logging_dir, RESULTS_FILE)
        self.coco_metric = results.Collector(
            self.task_config.annotation_file,
            path,
            self.task_config.per_category_metrics,
        )

    def validation_step(
        self, inputs: Any, model: tf_keras.Model, metrics: Any = None
    ) -> dict[str, Any]:
        """Detections of a batch; no loss, where the parent reports 0."""
        logs = super().validation_step(inputs, model, metrics)
        del logs[self.loss]
        return logs


def prepare(params: config.Experiment, model_dir: str) -> Task:
    """Makes the scenes if they are asked for, and checks what there is.

    Args:
      params: the experiment's config, changed in place.
      model_dir: the run's directory; gets the scenes.

    Raises:
      ValueError: data or options that cannot be.
    """
    task = params.task
    if task.rpn_score_normalizer not in _NORMALIZERS:
        raise ValueError(
            f"rpn_score_normalizer must be one of {_NORMALIZERS}. Received: "
            f"rpn_score_normalizer={task.rpn_score_normalizer!r}"
        )
    if task.train_data.parser.aug_type is not None:
        raise ValueError(
            "aug_type moves the pixels and leaves boxes and masks where they "
            "were. Use aug_rand_hflip, aug_scale_min and aug_scale_max. "
            f"Received: aug_type={task.train_data.parser.aug_type}"
        )
    if task.scenes.train and not task.train_data.input_path:
        _use_scenes(task, model_dir)
    _check_annotations(task)
    return Task(task, logging_dir=model_dir)


def _use_scenes(task: experiment.Task, model_dir: str) -> None:
    made = scenes.ensure(task.scenes, model_dir)
    task.train_data.input_path = os.path.join(made, "train.tfrecord")
    task.validation_data.input_path = os.path.join(made, "validation.tfrecord")
    task.annotation_file = os.path.join(made, "validation.json")


def _check_annotations(task: experiment.Task) -> None:
    if not task.train_data.input_path or not task.annotation_file:
        raise ValueError(
            "A run needs TFRecords and annotations to be scored against: set "
            "task.train_data.input_path, task.validation_data.input_path and "
            "task.annotation_file. Received: "
            f"input_path={task.train_data.input_path!r}, "
            f"annotation_file={task.annotation_file!r}"
        )
    found = evaluate.load_annotations(task.annotation_file)
    task.validation_data.num_examples = len(found.imgs)
    highest = max(found.cats)
    if highest >= task.model.num_classes:
        raise ValueError(
            "model.num_classes must be above every category id (0 is the "
            f"background). Expected at least {highest + 1}. Received: "
            f"num_classes={task.model.num_classes}"
        )
