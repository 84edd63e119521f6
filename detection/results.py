"""Collects a model's detections as COCO results, and scores them.

It replaces the Model Garden's COCOEvaluator, which scores only the images that
it received, without saying so, and counts repeated images twice. This one knows
which images there are.
"""

import json
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from official.vision.ops import mask_ops

from detection import evaluate, ground_truth, masks
from detection.datasets import PADDING
from evonorm_tf import files
from training import workers

Arrays = dict[str, np.ndarray]


class Collector:
    """Computes the COCO metrics of one evaluation at a time.

    Attributes:
      name: in the task's logs.
      truth: the ground truth.
      results: COCO results since the last reset.
      figures: what `result` last returned.
    """

    name = "coco_metric"

    def __init__(
        self,
        annotation_file: str,
        path: str | None,
        per_category: bool,
        masks: bool = True,
    ):
        """Reads the annotations.

        Args:
          annotation_file: COCO's JSON.
          path: where `result` writes the results and, next to it, those of
            masks alone: see `masks_path`; None to write nothing.
          per_category: whether to include the AP of each category.
          masks: whether the model predicts masks.

        Raises:
          ValueError: if the annotations cannot be read.
        """
        self.truth = ground_truth.load(annotation_file)
        self._path, self._per_category = path, per_category
        self._masks = masks
        self.figures: dict[str, float] = {}
        self.reset_states()

    def reset_states(self) -> None:
        """Starts a new evaluation."""
        self.results: evaluate.Results = []
        self._seen: set[int] = set()
        self._unused = 0

    def update_state(self, groundtruths: Any, predictions: Any) -> None:
        """Adds a batch.

        Args:
          groundtruths: ignored; the annotations have them.
          predictions: from the task's validation step, each value a tuple with
            one tensor per replica.

        Raises:
          ValueError: if an image is not annotated or was added before.
        """
        del groundtruths
        arrays = {name: _gather(value) for name, value in predictions.items()}
        for index in range(len(arrays["source_id"])):
            self._add({name: a[index] for name, a in arrays.items()})

    def _add(self, image: Arrays) -> None:
        image_id = int(image["source_id"])
        if image_id == PADDING:
            return
        if image_id in self._seen or image_id not in self.truth.images:
            what = "twice" if image_id in self._seen else "but not annotated"
            raise ValueError(
                f"An image was evaluated {what}: check validation_data "
                f"against annotation_file. Received: source_id={image_id}"
            )
        self._seen.add(image_id)
        found = to_coco(image, image_id)
        # Class ids may lie in gaps between category ids, as COCO's have;
        # detections of such classes are ignored.
        kept = [e for e in found if e["category_id"] in self.truth.categories]
        self._unused += len(found) - len(kept)
        self.results.extend(kept)

    def result(self) -> dict[str, float]:
        """Returns the metrics, "partial_" ones unless all images were added.

        Each of several workers evaluates its share. All of them get the metrics
        of the whole, and the chief writes the results.

        Raises:
          ValueError: if two workers evaluated the same image.
        """
        devices = tf.distribute.get_strategy()
        own = [self.results, [*self._seen], self._unused]
        self._join(workers.gather(own, devices))
        writes = self._path and workers.is_chief(devices)
        if writes:
            files.write(self._path, json.dumps(self.results))
        if writes and self._masks:
            bare = [without_box(entry) for entry in self.results]
            files.write(masks_path(self._path), json.dumps(bare))
        self.figures = evaluate.score(
            self.results,
            self.truth,
            self._seen,
            self._per_category,
            masks=self._masks,
            source="the model's detections (NaN: training diverged)",
        )
        if self._unused:
            logging.warning(
                "%d detections have class ids that are not categories of %s; "
                "they are ignored.",
                self._unused,
                self.truth.path,
            )
        return self.figures

    def _join(self, parts: list[list[Any]]) -> None:
        """Merges the results of the workers."""
        if len(parts) == 1:
            return
        seen = [number for _, numbers, _ in parts for number in numbers]
        self._seen = set(seen)
        if len(self._seen) < len(seen):
            raise ValueError(
                "Workers have evaluated the same images. All of them need the "
                f"same validation_data. Received: {len(seen)} evaluated, "
                f"{len(self._seen)} different ones"
            )
        self.results = [one for found, _, _ in parts for one in found]
        self._unused = sum(unused for _, _, unused in parts)


def masks_path(path: str) -> str:
    """Returns the path for the results of masks alone, next to `path`.

    This is a separate file because pycocotools classifies masks as small,
    medium or large by the areas of their boxes if a file has both.
    """
    end = len(path) - len(files.suffix(path))
    return f"{path[:end]}_masks{path[end:]}"


def without_box(entry: dict) -> dict:
    """Returns a result with only the mask."""
    return {key: value for key, value in entry.items() if key != "bbox"}


def _gather(value: Any) -> np.ndarray:
    """Concatenates the outputs of one or several replicas."""
    parts = value if isinstance(value, tuple) else (value,)
    return np.concatenate([tf.convert_to_tensor(p).numpy() for p in parts])


def to_coco(image: Arrays, image_id: int) -> evaluate.Results:
    """Returns COCO results of one image, in the pixels of the original.

    Args:
      image: `num_detections` and, padded to [K, ...], `detection_boxes`
        [K, 4] (y, x, y, x), `detection_scores`, `detection_classes` and
        optionally `detection_masks` [K, H, W] and, if the masks are of larger
        boxes, `detection_outer_boxes` [K, 4]; `image_info`, [4, 2].
      image_id: the image's.
    """
    count = int(image["num_detections"])
    # Rows: original size, scaled size, scale, offset of the crop.
    (height, width), _, scale, _ = image["image_info"]
    boxes = _original(image["detection_boxes"][:count], scale)
    found = zip(boxes, image["detection_classes"], image["detection_scores"])
    results = [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": box.tolist(),
            "score": float(score),
        }
        for box, label, score in found
    ]
    if count and "detection_masks" in image:
        if "detection_outer_boxes" in image:  # The masks are of these.
            boxes = _original(image["detection_outer_boxes"][:count], scale)
        small = image["detection_masks"]
        for k, entry in enumerate(results):
            # One at a time: together, they would need gigabytes.
            (mask,) = mask_ops.paste_instance_masks(
                small[k : k + 1], boxes[k : k + 1], int(height), int(width)
            )
            entry["segmentation"] = masks.encode(mask)
    return results


def _original(boxes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Converts [K, 4] scaled y, x, y, x to original x, y, width, height."""
    y, x, bottom, right = (boxes / np.tile(scale, 2)).astype(np.float64).T
    return np.stack([x, y, right - x, bottom - y], axis=1)
