"""What a detection run refuses before it builds anything."""

import dataclasses
import operator

from detection import ground_truth, parser, settings
from training import config

NORMALIZERS = ("rpn_batch_size", "model_garden")
# Fields of the Model Garden's that are read here, the others not. Of a
# training set, by `reading`, `parser` and the losses.
_TRAINING = {
    *("input_path", "num_examples", "global_batch_size", "dtype"),
    *("shuffle_buffer_size", "seed", "decoder", "parser"),
}
# And of an evaluation, which shuffles nothing: what it shares with training
# is set for both.
_EVALUATION = _TRAINING | {"num_objects"}
# An evaluation's parser moves nothing and labels no anchors.
_EVALUATION_PARSER = {"max_num_instances", "mask_crop_size"}


def options(params: config.Experiment) -> None:
    """Checks the settings against each other.

    Raises:
      ValueError: options that cannot be, or that nothing would read.
    """
    task = params.task
    if task.rpn_score_normalizer not in NORMALIZERS:
        raise ValueError(
            f"rpn_score_normalizer must be one of {NORMALIZERS}. Received: "
            f"rpn_score_normalizer={task.rpn_score_normalizer!r}"
        )
    if task.train_data.parser.aug_type is not None:
        raise ValueError(
            "aug_type moves the pixels and leaves boxes and masks where they "
            "were. Use aug_rand_hflip, aug_scale_min and aug_scale_max. "
            f"Received: aug_type={task.train_data.parser.aug_type}"
        )
    padded = ("use_approx_instance_metrics", "use_wod_metrics")
    if any(getattr(task, name) for name in padded):
        raise ValueError(
            "Evaluation is by COCO's figures alone: the Model Garden's other "
            "metrics would count the images that fill up the last batch. "
            f"Leave {' and '.join(padded)} off. Received: "
            + ", ".join(f"{name}={getattr(task, name)}" for name in padded)
        )
    transfers = task.init_checkpoint_modules == "backbone"
    if bool(task.init_checkpoint) != transfers:
        raise ValueError(
            "A run that starts from a classifier names it and takes its "
            "backbone: give both task.init_checkpoint=RUN and "
            "task.init_checkpoint_modules=backbone, or neither. Received: "
            f"init_checkpoint={task.init_checkpoint!r}, "
            f"init_checkpoint_modules={task.init_checkpoint_modules!r}"
        )
    _refuse_unread(task)
    if is_tpu(params):
        tpu_safe(task.model)


def _refuse_unread(task: settings.Task) -> None:
    """Settings of the Model Garden's that nothing here would read."""
    usual = settings.Task()
    for key in _unread():
        value, default = (
            operator.attrgetter(key)(one) for one in (task, usual)
        )
        if value != default:
            raise ValueError(
                "Training and evaluation are on TFRecords as detection.data "
                "writes them, and have no such choice; leave it at "
                f"{default!r}. Received: task.{key}={value!r}"
            )


def _unread() -> list[str]:
    """Keys below `task` of what no one reads."""
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
        *(f"train_data.{name}" for name in train),
        *(f"validation_data.{name}" for name in other),
    ]


def is_tpu(params: config.Experiment) -> bool:
    """Whether the run is for a TPU."""
    runtime = params.runtime
    return bool(runtime.tpu) or runtime.distribution_strategy == "tpu"


def tpu_safe(model: settings.Model) -> None:
    """Refuses what a TPU cannot run.

    Raises:
      ValueError: the suppression of overlaps is the fused operation, which
        exists on CPU and GPU alone.
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
            "TPUs lack CombinedNonMaxSuppression. Leave use_batched_nms off "
            "and detection_generator.nms_version at v2. Received: "
            f"{', '.join(found)}"
        )


def annotations(task: settings.Task) -> ground_truth.GroundTruth:
    """Checks that data are named and the classes cover their categories.

    Returns:
      What an evaluation is scored against.

    Raises:
      ValueError: no data, annotations that are not COCO's, too few classes,
        or annotations without masks for a model with masks.
    """
    paths = (task.train_data.input_path, task.validation_data.input_path)
    if not all(paths) or not task.annotation_file:
        raise ValueError(
            "A run needs TFRecords and annotations to be scored against: set "
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
    return found
