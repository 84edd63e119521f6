"""A small part of COCO: a JSON of few images, for trials.

    python -m detection.subset --annotations=DIR/instances_train2017.json \
        --output=runs/mini/instances.json --count=8

Takes the first images by id that have objects and no crowd, at most
--most_objects of them, each at least --least_area of the image. These images
are easier than COCO's average, so metrics on them are not COCO's.
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
    """Returns the ids of the selected images, sorted.

    Args:
      pairs: images and their annotations, of a `ground_truth.Reader`.
      count: number of images.
      most_objects: maximum number per image.
      least_area: minimum area of each object, as a fraction of its image.

    Raises:
      ValueError: if there are too few such images.
    """

    def serves(image: dict, found: list[dict]) -> bool:
        least = least_area * image["width"] * image["height"]
        return 0 < len(found) <= most_objects and all(
            not one["iscrowd"] and one["area"] >= least for one in found
        )

    ids = sorted(image["id"] for image, found in pairs if serves(image, found))
    if len(ids) < count:
        raise ValueError(
            "Too few images have so few and so large objects; request fewer "
            f"or relax the limits. Expected {count}, found {len(ids)}. "
            f"Received: most_objects={most_objects}, least_area={least_area}"
        )
    return ids[:count]


def part(path: str, ids: list[int]) -> dict[str, Any]:
    """Returns COCO's JSON with only those images and their annotations."""
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
    """Writes the subset as the flags say."""
    flag = flags.FLAGS
    if files.real(flag.output) == files.real(flag.annotations):
        raise ValueError(
            "The output would replace the annotations; choose another one. "
            f"Received: output={flag.output!r}"
        )
    with ground_truth.Reader(flag.annotations, training=True) as reader:
        ids = choose(reader, flag.count, flag.most_objects, flag.least_area)
    chosen = part(flag.annotations, ids)
    files.write(flag.output, json.dumps(chosen))
    print(f"{len(ids)} images, {len(chosen['annotations'])} objects: {ids}")


if __name__ == "__main__":
    flags.DEFINE_string("annotations", None, "COCO's JSON.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_integer("count", 8, "Number of images.", lower_bound=1)
    flags.DEFINE_integer("most_objects", 3, "Maximum number per image.")
    flags.DEFINE_float("least_area", 0.03, "Minimum share of the image area.")
    flags.mark_flags_as_required(["annotations", "output"])
    commands.run(main)
