"""The first few easy images of COCO."""

import pytest

from detection import subset


def _content():
    def one(image, area, **more):
        return {"image_id": image, "area": area, "iscrowd": 0} | more

    images = [{"id": i, "width": 10, "height": 10} for i in (5, 1, 2, 3, 4, 6)]
    annotations = [
        *(one(1, 50), one(1, 2)),  # One too small.
        *(one(2, 50), one(2, 40)),
        one(3, 90, iscrowd=1),
        *(one(4, 20), one(4, 20), one(4, 20)),  # Too many.
        one(5, 5),
    ]  # And none at all in image 6.
    return {"images": images, "annotations": annotations, "categories": [7]}


def test_first_images_with_few_and_large_objects():
    part = subset.choose(_content(), 2, most_objects=2, least_area=0.05)
    assert [image["id"] for image in part["images"]] == [2, 5]
    assert [a["image_id"] for a in part["annotations"]] == [2, 2, 5]
    assert part["categories"] == [7]


def test_too_few_images_is_an_error():
    with pytest.raises(ValueError, match="Expected 3, found 2"):
        subset.choose(_content(), 3, most_objects=2, least_area=0.05)
