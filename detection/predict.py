r"""Draws the detections of a trained model in images.

    python -m detection.predict --model_dir=RUN --image=A.jpg --image=B.png \
        --output_dir=found

Each image gets a PNG with boxes, masks, names and scores, and --json=FILE
writes all detections as COCO results. --checkpoint is "latest", "best" or the
path of a checkpoint, for which --model_dir is not needed.
"""

import json

import numpy as np
import tensorflow as tf
from absl import flags

from detection import detector, draw, task
from evonorm_tf import files
from training import commands, saved
from training.images import decoding


def read(path: str) -> np.ndarray:
    """Reads an image file as [H, W, 3], uint8, RGB.

    As in training, the orientation in EXIF is ignored.

    Raises:
      ValueError: if the file does not exist or cannot be read as an image.
    """
    return decoding.read(decoding.load(path), path).pixels


def predict(
    run: saved.Restored, images: dict[str, np.ndarray]
) -> dict[str, list[dict]]:
    """Returns COCO results by the images' names, best first.

    The `image_id` of a result is the index in `images`.
    """
    found = detector.Detector(run.model, run.params.task.model)
    return {
        name: sorted(
            detector.to_coco(
                found.images(tf.constant(image[np.newaxis])), image, number
            ),
            key=lambda entry: -entry["score"],
        )
        for number, (name, image) in enumerate(images.items())
    }


def _describe(entry: dict, names: dict[int, str]) -> str:
    name = names.get(entry["category_id"], str(entry["category_id"]))
    x, y, width, height = entry["bbox"]
    return (
        f"{entry['score']:.3f} {name}: x {x:.0f}, y {y:.0f}, "
        f"{width:.0f} x {height:.0f}"
    )


def outputs(images: list[str], folder: str) -> dict[str, str]:
    """Returns the path of each image's picture.

    Raises:
      ValueError: if two images have the same name.
    """
    places = {}
    for image in images:
        place = files.join(folder, f"{files.stem(image)}.detections.png")
        if place in places.values():
            raise ValueError(
                "Two images have the same name; draw them to different "
                f"directories. Received: image={image!r}"
            )
        places[image] = place
    return places


def draw_all(
    run: saved.Restored,
    places: dict[str, str],
    names: dict[int, str],
    threshold: float,
) -> list[dict]:
    """Draws the detections in images, and prints them.

    Args:
      run: the restored run.
      places: image files to PNGs, from `outputs`.
      names: category ids to names.
      threshold: minimum score to draw and print.

    Returns:
      All detections as COCO results.
    """
    images = {path: read(path) for path in places}
    found = predict(run, images)
    print(f"Checkpoint: {run.path}")
    for path, entries in found.items():
        shown = [one for one in entries if one["score"] >= threshold]
        draw.picture(images[path], shown, names, places[path])
        print(f"{path}: {len(shown)} found, picture {places[path]}")
        for entry in shown:
            print(f"  {_describe(entry, names)}")
    return [one for entries in found.values() for one in entries]


def main(_: list[str]) -> None:
    """Draws as the flags say."""
    flag = flags.FLAGS
    places = outputs(flag.image, flag.output_dir)
    run = task.restore(flag.model_dir, flag.checkpoint)
    names = task.names(run, flag.annotations)
    found = draw_all(run, places, names, flag.threshold)
    if flag.json:
        files.write(flag.json, json.dumps(found))


if __name__ == "__main__":
    flags.DEFINE_multi_string("image", None, "Image file; may be repeated.")
    flags.DEFINE_string("model_dir", None, "Folder of the run.")
    flags.DEFINE_string("checkpoint", "latest", "latest, best or a path.")
    flags.DEFINE_string("output_dir", ".", "Folder for the pictures.")
    flags.DEFINE_string("json", None, "File for all detections, COCO results.")
    flags.DEFINE_string("annotations", None, "COCO's JSON file, for the names.")
    flags.DEFINE_float("threshold", 0.5, "Minimum score to draw.")
    flags.mark_flags_as_required(["image"])
    commands.run(main)
