"""A small part of COCO: a JSON of few images, for trials.

    python -m detection.subset --annotations=DIR/instances_train2017.json \
        --output=runs/mini/instances.json --count=8

Takes the first images by id that have objects and no crowd, at most
--most_objects of them, each at least --least_area of the image. So chosen
images are easier than COCO's mean, and a figure on them says so or misleads.
"""

import json
from collections.abc import Iterable
from typing import Any

from absl import flags

from detection import coco_json, ground_truth
from evonorm_tf import files
from training import commands


def choose(
    pairs: Iterable[tuple[dict, list[dict]]],
    count: int,
    most_objects: int,
    least_area: float,
) -> list[int]:
    """Ids of the images that are chosen, sorted.

    Args:
      pairs: images and their annotations, of a `ground_truth.Reader`.
      count: how many images.
      most_objects: in an image.
      least_area: of each object, as a share of its image.

    Raises:
      ValueError: too few images are like that.
    """

    def serves(image: dict, found: list[dict]) -> bool:
        least = least_area * image["width"] * image["height"]
        return 0 < len(found) <= most_objects and all(
            not one["iscrowd"] and one["area"] >= least for one in found
        )

    ids = sorted(image["id"] for image, found in pairs if serves(image, found))
    if len(ids) < count:
        raise ValueError(
            "Too few images have so few and so large objects; ask for fewer "
            f"or choose less strictly. Expected {count}, found {len(ids)}. "
            f"Received: most_objects={most_objects}, least_area={least_area}"
        )
    return ids[:count]


def part(path: str, ids: list[int]) -> dict[str, Any]:
    """COCO's JSON with those images alone, and what is annotated in them."""
    content: dict[str, Any] = {}
    for section, number, entry in coco_json.sections(path):
        if number is None:
            content[section] = entry
            continue
        key = {"images": "id", "annotations": "image_id"}.get(section)
        kept = content.setdefault(section, [])
        if key is None or entry[key] in ids:
            kept.append(entry)
    order = {number: place for place, number in enumerate(ids)}
    content.setdefault("annotations", [])
    for section, key in (("images", "id"), ("annotations", "image_id")):
        content[section].sort(key=lambda entry: order[entry[key]])
    return content


def main(_: list[str]) -> None:
    """Writes the part that the flags ask for."""
    flag = flags.FLAGS
    with ground_truth.Reader(flag.annotations, training=True) as reader:
        ids = choose(reader, flag.count, flag.most_objects, flag.least_area)
    chosen = part(flag.annotations, ids)
    files.write(flag.output, json.dumps(chosen))
    print(f"{len(ids)} images, {len(chosen['annotations'])} objects: {ids}")


if __name__ == "__main__":
    flags.DEFINE_string("annotations", None, "COCO's JSON.")
    flags.DEFINE_string("output", None, "JSON to write.")
    flags.DEFINE_integer("count", 8, "Images to take.")
    flags.DEFINE_integer("most_objects", 3, "In an image, at most.")
    flags.DEFINE_float("least_area", 0.03, "Of an object in its image.")
    flags.mark_flags_as_required(["annotations", "output"])
    commands.run(main)
