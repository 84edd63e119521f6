"""Ground truth is what json.load finds, whole and checked, and not held."""

import json
import tracemalloc

import pytest

from detection import coco_json, ground_truth, masks
from tests.detection import coco_files


def _pairs(path):
    """What the reader should give, by reading the whole file."""
    with open(path, encoding="utf-8") as file:
        whole = json.load(file)
    return [
        (image, [a for a in whole["annotations"] if a["image_id"] == number])
        for image in whole["images"]
        for number in [image["id"]]
    ]


def _same(found, expected):
    """Whether images and annotations agree in what is used of them."""
    assert [image["id"] for image, _ in found] == [
        image["id"] for image, _ in expected
    ]
    for (image, annotations), (wanted, others) in zip(found, expected):
        assert image.items() <= wanted.items()
        assert [one["id"] for one in annotations] == [o["id"] for o in others]
        for one, other in zip(annotations, others):
            for key in set(one) - {"segmentation"}:
                assert one[key] == other[key]
            size = (image["height"], image["width"])
            codes = [masks.rle(a["segmentation"], *size) for a in (one, other)]
            assert masks.area(codes[0]) == masks.area(codes[1])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_reader_finds_what_json_reads(indent, mark, tmp_path):
    text = json.dumps(coco_files.CONTENT, ensure_ascii=False, indent=indent)
    path, _ = coco_files.write(tmp_path, text=mark + text)
    plain, _ = coco_files.write(tmp_path, text=text)
    with ground_truth.Reader(path, training=True) as found:
        _same(list(found), _pairs(plain))
        _same([found.find(3)], [_pairs(plain)[1]])
        assert found.find(4) is None
        assert (len(found), found.annotations) == (3, 3)
        assert found.categories == {1: "Tr\u00e4ger", 90: "b"}
        assert not found.filled and not found.faults.counts


def test_real_annotations_too(data_dir):
    path = str(data_dir / "coco_mini/annotations/instances_val2017.json")
    with ground_truth.Reader(path, training=True) as found:
        _same(list(found), _pairs(path))
        assert not found.filled


