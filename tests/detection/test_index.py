"""The index finds what json.load finds, and holds none of it."""

import json
import tracemalloc

import pytest

from detection import index
from tests.detection import coco_files


def _pairs(path):
    """What the index should give, by reading the whole file."""
    with open(path, encoding="utf-8") as file:
        whole = json.load(file)
    return [
        (image, [a for a in whole["annotations"] if a["image_id"] == number])
        for image in whole["images"]
        for number in [image["id"]]
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_the_index_is_what_json_reads(indent, block, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_BLOCK", block)
    text = json.dumps(coco_files.CONTENT, ensure_ascii=False, indent=indent)
    path, _ = coco_files.write(tmp_path, text=text)
    with index.Index(path) as found:
        assert list(found) == _pairs(path)
        assert found.find(3) == _pairs(path)[1]
        assert found.find(4) is None
        assert (len(found), found.annotations) == (3, 3)
        assert found.categories == {1: "Tr\u00e4ger", 90: "b"}


def test_real_annotations_too(data_dir):
    path = str(data_dir / "coco_mini/annotations/instances_val2017.json")
    with index.Index(path) as found:
        assert list(found) == _pairs(path)


def _written(path, count):
    """Annotations of 400 bytes each, 50 an image."""
    polygon = [[float(k) + 0.25 for k in range(60)]]
    with open(path, "w") as file:
        file.write('{"annotations": [')
        for number in range(count):
            one = {"id": number, "image_id": number // 50}
            one["segmentation"] = polygon
            file.write("," * (number > 0) + json.dumps(one))
        images = [{"id": k} for k in range((count + 49) // 50)]
        file.write(f'], "images": {json.dumps(images)}')
        file.write(', "categories": [{"id": 1, "name": "x"}]}')
    return path


def _peak(path):
    tracemalloc.start()
    with index.Index(path) as found:
        for _ in found:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_annotations(tmp_path, monkeypatch):
    # A megabyte would hide what so small files leave behind.
    monkeypatch.setattr(index, "_BLOCK", 1 << 14)
    few = _peak(_written(str(tmp_path / "few.json"), 500))
    many = _peak(_written(str(tmp_path / "many.json"), 3000))
    # Of each annotation four integers, and copies of them while they are
    # sorted; as json.load has it, each would take some 2 kB.
    assert many - few < 2500 * 32 * 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"id": 3', '"id": 7', "images have the same id.*id=7"),
        ('"id": 2,', '"id": 1,', "annotations have the same id.*id=1"),
        ('"image_id": 3', '"image_id": 4', "not there.*annotation id=2"),
        ('"id": 2,', '"id": "2",', "integer 'id'.*id='2'"),
        ('"image_id": 3,', "", "id=2, image_id=None"),
        ('"id": 90,', '"id": 0,', "above 0.*id=0"),
        ('"images"', '"pictures"', r"need \['images'\]"),
        ("}]}", "}]", "ends too early"),
        ('"iscrowd": 0, "area": 60', '"iscrowd": 0 "area": 60', "at byte"),
    ],
)
def test_what_is_not_coco_is_named(old, new, message, tmp_path):
    text = json.dumps(coco_files.CONTENT)
    assert old in text
    path, _ = coco_files.write(tmp_path, text=text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as error:
        index.Index(path)
    assert path in str(error.value)


def test_no_file_is_named():
    with pytest.raises(ValueError, match="no such annotation file"):
        index.Index("nowhere.json")
