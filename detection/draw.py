"""Pictures of detections: boxes, masks, names and scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib import colors, figure, patches
from matplotlib.backends import backend_agg

from detection import datasets, masks
from detection.ground_truth import GroundTruth
from evonorm_tf import files

Entries = Sequence[Mapping[str, Any]]
# Okabe and Ito's colour-blind safe set.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")
_INCH = 100  # pixels


def read_images(records: str, count: int) -> dict[int, np.ndarray]:
    """Reads the first images of TFRecords: id to [H, W, 3], uint8.

    Args:
      records: like `input_path` in the data's config.
      count: maximum number of images.

    Raises:
      ValueError: if there are no such files.
    """
    decoder = datasets.Decoder()
    found = tf.data.TFRecordDataset(datasets.find(records)).take(count)
    # Eagerly: these are a few, and AutoGraph would convert the decoder first.
    decoded = map(decoder.decode, found)
    return {
        int(example["source_id"].numpy()): example["image"].numpy()
        for example in decoded
    }


def overview(
    images: Mapping[int, np.ndarray],
    results: Entries,
    truth: GroundTruth,
    path: str,
    threshold: float = 0.5,
) -> None:
    """Draws annotations above detections, one column per image.

    Args:
      images: id to [H, W, 3], uint8.
      results: COCO results.
      truth: the ground truth.
      path: of the PNG.
      threshold: minimum score to draw.
    """
    # Headless: a separate figure without pyplot's state.
    sheet = figure.Figure(
        figsize=(2.4 * len(images) + 0.3, 5.2), layout="constrained"
    )
    axes = sheet.subplots(2, len(images), squeeze=False)
    rows = ("annotated", f"found, score {threshold:g} or more")
    for title, row in zip(rows, axes):
        row[0].set_ylabel(title)
    called = truth.categories
    for (image_id, image), above, below in zip(images.items(), *axes):
        panel(above, image, truth.objects[image_id], called)
        panel(below, image, _found(results, image_id, threshold), called)
        above.set_title(f"image {image_id}", fontsize=8)
    save(sheet, path)


def summaries(
    directory: str,
    step: int,
    images: Mapping[int, np.ndarray],
    results: Entries,
    truth: GroundTruth,
    threshold: float = 0.5,
) -> None:
    """Writes pictures for TensorBoard: annotations left, detections right.

    There is one picture per image, "detections/<image id>". Call it after an
    evaluation, with `read_images(validation_data.input_path, 4)` and the
    collector's `results`, which it does not change.

    Args:
      directory: of the event files, such as <model_dir>/pictures.
      step: the global step.
      images: id to [H, W, 3], uint8.
      results: COCO results.
      truth: the ground truth.
      threshold: minimum score to draw.
    """
    called = truth.categories
    with tf.summary.create_file_writer(directory).as_default(step):
        for image_id, image in images.items():
            sheet = _sheet(image, panels=2)
            left, right = sheet.subplots(1, 2)
            panel(left, image, truth.objects[image_id], called)
            panel(right, image, _found(results, image_id, threshold), called)
            drawn = pixels(sheet)[np.newaxis]
            tf.summary.image(f"detections/{image_id}", drawn)
        tf.summary.flush()


def picture(
    image: np.ndarray, entries: Entries, called: Mapping[int, str], path: str
) -> None:
    """Draws one image at its own size with boxes, masks, names and scores.

    Args:
      image: [H, W, 3], uint8.
      entries: COCO results or annotations for it.
      called: category ids to names; an id without a name is drawn itself.
      path: of the PNG.
    """
    sheet = _sheet(image, panels=1)
    panel(sheet.add_axes((0, 0, 1, 1)), image, entries, called)
    save(sheet, path)


def _sheet(image: np.ndarray, panels: int) -> figure.Figure:
    """Creates a figure of at least 640 pixels per panel, for the text."""
    height, width = image.shape[:2]
    scale = max(1.0, 640 / max(height, width)) / _INCH
    size = (panels * width * scale, height * scale)
    return figure.Figure(size, dpi=_INCH)


def save(sheet: figure.Figure, path: str) -> None:
    """Writes a figure as a PNG, and creates its directory."""
    with files.writing(path) as place:
        sheet.savefig(place, format="png", dpi=1.3 * _INCH)


def pixels(sheet: figure.Figure) -> np.ndarray:
    """Returns a figure as [H, W, 3], uint8."""
    canvas = backend_agg.FigureCanvasAgg(sheet)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _found(results: Entries, image_id: int, threshold: float) -> Entries:
    return [
        entry
        for entry in results
        if entry["image_id"] == image_id and entry["score"] >= threshold
    ]


def panel(
    axis: Any, image: np.ndarray, entries: Entries, called: Mapping[int, str]
) -> None:
    """Draws an image on matplotlib axes; arguments are those of `picture`."""
    tinted = image.astype(np.float32) / 255
    for index, entry in enumerate(entries):
        colour = colors.to_rgb(_COLOURS[index % len(_COLOURS)])
        if "segmentation" in entry:
            code = masks.rle(entry["segmentation"], *image.shape[:2])
            inside = masks.decode(code).astype(bool)
            tinted[inside] = 0.45 * tinted[inside] + 0.55 * np.array(colour)
        _box(axis, entry, colour, called)
    axis.imshow(tinted, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _box(axis, entry: Mapping, colour: tuple, called: Mapping) -> None:
    x, y, width, height = entry["bbox"]
    # Pixel k covers k - 0.5 to k + 0.5 of the axes.
    axis.add_patch(
        patches.Rectangle(
            (x - 0.5, y - 0.5), width, height, fill=False, ec=colour, lw=1.4
        )
    )
    text = called.get(entry["category_id"], str(entry["category_id"]))
    if "score" in entry:
        text += f" {entry['score']:.2f}"
    # Above the box, or inside it at the edge of the image.
    above = y >= 10
    axis.text(
        max(x, 0),
        y - 2 if above else max(y, 0) + 2,
        text,
        fontsize=7,
        va="bottom" if above else "top",
        clip_on=True,
        bbox={"fc": colour, "ec": "none", "pad": 0.8, "alpha": 0.85},
    )
