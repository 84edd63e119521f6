"""What a detection run refuses before it builds anything."""

from typing import Any

from detection import evaluate, settings
from evonorm_tf.training import config

NORMALIZERS = ("rpn_batch_size", "model_garden")


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
    _refuse_unread(task.train_data)
    if is_tpu(params):
        tpu_safe(task.model)


def _refuse_unread(data: settings.Data) -> None:
    """Settings of the Model Garden's reader that training does not have."""
    default = settings.Data()
    # `decoder` holds two more settings, of use with other annotations alone.
    unread: tuple[tuple[str, Any, Any], ...] = tuple(
        (name, getattr(data, name), getattr(default, name))
        for name in ("file_type", "weights", "tfds_name", "cache")
    ) + (("decoder.type", data.decoder.type, default.decoder.type),)
    for name, value, usual in unread:
        if value != usual:
            raise ValueError(
                "Training reads TFRecords as detection.data writes them, and "
                f"has no such setting; leave it at {usual!r}. Received: "
                f"task.train_data.{name}={value!r}"
            )


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


def annotations(task: settings.Task) -> int:
    """Checks that data are named and the classes cover their categories.

    Returns:
      How many images an evaluation is to see.

    Raises:
      ValueError: no data, or too few classes.
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
    found = evaluate.load_annotations(task.annotation_file)
    highest = max(found.cats)
    if highest >= task.model.num_classes:
        raise ValueError(
            "model.num_classes must be above every category id (0 is the "
            f"background). Expected at least {highest + 1}. Received: "
            f"num_classes={task.model.num_classes}"
        )
    return len(found.imgs)
