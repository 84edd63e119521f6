"""Validates the settings of a detection run before anything is built."""

import dataclasses
from collections.abc import Mapping

from detection import convert, datasets, ground_truth, parser, settings
from training import config

NORMALIZERS = ("rpn_batch_size", "model_garden")
# Fields of the Model Garden's configs that are used here: of a training set,
# by `datasets`, `parser` and the losses.
_TRAINING = {
    "input_path",
    "num_examples",
    "global_batch_size",
    "dtype",
    "shuffle_buffer_size",
    "seed",
    "decoder",
    "parser",
}
# And of an evaluation, which does not shuffle. Fields shared with training are
# set for both.
_EVALUATION = _TRAINING | {"num_objects"}
# An evaluation's parser does not augment and labels no anchors.
_EVALUATION_PARSER = {"max_num_instances", "mask_crop_size"}


def options(params: config.Experiment) -> None:
    """Checks the settings against each other.

    Raises:
      ValueError: if options are invalid or would have no effect.
    """
    task = params.task
    if task.rpn_score_normalizer not in NORMALIZERS:
        raise ValueError(
            f"rpn_score_normalizer must be one of {NORMALIZERS}. Received: "
            f"rpn_score_normalizer={task.rpn_score_normalizer!r}"
        )
    if task.train_data.parser.aug_type is not None:
        raise ValueError(
            "aug_type would move the pixels but not boxes and masks. "
            "Use aug_rand_hflip, aug_scale_min and aug_scale_max. "
            f"Received: aug_type={task.train_data.parser.aug_type}"
        )
    padded = ("use_approx_instance_metrics", "use_wod_metrics")
    if any(getattr(task, name) for name in padded):
        raise ValueError(
            "Only COCO's metrics are computed: the Model Garden's others "
            "would count the images that pad the last batch. "
            f"Turn {' and '.join(padded)} off. Received: "
            + ", ".join(f"{name}={getattr(task, name)}" for name in padded)
        )
    if task.allow_image_summary:
        raise ValueError(
            "The Model Garden's pictures are not drawn: each evaluation draws "
            "to pictures/ in model_dir, for TensorBoard. "
            "Received: allow_image_summary=True"
        )
    transfers = task.init_checkpoint_modules == "backbone"
    if bool(task.init_checkpoint) != transfers:
        raise ValueError(
            "To start from a classifier, set both "
            "task.init_checkpoint=RUN and "
            "task.init_checkpoint_modules=backbone. Received: "
            f"init_checkpoint={task.init_checkpoint!r}, "
            f"init_checkpoint_modules={task.init_checkpoint_modules!r}"
        )
    if task.freeze_backbone and not task.init_checkpoint:
        raise ValueError(
            "A frozen backbone would keep its random weights. Set "
            "task.init_checkpoint=RUN and "
            "task.init_checkpoint_modules=backbone, or "
            "task.freeze_backbone=False. Received: freeze_backbone=True, "
            "init_checkpoint=''"
        )
    binary = task.losses.frcnn_class_use_binary_cross_entropy
    sigmoid = task.model.detection_generator.use_sigmoid_probability
    if binary != sigmoid:
        raise ValueError(
            "Scores must be computed as in the loss: a binary cross-entropy "
            "trains sigmoids, and the other loss a softmax. Set both of these "
            "or neither. Received: "
            f"task.losses.frcnn_class_use_binary_cross_entropy={binary}, "
            "task.model.detection_generator.use_sigmoid_probability="
            f"{sigmoid}"
        )
    _enough_proposals(task)
    config.refuse_unread(
        params,
        config.Experiment(task=settings.Task()),
        _unread(),
        "Training and evaluation read TFRecords written by detection.data, for "
        "which",
    )
    if is_tpu(params):
        tpu_safe(task.model)


def _enough_proposals(task: settings.Task) -> None:
    """Rejects a sample of more boxes than there are."""
    sampled, mixed = task.model.roi_sampler, 0
    there = task.model.roi_generator.num_proposals
    if sampled.mix_gt_boxes:
        mixed = task.train_data.parser.max_num_instances
    if sampled.num_sampled_rois > there + mixed:
        raise ValueError(
            "task.model.roi_sampler.num_sampled_rois must be at most "
            "roi_generator.num_proposals, plus "
            "train_data.parser.max_num_instances with mix_gt_boxes. Received: "
            f"num_sampled_rois={sampled.num_sampled_rois}, "
            f"num_proposals={there}, max_num_instances={mixed}"
        )


