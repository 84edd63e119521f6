"""The first few easy images of COCO."""

import json
import types

import pytest
from absl import flags

from detection import ground_truth, subset


def _content():
    def one(image, area, **more):
        found = {"image_id": image, "area": area, "category_id": 1}
        return found | {"bbox": [0, 0, 9, 9]} | more

    images = [
        {"id": i, "width": 10, "height": 10, "file_name": f"{i}.png"}
        for i in (5, 1, 2, 3, 4, 6)
    ]
    annotations = [
        *(one(1, 50), one(1, 2)),  # One too small.
        *(one(2, 50), one(2, 40)),
        one(3, 90, iscrowd=1),
        *(one(4, 20), one(4, 20), one(4, 20)),  # Too many.
        one(5, 5),
    ]  # And none at all in image 6.
    for number, annotation in enumerate(annotations, start=1):
        annotation |= {"id": number, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    categories = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
    return {
        "info": {"year": 2017},
        **{"images": images, "annotations": annotations},
        **{"categories": categories, "licenses": []},
    }


@pytest.fixture
def path(tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(_content()))
    return str(tmp_path / "instances.json")


def _choose(path, count):
    with ground_truth.Reader(path, training=True) as reader:
        return subset.choose(reader, count, most_objects=2, least_area=0.05)


def test_first_images_with_few_and_large_objects(path):
    ids = _choose(path, 2)
    assert ids == [2, 5]
    part, whole = subset.part(path, ids), _content()
    assert [image["id"] for image in part["images"]] == [2, 5]
    assert [a["image_id"] for a in part["annotations"]] == [2, 2, 5]
    # As they are written, polygons and all.
    assert all(one in whole["annotations"] for one in part["annotations"])
    for key in ("info", "categories", "licenses"):
        assert part[key] == whole[key]


def test_too_few_images_is_an_error(path):
    with pytest.raises(ValueError, match="Expected 3, found 2"):
        _choose(path, 3)


def test_the_annotations_are_not_replaced(path, monkeypatch):
    given = types.SimpleNamespace(annotations=path, output=f"file://{path}")
    monkeypatch.setattr(flags, "FLAGS", given)
    with pytest.raises(ValueError, match="would replace the annotations"):
        subset.main([])
