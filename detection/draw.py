"""Pictures of detections: boxes, masks, names and scores on a PNG."""

import os

import numpy as np
import tensorflow as tf
from matplotlib import colors, figure, patches
from official.core import input_reader
from official.vision.dataloaders import tf_example_decoder
from pycocotools import coco
from pycocotools import mask as mask_api

from detection import evaluate

# Okabe and Ito's colour-blind safe set.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")


def read_images(records: str, count: int) -> dict[int, np.ndarray]:
    """The first images of TFRecords: id to [H, W, 3], uint8.

    Args:
      records: as `input_path` in the data's config.
      count: at most so many.
    """
    decoder = tf_example_decoder.TfExampleDecoder()
    files = input_reader.match_files(records)
    decoded = tf.data.TFRecordDataset(files).take(count).map(decoder.decode)
    return {
        int(example["source_id"].numpy()): example["image"].numpy()
        for example in decoded
    }


def overview(
    images: dict[int, np.ndarray],
    results: evaluate.Results,
    annotations: coco.COCO,
    path: str,
    threshold: float = 0.5,
) -> None:
    """Draws what is annotated above what was found, one column an image.

    Args:
      images: id to [H, W, 3], uint8.
      results: COCO results.
      annotations: what is there.
      path: of the PNG.
      threshold: least score that is drawn.
    """
    # Headless: a figure of its own, and no pyplot state.
    sheet = figure.Figure(
        figsize=(2.4 * len(images) + 0.3, 5.2), layout="constrained"
    )
    axes = sheet.subplots(2, len(images), squeeze=False)
    rows = ("annotated", f"found, score {threshold:g} or more")
    for title, row in zip(rows, axes):
        row[0].set_ylabel(title)
    for (image_id, image), above, below in zip(images.items(), *axes):
        truth = annotations.imgToAnns[image_id]
        found = [
            entry
            for entry in results
            if entry["image_id"] == image_id and entry["score"] >= threshold
        ]
        for axis, entries in ((above, truth), (below, found)):
            _panel(axis, image, entries, annotations)
        above.set_title(f"image {image_id}", fontsize=8)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    sheet.savefig(path, dpi=130)


def _panel(axis, image: np.ndarray, entries: list[dict], truth) -> None:
    """One image with its boxes, masks, names and scores."""
    tinted = image.astype(np.float32) / 255
    for index, entry in enumerate(entries):
        colour = colors.to_rgb(_COLOURS[index % len(_COLOURS)])
        if "segmentation" in entry:
            mask = _mask(entry, image.shape, truth)
            tinted[mask] = 0.45 * tinted[mask] + 0.55 * np.array(colour)
        x, y, width, height = entry["bbox"]
        axis.add_patch(
            patches.Rectangle(
                (x - 0.5, y - 0.5), width, height, fill=False, ec=colour, lw=1.4
            )
        )
        text = str(truth.cats[entry["category_id"]].get("name", ""))
        if "score" in entry:
            text += f" {entry['score']:.2f}"
        axis.text(
            x,
            y - 2,
            text,
            fontsize=7,
            va="bottom",
            bbox={"fc": colour, "ec": "none", "pad": 0.8},
        )
    axis.imshow(tinted, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _mask(entry: dict, shape: tuple, truth: coco.COCO) -> np.ndarray:
    """[H, W], bool, of RLE or polygons."""
    if "id" in entry:
        return truth.annToMask(entry).astype(bool)
    code = entry["segmentation"]
    return mask_api.decode(code).astype(bool).reshape(shape[:2])