def _unread() -> list[str]:
    """Returns the keys of an experiment's data that are not used."""
    data, parsed = (
        [field.name for field in dataclasses.fields(kind)]
        for kind in (settings.Data, type(settings.Data().parser))
    )
    train = [name for name in data if name not in _TRAINING]
    train += [f"parser.{name}" for name in parser.UNREAD]
    decoder = "decoder.simple_decoder"
    train += ["decoder.type", f"{decoder}.regenerate_source_id"]
    train += [f"{decoder}.attribute_names"]
    other = [name for name in data if name not in _EVALUATION]
    other += ["decoder.type", f"{decoder}.attribute_names"]
    other += [f"parser.{n}" for n in parsed if n not in _EVALUATION_PARSER]
    return [
        *(f"task.train_data.{name}" for name in train),
        *(f"task.validation_data.{name}" for name in other),
    ]


def is_tpu(params: config.Experiment) -> bool:
    """Returns whether the run is for a TPU."""
    runtime = params.runtime
    return bool(runtime.tpu) or runtime.distribution_strategy == "tpu"


def tpu_safe(model: settings.Model) -> None:
    """Rejects what a TPU cannot run.

    Raises:
      ValueError: if non-maximum suppression is the fused operation, which
        exists only on CPU and GPU.
    """
    chosen = {
        "roi_generator.use_batched_nms": model.roi_generator.use_batched_nms,
        "detection_generator.nms_version=batched": (
            model.detection_generator.nms_version == "batched"
        ),
    }
    found = [name for name, on in chosen.items() if on]
    if found:
        raise ValueError(
            "TPUs have no CombinedNonMaxSuppression. Turn use_batched_nms off "
            "and set detection_generator.nms_version to v2. Received: "
            f"{', '.join(found)}"
        )


def annotations(task: settings.Task) -> ground_truth.GroundTruth:
    """Checks that data are set and the classes include their categories.

    Returns:
      The ground truth of the evaluation.

    Raises:
      ValueError: if there are no data, the annotations are not COCO's, there
        are too few classes, masks are missing for a model with masks, or
        records were converted with other names of categories.
    """
    paths = (task.train_data.input_path, task.validation_data.input_path)
    if not all(paths) or not task.annotation_file:
        raise ValueError(
            "A run needs TFRecords and annotations for scoring: set "
            "task.train_data.input_path, task.validation_data.input_path and "
            "task.annotation_file, or try it with --debug. Received: "
            f"train_data.input_path={paths[0]!r}, "
            f"validation_data.input_path={paths[1]!r}, "
            f"annotation_file={task.annotation_file!r}"
        )
    found = ground_truth.load(task.annotation_file)
    ground_truth.check_trainable(found.categories, found.path)
    if task.model.include_mask:
        found.maskless.check()
    highest = max(found.categories)
    if highest >= task.model.num_classes:
        raise ValueError(
            "model.num_classes must be above every category id (0 is the "
            f"background). Expected at least {highest + 1}. Received: "
            f"num_classes={task.model.num_classes}"
        )
    for data in (task.train_data, task.validation_data):
        paths = datasets.find(data.input_path)
        for path, about in convert.read_about(paths).items():
            _same_names(path, about.get("categories", {}), found)
            if (
                data is task.train_data
                and task.model.include_mask
                and not about.get("masks", True)
            ):
                raise ValueError(
                    "The training records have no masks. Convert them again "
                    "without --no_masks, or set task.model.include_mask=False. "
                    "Received: include_mask=True, "
                    f"train_data.input_path={data.input_path!r}"
                )
    return found


def _same_names(
    path: str, converted: Mapping[str, str], truth: ground_truth.GroundTruth
) -> None:
    """Rejects a category that is another one in the annotations."""
    for key, name in converted.items():
        other = truth.categories.get(int(key), name)
        # A category without a name is called by its id.
        if name != other and key not in (name, other):
            raise ValueError(
                "A category has another name in the records than in the "
                "annotations, so one would be scored as the other. Convert "
                "records and choose annotation_file with the same categories. "
                f"Received: id={key}, {name!r} in {path!r}, {other!r} in "
                f"{truth.path!r}"
            )
