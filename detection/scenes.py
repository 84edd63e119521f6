"""An embedded dataset: scenes composed of scikit-learn's digits.

Each scene shows a few of the 1,797 8x8 digits, enlarged, coloured and partly
occluding one another, on a shaded and noisy background. Boxes and masks are
those of the visible parts. Scenes are written as COCO's JSON with PNG images
and as the TFRecords that the Model Garden's converter would write. Training and
validation scenes use different digits.
"""

import dataclasses
import json
import uuid
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow as tf
from official.modeling import hyperparams
from official.vision.data import tf_example_builder
from sklearn import datasets

from detection.masks import encode
from evonorm_tf import files

CATEGORIES = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
_SPLITS = ("train", "validation")
_MOST_DIGITS = 5
# Minimum fraction of a digit's visible part that the next digit leaves visible.
_LEAST_VISIBLE = 0.6


@dataclasses.dataclass
class Scenes(hyperparams.Config):
    """The scenes to create.

    Attributes:
      train: number of training scenes; 0 for no scenes at all.
      validation: number of validation scenes.
      size: side of a scene in pixels.
      seed: of digits, positions, sizes and colours.
    """

    train: int = 0
    validation: int = 0
    size: int = 128
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
      image: [H, W, 3], uint8.
      masks: [K, H, W], uint8, 0 or 1: the visible part of each digit.
      labels: [K], category ids.
    """

    image: np.ndarray
    masks: np.ndarray
    labels: list[int]

    @property
    def boxes(self) -> np.ndarray:
        """Returns [K, 4], x, y, width, height in pixels, tight boxes."""
        return np.array([_box(mask) for mask in self.masks], np.float64)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.any(mask, 1).nonzero()[0], np.any(mask, 0).nonzero()[0]
    x, y = columns[0], rows[0]
    return x, y, columns[-1] + 1 - x, rows[-1] + 1 - y


def ensure(params: Scenes, directory: str) -> str:
    """Writes the scenes under `directory` unless they exist.

    Args:
      params: the scenes.
      directory: gets one directory per set of settings, named after them, so
        that scenes with other settings are never used.

    Returns:
      The directory of these scenes, which contains for each split
      `<split>.json`, `<split>.tfrecord` and the images in `<split>/`.

    Raises:
      ValueError: if the settings are invalid.
    """
    if params.train < 1 or params.validation < 1 or params.size < 32:
        raise ValueError(
            "Expected at least one scene per split, of at least 32 pixels. "
            f"Received: scenes={params.as_dict()}"
        )
    name = (
        f"scenes-{params.size}px-{params.train}-{params.validation}"
        f"-seed{params.seed}"
    )
    path = files.join(directory, name)
    if files.is_folder(path):
        return path
    counts = (params.train, params.validation)
    # Where names are only prefixes, as in memory, a folder "a" exists as soon
    # as there is an "a.tmp".
    unfinished = files.join(directory, f".{name}.{uuid.uuid4().hex[:12]}.tmp")
    with files.writing(unfinished) as place:
        for index, (split, count) in enumerate(zip(_SPLITS, counts)):
            _write(place, split, compose(params, index, count))
    # Several workers write the same scenes; all read those of the first.
    files.move_if_absent(unfinished, path)
    return path


def compose(params: Scenes, split: int, count: int) -> Iterator[Scene]:
    """Composes `count` scenes of a split (0 training, 1 validation)."""
    digits = datasets.load_digits()
    # Every fourth digit is reserved for validation.
    mine = (np.arange(len(digits.target)) % 4 == 3) == bool(split)
    pixels, labels = digits.images[mine] / 16.0, digits.target[mine]
    for index in range(count):
        rng = np.random.default_rng([params.seed, split, index])
        yield _scene(rng, params.size, pixels, labels)


def _scene(rng, size: int, pixels: np.ndarray, labels: np.ndarray) -> Scene:
    image = _ground(rng, size)
    masks: list[np.ndarray] = []
    found: list[int] = []
    count = rng.integers(1, _MOST_DIGITS + 1)
    for chosen in rng.integers(len(pixels), size=count):
        ink, (top, left) = _place(rng, size, pixels[chosen])
        mask = np.zeros([size, size], np.uint8)
        height, width = ink.shape
        spot = np.s_[top : top + height, left : left + width]
        mask[spot] = ink > 0.4
        if any(_hides(mask, other) for other in masks):
            continue
        masks = [other & (1 - mask) for other in masks] + [mask]
        found.append(int(labels[chosen]) + 1)
        colour = rng.uniform(0.55, 1.0, 3) * (rng.permutation(3) > 0)
        blend = np.clip(ink * 1.6, 0, 1)[..., None]
        image[spot] = image[spot] * (1 - blend) + colour * blend
    image = np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1)
    return Scene((image * 255).astype(np.uint8), np.stack(masks), found)


def _ground(rng, size: int) -> np.ndarray:
    """Returns a dark background with varying shade: [H, W, 3]."""
    corners = rng.uniform(0.05, 0.4, [2, 2, 3]).astype(np.float32)
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)


def _place(rng, size: int, digit: np.ndarray) -> tuple:
    """Returns a digit enlarged to [H, W], ink in [0, 1], and its corner."""
    height = int(size * rng.uniform(0.2, 0.6))
    width = max(8, int(height * rng.uniform(0.7, 1.0)))
    ink = cv2.resize(
        digit.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    top = rng.integers(0, size - height + 1)
    return np.clip(ink, 0, 1), (top, rng.integers(0, size - width + 1))


def _hides(mask: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether `mask` in front occludes too much of `other`."""
    hidden = np.sum(mask & other)
    return hidden > (1 - _LEAST_VISIBLE) * np.sum(other)