def _written(path, count):
    """Annotations of 400 bytes each, 50 an image."""
    polygon = [[float(k) + 0.25 for k in range(60)]]
    with open(path, "w") as file:
        file.write('{"annotations": [')
        for number in range(count):
            one = {"id": number, "image_id": number // 50, "category_id": 1}
            one |= {"segmentation": polygon, "bbox": [0, 0, 60, 60]}
            one |= {"iscrowd": 0, "area": 9}
            file.write("," * (number > 0) + json.dumps(one))
        images = [{"id": k} for k in range((count + 49) // 50)]
        file.write(f'], "images": {json.dumps(images)}')
        file.write(', "categories": [{"id": 1, "name": "x"}]}')
    return path


def _peak(path):
    tracemalloc.start()
    with ground_truth.Reader(path) as found:
        for _ in found:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_annotations(tmp_path, monkeypatch):
    # A megabyte would hide what so small files leave behind.
    monkeypatch.setattr(coco_json, "_BLOCK", 1 << 14)
    few = _peak(_written(str(tmp_path / "few.json"), 500))
    many = _peak(_written(str(tmp_path / "many.json"), 3000))
    # Of each annotation seven integers, and copies of them while they are
    # sorted; as json.load has it, each would take some 2 kB.
    assert many - few < 2500 * 56 * 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"id": 3', '"id": 7', r"images have the same id.*images\[0\] and im"),
        ('"id": 2,', '"id": 1,', r"same id\. Number them anew: jq.*id=1 at"),
        ('"image_id": 3', '"image_id": 4', r"\[1\] \(id=2.*not in the file"),
        ('"category_id": 1', '"category_id": 2', r"\[1\].*expected one of \[1"),
        ('"id": 2,', '"id": "2",', r"\[1\] \(id='2'.*id must be an integer"),
        ('"id": 2,', "", r"\[1\] \(image_id=3\): id must.*It is missing"),
        ('"image_id": 3,', "", r"\(id=2\): image_id must.*It is missing"),
        ('"id": 90,', '"id": 0,', r"background's in training\. Add 1.*jq '"),
        ('"id": 90,', '"id": 1,', r"categories\[1\].*same id or the same name"),
        ('"name": "b"', r'"name": "Tr\u00e4ger"', "same id or the same name"),
        ('"name": "b"', '"name": 5', "name must be text"),
        ('"name": "b"', '"name": NaN', "name must be text"),
        ('"images"', '"pictures"', r"need \['images'\]"),
        ('"images": [', '"images": 1, "other": [', "'images' must be a list"),
        ('"info"', '"images"', "'images' must be a list"),
        ("}]}", "}]", "premature EOF"),
        ('"iscrowd": 0, "area": 60', '"iscrowd": 0 "area": 60', r"at ann.*\[1"),
        ('"area": 60', '"area": NaN', r"\[1\] \(id=2, im.*finite.*area=.'NaN'"),
        ('"area": 60', '"area": nan', r"invalid.*near.*\[1\] \(id=2, im"),
        ('"area": 60', '"iscrowd": 60', r"key 'iscrowd' twice.*\[1\]"),
        ('"area": 60', f'"area": {"[" * 40}', "nested more than 32 deep"),
        ('"area": 60', '"area": 1e999', "overflow"),
        ('{"info"', '[{"info"', "must be an object"),
    ],
)
def test_what_is_not_coco_is_named(old, new, message, tmp_path):
    text = json.dumps(coco_files.CONTENT)
    assert old in text
    path, _ = coco_files.write(tmp_path, text=text.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        ground_truth.Reader(path, training=True)
    assert path in str(error.value)


def test_a_section_twice_is_refused(tmp_path):
    text = json.dumps(coco_files.CONTENT)
    text = text[:-1] + ', "images": []}'
    path, _ = coco_files.write(tmp_path, text=text)
    with pytest.raises(ValueError, match=r"this key twice.*at images"):
        ground_truth.load(path)


def test_text_that_is_no_utf8_is_said(tmp_path):
    path, _ = coco_files.write(tmp_path)
    text = json.dumps(coco_files.CONTENT, ensure_ascii=False)
    (tmp_path / "instances.json").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="not valid JSON"):
        ground_truth.load(path)
    latin = text.replace("\u20ac", "").encode("latin-1")
    (tmp_path / "instances.json").write_bytes(latin)
    with pytest.raises(ValueError, match="write the file as UTF-8"):
        ground_truth.load(path)


@pytest.mark.parametrize("path", ["nowhere.json", "", "/"])
def test_no_file_is_named(path):
    with pytest.raises(ValueError, match="no such file"):
        ground_truth.load(path)


def test_the_first_faults_are_named_and_all_are_counted(tmp_path):
    changed = coco_files.content()
    one = changed["annotations"][1]
    changed["annotations"] = [
        one | {"id": number, "iscrowd": 7} for number in range(10, 18)
    ]
    changed["images"][0] = {"id": None}
    path, _ = coco_files.write(tmp_path, changed)
    with pytest.raises(ValueError, match=r"9 entries.* the first 5:") as error:
        ground_truth.load(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 6
    assert "images[0] (id=None): id must be an integer" in lines[1]
    assert "annotations[3] (id=13, image_id=3): iscrowd must be" in lines[5]
    with ground_truth.Reader(path, True, skip_invalid=True) as found:
        assert found.faults.counts == {"images": 1, "annotations": 8}
        assert found.annotations == 0


def test_an_image_that_is_left_out_takes_its_annotations_with_it(tmp_path):
    changed = coco_files.content()
    changed["images"][0]["file_name"] = None
    path, _ = coco_files.write(tmp_path, changed)
    with pytest.raises(ValueError, match=r"1 entry must.*\n.*needs file_name"):
        ground_truth.Reader(path, training=True)
    # Only boxes and masks are scored: no file is opened.
    assert len(ground_truth.load(path).images) == 3
    with ground_truth.Reader(path, True, skip_invalid=True) as found:
        assert found.ids == [3, 5]
        assert found.faults.counts == {"images": 1, "annotations": 2}
    for image in changed["images"]:
        image["width"] = 0
    path, _ = coco_files.write(tmp_path, changed)
    with pytest.raises(ValueError, match=r"3 entries.*\n.*images\[0\]"):
        ground_truth.Reader(path, True, skip_invalid=True)


def test_what_everyone_means_is_filled_in_and_counted(tmp_path):
    changed = coco_files.content()
    crowd, square, other = changed["annotations"]
    for one in (square, other):
        del one["iscrowd"], one["area"]
    other["segmentation"] = None
    crowd |= {"area": None, "id": 0, "category_id": 90.0, "iscrowd": True}
    changed["images"][0] |= {"height": 40.0}
    changed["categories"][1]["name"] = None
    path, _ = coco_files.write(tmp_path, changed)
    truth = ground_truth.load(path)
    assert truth.filled == {
        **{"iscrowd": 2, "area": 3, "id_0": 1, "integer": 2, "name": 1}
    }
    assert "annotations[1] (id=2, image_id=3)" in truth.filled.first["iscrowd"]
    assert truth.categories[90] == "90"
    (crowd, other), (square,) = truth.objects[7], truth.objects[3]
    assert (crowd["iscrowd"], square["iscrowd"]) == (1, 0)
    # Of masks, of the box where there is none.
    areas = [one["area"] for one in (crowd, other, square)]
    assert areas == pytest.approx([20, 10.01 * 8, 60])
    assert truth.maskless.counts == {"annotations": 1}


def test_names_are_read_whatever_else_is_wrong(tmp_path):
    changed = coco_files.content()
    changed["annotations"][0]["id"] = None
    path, _ = coco_files.write(tmp_path, changed)
    assert ground_truth.categories(path) == {1: "Tr\u00e4ger", 90: "b"}
    changed["categories"][1]["id"] = "90"
    path, _ = coco_files.write(tmp_path, changed)
    with pytest.raises(ValueError, match=r"categories\[1\] .*id must be"):
        ground_truth.categories(path)


def test_without_a_size_the_area_is_the_boxs(tmp_path):
    changed = coco_files.content()
    for image in changed["images"]:
        del image["height"]
    for one in changed["annotations"]:
        one["area"] = None
    path, _ = coco_files.write(tmp_path, changed)
    truth = ground_truth.load(path)
    areas = [one["area"] for one in truth.annotations()]
    # The first is a RLE, whose pixels are known all the same.
    assert areas == pytest.approx([20, 10.01 * 8, 60])


def test_an_rle_of_another_size_than_its_image_is_named(tmp_path):
    changed = coco_files.content()
    changed["images"][0]["height"] = 41
    path, _ = coco_files.write(tmp_path, changed)
    with pytest.raises(ValueError, match=r"\[0\].*another size.*\[41, 50\]"):
        ground_truth.load(path)
