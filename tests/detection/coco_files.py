"""Small COCO files on disk: two photographs' worth of noise, four objects."""

import copy
import json

import cv2
import numpy as np

SQUARE = [[2, 3, 12, 3, 12, 9, 2, 9]]
# Column by column: 40 rows, 50 columns, a block of 4 x 5 pixels.
CROWD = {"size": [40, 50], "counts": [5 * 40 + 7, 4, 36, 4, 36, 4]}
CROWD["counts"] += [36, 4, 36, 4, 2000 - (5 * 40 + 7 + 5 * 4 + 4 * 36)]
CONTENT = {
    # Text that is not ASCII, and a key that nobody asks for.
    "info": {"title": 'Stra\u00dfe, 2 \u20ac, "{[\\"}', "nested": [1, [2]]},
    "images": [
        {"id": 7, "file_name": "b.png", "height": 40, "width": 50},
        {"id": 3, "file_name": "a.jpg", "height": 32, "width": 64},
        {"id": 5, "file_name": "c.png", "height": 8, "width": 8},
    ],
    "annotations": [
        {
            "id": 900000000007,
            "image_id": 7,
            "category_id": 90,
            "bbox": [5, 7, 5, 4],
            "iscrowd": 1,
            "area": 20,
            "segmentation": CROWD,
        },
        {
            "id": 2,
            "image_id": 3,
            "category_id": 1,
            "bbox": [2, 3, 10, 6],
            "iscrowd": 0,
            "area": 60,
            "segmentation": SQUARE,
        },
        {
            "id": 1,
            "image_id": 7,
            "category_id": 1,
            # A hair outside on the right: the Model Garden drops it.
            "bbox": [40, 30, 10.01, 8],
            "iscrowd": 0,
            "area": 80,
            "segmentation": [[40, 30, 50, 30, 50, 38, 40, 38]],
        },
    ],
    "categories": [{"id": 1, "name": "Tr\u00e4ger"}, {"id": 90, "name": "b"}],
}


def content():
    """A copy to change."""
    return copy.deepcopy(CONTENT)


def write(folder, changed=None, text=None):
    """Writes images and JSON; returns (JSON, folder of the images)."""
    rng = np.random.default_rng(0)
    for image in CONTENT["images"]:
        shape = (image["height"], image["width"], 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), pixels)
    path = folder / "instances.json"
    text = text or json.dumps(changed or CONTENT, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return str(path), str(folder)