def _write(directory: str, split: str, scenes: Iterator[Scene]) -> None:
    """Writes a split: images, JSON and TFRecords."""
    files.make_folder(files.join(directory, split))
    images: list[dict] = []
    annotations: list[dict] = []
    records = files.join(directory, f"{split}.tfrecord")
    with tf.io.TFRecordWriter(records) as writer:
        for image_id, scene in enumerate(scenes, start=1):
            name = f"{split}/{image_id:06d}.png"
            cv2.imwrite(files.join(directory, name), scene.image[..., ::-1])
            height, width = scene.image.shape[:2]
            images.append(
                {
                    "id": image_id,
                    "file_name": name,
                    "height": height,
                    "width": width,
                }
            )
            for annotation in _annotations(scene, image_id):
                annotation["id"] = len(annotations) + 1
                annotations.append(annotation)
            writer.write(_example(scene, image_id).SerializeToString())
    content = {
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    files.write(files.join(directory, f"{split}.json"), json.dumps(content))


def _annotations(scene: Scene, image_id: int) -> Iterator[dict]:
    """Returns COCO annotations without ids, masks as compressed RLE."""
    for label, mask, box in zip(scene.labels, scene.masks, scene.boxes):
        yield {
            "image_id": image_id,
            "category_id": label,
            "bbox": box.tolist(),
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": encode(mask),
        }


def _example(scene: Scene, image_id: int) -> tf.train.Example:
    """Returns the tf.Example that the Model Garden's decoder reads."""
    height, width = scene.image.shape[:2]
    x, y, w, h = scene.boxes.T
    builder = tf_example_builder.TfExampleBuilder()
    builder.add_image_matrix_feature(
        scene.image, "PNG", image_source_id=str(image_id).encode()
    )
    builder.add_boxes_feature(
        xmins=(x / width).tolist(),
        xmaxs=((x + w) / width).tolist(),
        ymins=(y / height).tolist(),
        ymaxs=((y + h) / height).tolist(),
        labels=scene.labels,
    )
    builder.add_instance_mask_matrices_feature(scene.masks)
    builder.add_ints_feature("image/object/is_crowd", [0] * len(scene.labels))
    return builder.example
