"""Exports a trained detector, and checks what it exported.

    python -m detection.export --model_dir=RUN --output_dir=DIR \
        --checkpoint=best

The SavedModel takes uint8 images [N, H, W, 3] of any size ("images"), or the
bytes of files [N] with its second signature ("encoded"). It scales them and
returns boxes in the pixels of the input (see `detection.detector`). Its layers
are in the folded form of `evonorm_tf.exporting`. `labels.json` has category ids
and names, and `export.json` the origin of the weights and the difference
between export and model.

The export is run on images and must detect what the model detects in them:
those of --image, or the first of the run's validation data. A difference is an
error, and so are images without any detections. --annotations names the
categories for a run that does not record them.
"""

import json

import numpy as np
import tensorflow as tf
from absl import flags

from detection import detector, draw, predict, task
from evonorm_tf import files
from evonorm_tf.exporting import formats, inference_form
from training import commands, saved

NAME = "saved_model"
# For boxes relative to the image's longer side, scores and masks: float32 sums
# in another order, through tens of layers.
TOLERANCE = 1e-3
_CHECKED = 2  # images


def export(
    run: saved.Restored,
    output_dir: str,
    images: list[np.ndarray],
    annotations: str | None = None,
) -> dict[str, float]:
    """Exports a run's detector and compares it with the model.

    Args:
      run: the restored run.
      output_dir: destination; created if needed.
      images: [H, W, 3], uint8, of any size, for the comparison.
      annotations: COCO's JSON, for other names than the run's.

    Returns:
      "difference", the largest of boxes, scores and masks, and "detections",
      the number of compared detections.

    Raises:
      ValueError: if the export differs from the model, nothing is detected, or
        the names are unknown.
    """
    names = task.names(run, annotations)
    if not names:
        raise ValueError(
            "The run does not record the names of its categories, and its "
            "annotations were moved; pass --annotations. Received: "
            f"annotation_file={run.params.task.annotation_file!r}"
        )
    model = detector.Detector(run.model, run.params.task.model)
    with inference_form(run.model) as left:
        signatures = model.signatures()
    with saved.staging(run, output_dir) as (folder, about):
        path = files.join(folder, NAME)
        formats.save(signatures, path)
        loaded = tf.saved_model.load(files.without_wildcards(path))
        compared = _compare(model, loaded, images)
        text = json.dumps(names, indent=2) + "\n"
        files.write(files.join(folder, "labels.json"), text)
        about |= {"compared": compared, "not_folded": left}
    return compared


def _compare(
    model: detector.Detector, loaded: tf.Module, images: list[np.ndarray]
) -> dict[str, float]:
    """Compares model and export on the same images, by both signatures."""
    difference, count = 0.0, 0
    for image in images:
        batch = tf.constant(image[np.newaxis])
        wanted = model.images(batch)
        png = tf.io.encode_png(image)[tf.newaxis]
        for got in (
            loaded.signatures["serving_default"](images=batch),
            loaded.signatures["encoded"](encoded=png),
        ):
            # Not max(), which ignores NaN.
            found = _difference(wanted, got, image.shape)
            difference = float(np.maximum(difference, found))
        count += int(wanted["num_detections"][0])
    if not count:
        raise ValueError(
            "The model detects nothing in the images for the comparison, so "
            "the export cannot be checked; pass --image with objects to "
            f"detect. Received: {len(images)} images"
        )
    # Not `>`, because NaN must fail too.
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The export differs from the model by {difference:.1e}; at "
            f"most {TOLERANCE:.0e} is expected. It was discarded, and "
            "output_dir is unchanged."
        )
    return {"difference": difference, "detections": count}


def _difference(wanted: dict, got: dict, shape: tuple[int, ...]) -> float:
    """Returns the largest difference of outputs; infinite if counts differ."""
    count = int(wanted["num_detections"][0])
    if set(wanted) != set(got) or count != int(got["num_detections"][0]):
        return np.inf
    worst = 0.0
    for name in set(wanted) - {"num_detections"}:
        one, other = (np.asarray(v[name])[0, :count] for v in (wanted, got))
        if one.size == 0:
            continue
        if name == "detection_classes":
            if not np.array_equal(one, other):
                return np.inf
            continue
        unit = max(shape[:2]) if name.endswith("boxes") else 1
        worst = np.maximum(worst, np.abs(one - other).max() / unit)
    return float(worst)


def _images(run: saved.Restored, paths: list[str]) -> list[np.ndarray]:
    """Returns the images for the comparison."""
    if paths:
        return [predict.read(path) for path in paths]
    records = run.params.task.validation_data.input_path
    try:
        found = draw.read_images(records, _CHECKED)
    except ValueError as error:
        raise ValueError(
            "The run's validation data do not exist; pass --image for the "
            f"comparison. Received: input_path={records!r}"
        ) from error
    return list(found.values())


def main(_: list[str]) -> None:
    """Exports as the flags say."""
    flag = flags.FLAGS
    run = task.restore(flag.model_dir, flag.checkpoint)
    images = _images(run, flag.image)
    compared = export(run, flag.output_dir, images, flag.annotations)
    print(
        f"{compared['detections']} detections differ from the model's by "
        f"{compared['difference']:.1e} (at most {TOLERANCE:.0e})"
    )
    print(f"Exported to {flag.output_dir}")


if __name__ == "__main__":
    saved.define_flags()
    flags.DEFINE_multi_string("image", [], "Image for the comparison.")
    flags.DEFINE_string("annotations", None, "COCO's JSON file, for the names.")
    commands.run(main)
