"""A small part of COCO: a JSON of few images, for trials.

    python -m detection.subset --annotations=DIR/instances_train2017.json \
        --output=runs/mini/instances.json --count=8

Takes the first images by id that have objects and no crowd, at most
--most_objects of them, each at least --least_area of the image. So chosen
images are easier than COCO's mean, and a figure on them says so or misleads.
"""

import collections
import json
import os
from typing import Any

from absl import app, flags

from detection import evaluate
from training import progress


def choose(
    content: dict[str, Any], count: int, most_objects: int, least_area: float
) -> dict[str, Any]:
    """COCO annotations of the images that are chosen.

    Args:
      content: COCO's JSON.
      count: how many images.
      most_objects: in an image.
      least_area: of each object, as a share of its image.

    Returns:
      The same, of `count` images, with all categories.

    Raises:
      ValueError: too few images are like that.
    """
    objects = collections.defaultdict(list)
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)

    def serves(image: dict) -> bool:
        found = objects[image["id"]]
        least = least_area * image["width"] * image["height"]
        return 0 < len(found) <= most_objects and all(
            not one.get("iscrowd") and one["area"] >= least for one in found
        )

    images = sorted(filter(serves, content["images"]), key=lambda i: i["id"])
    if len(images) < count:
        raise ValueError(
            "Too few images have so few and so large objects; ask for fewer "
            f"or choose less strictly. Expected {count}, found {len(images)}. "
            f"Received: most_objects={most_objects}, least_area={least_area}"
        )
    images = images[:count]
    kept = [one for image in images for one in objects[image["id"]]]
    return content | {"images": images, "annotations": kept}


def main(_: list[str]) -> None:
    """Writes the part that the flags ask for."""
    flag = flags.FLAGS
    whole = evaluate.load_annotations(flag.annotations).dataset
    part = choose(whole, flag.count, flag.most_objects, flag.least_area)
    os.makedirs(os.path.dirname(flag.output) or ".", exist_ok=True)
    progress.write_atomically(flag.output, json.dumps(part))
    ids = [image["id"] for image in part["images"]]
    print(f"{len(ids)} images, {len(part['annotations'])} objects: {ids}")


if __name__ == "__main__":
    flags.DEFINE_string("annotations", None, "COCO's JSON.")
    flags.DEFINE_string("output", None, "JSON to write.")
    flags.DEFINE_integer("count", 8, "Images to take.")
    flags.DEFINE_integer("most_objects", 3, "In an image, at most.")
    flags.DEFINE_float("least_area", 0.03, "Of an object in its image.")
    flags.mark_flags_as_required(["annotations", "output"])
    app.run(main)
