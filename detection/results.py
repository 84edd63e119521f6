"""Collects a model's detections as COCO results, and scores them.

Stands where the Model Garden's COCOEvaluator stands. That one scores the
images it happened to see as if they were all, and counts one that it saw
twice two times; this one knows which there are.
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
    """The COCO figures of one evaluation at a time.

    Attributes:
      name: what the task's logs call it.
      truth: what is there.
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
          path: where `result` writes the results, and beside it those of
            masks alone: see `masks_path`; None for nowhere.
          per_category: AP of each category as well.
          masks: whether the model finds any.

        Raises:
          ValueError: the annotations cannot be read.
        """
        self.truth = ground_truth.load(annotation_file)
        self._path, self._per_category = path, per_category
        self._masks = masks
        self.figures: dict[str, float] = {}
        self.reset_states()

    def reset_states(self) -> None:
        """Begins a new evaluation."""
        self.results: evaluate.Results = []
        self._seen: set[int] = set()
        self._unused = 0

    def update_state(self, groundtruths: Any, predictions: Any) -> None:
        """Adds a batch.

        Args:
          groundtruths: not used; the annotations have them.
          predictions: what the task's validation step returns, each value a
            tuple with one tensor a replica.

        Raises:
          ValueError: an image that is not annotated, or seen before.
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
        # Classes may have gaps between the ids of categories, as COCO's: a
        # detection of such a class counts in no figure.
        kept = [e for e in found if e["category_id"] in self.truth.categories]
        self._unused += len(found) - len(kept)
        self.results.extend(kept)

    def result(self) -> dict[str, float]:
        """The figures, "partial_" ones unless every image was seen.

        Of several workers each has evaluated its share; all of them get the
        figures of the whole, and the chief writes the results.

        Raises:
          ValueError: two workers have evaluated the same image.
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
                "%d detections have class ids that no category of %s has; "
                "they are ignored.",
                self._unused,
                self.truth.path,
            )
        return self.figures

    def _join(self, parts: list[list[Any]]) -> None:
        """Takes what each of the workers has."""
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
    """Where the results of masks alone are, beside those at `path`.

    A file of their own, because pycocotools sorts masks into small, medium
    and large by the areas of their boxes where a file has both.
    """
    end = len(path) - len(files.suffix(path))
    return f"{path[:end]}_masks{path[end:]}"


def without_box(entry: dict) -> dict:
    """A result of a mask alone."""
    return {key: value for key, value in entry.items() if key != "bbox"}


def _gather(value: Any) -> np.ndarray:
    """One array of what one or several replicas returned."""
    parts = value if isinstance(value, tuple) else (value,)
    return np.concatenate([tf.convert_to_tensor(p).numpy() for p in parts])


def to_coco(image: Arrays, image_id: int) -> evaluate.Results:
    """COCO results of one image, in the pixels of the original.

    Args:
      image: `num_detections` and, padded to [K, ...], `detection_boxes`
        [K, 4] (y, x, y, x), `detection_scores`, `detection_classes` and
        perhaps `detection_masks` [K, H, W], and `detection_outer_boxes`
        [K, 4], where the masks are of larger boxes; `image_info`, [4, 2].
      image_id: the image's.
    """
    count = int(image["num_detections"])
    # Rows: original size, scaled size, scale, offset of the crop.
    (height, width), _, scale, _ = image["image_info"]
    boxes = _original(image["detection_boxes"][:count], scale)
    results = []
    for box, label, score in zip(
        boxes,
        image["detection_classes"],
        image["detection_scores"],
    ):
        results.append(
            {
                "image_id": image_id,
                "category_id": int(label),
                "bbox": box.tolist(),
                "score": float(score),
            }
        )
    if count and "detection_masks" in image:
        if "detection_outer_boxes" in image:  # The masks are of these.
            boxes = _original(image["detection_outer_boxes"][:count], scale)
        pasted = mask_ops.paste_instance_masks(
            image["detection_masks"][:count], boxes, int(height), int(width)
        )
        for entry, mask in zip(results, pasted):
            entry["segmentation"] = masks.encode(mask)
    return results


def _original(boxes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[K, 4]: y, x, y, x as scaled, to x, y, width, height in the original."""
    y, x, bottom, right = (boxes / np.tile(scale, 2)).astype(np.float64).T
    return np.stack([x, y, right - x, bottom - y], axis=1)
