"""Input that misleads pycocotools is put right or refused, never scored.

The examples are those of public bug reports, with the figures that are right.
"""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as mask_api

from detection import evaluate, ground_truth, masks
from training.images.folders import Counts

_SQUARE = np.zeros([64, 64], np.uint8)
_SQUARE[10:30, 10:30] = 1
_CODE = masks.encode(_SQUARE)


def _object(number, image=1, box=(10, 10, 20, 20), **others):
    one = {"id": number, "image_id": image, "category_id": 1}
    one |= {"bbox": list(box), "area": 400, "iscrowd": 0}
    return one | others


def _truth(annotations, images=(1,), **others):
    return {
        "images": [{"id": i, "height": 64, "width": 64} for i in images],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    } | others


def _result(image=1, box=(10, 10, 20, 20), **others):
    one = {"image_id": image, "category_id": 1, "score": 0.9}
    return one | {"bbox": list(box)} | others


@pytest.fixture
def score(tmp_path):
    """Scores contents of files by both packages, which must agree."""

    def run(truth, results, missing="empty", counts=None):
        paths = []
        for name, content in (("r", results), ("t", truth)):
            paths.append(str(tmp_path / f"{name}.json"))
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        ours, faster = (
            evaluate.score_file(*paths, missing, backend, counts)
            for backend in evaluate.BACKENDS
        )
        assert ours == pytest.approx(faster, abs=1e-15)
        return ours

    return run


# Entry 1: ground truth.


@pytest.mark.parametrize("number", [0, 1, 2, 2**52])
def test_any_id_of_an_annotation_is_scored(score, number):
    figures = score(_truth([_object(number)]), [_result()])
    assert figures["AP"] == pytest.approx(1)


def test_three_objects_with_ids_from_0_are_all_found(score):
    boxes = [(10 * k, 10, 9, 9) for k in range(3)]
    truth = _truth([_object(k, box=box) for k, box in enumerate(boxes)])
    counts = Counts()
    figures = score(truth, [_result(box=box) for box in boxes], counts=counts)
    assert figures["AP"] == figures["ARmax100"] == pytest.approx(1)
    assert counts["id_0"] == 2  # By each of the packages.
    (line,) = counts.lines({"id_0": "renumbered"})
    assert "annotations[0] (id=0, image_id=1)" in line


def test_one_id_in_two_images_is_refused(score):
    truth = _truth([_object(1), _object(1, image=2)], images=(1, 2))
    results = [_result(), _result(image=2)]
    with pytest.raises(ValueError, match=r"same id.*jq.*id=1 at .*\[0\]"):
        score(truth, results)
    truth["annotations"][1]["id"] = 2
    assert score(truth, results)["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "1"}, "image_id must be an integer.*Received: .*'1'"),
        ({"image_id": 2}, "its image is not in the file.*image_id=2"),
        ({"category_id": 2}, "its category is not in the file.*id=2"),
        ({"category_id": "1"}, "category_id must be an integer"),
        ({"category_id": True}, "category_id must be an integer"),
        ({"id": "a"}, "id must be an integer"),
        ({"id": None}, "id must be an integer"),
        ({"id": -1}, "id must be an integer"),
        ({"id": 1.5}, "id must be an integer"),
        ({"id": 2**60}, "id must be an integer"),
        ({"id": [1]}, "id must be an integer"),
        ({"bbox": [math.nan] * 4}, "bbox must be .*finite.*NaN"),
        ({"bbox": [10, 10, math.inf, 20]}, "bbox must be .*finite.*Infinity"),
        ({"bbox": [10, 10, 20, 1e7]}, "bbox must be"),
        ({"bbox": [10, 10, -20, 20]}, "bbox must be"),
        ({"bbox": [10, 10, 20]}, "bbox must be"),
        ({"bbox": [10, 10, 20, "20"]}, "bbox must be"),
        ({"bbox": {"x": 10}}, "bbox must be"),
        ({"bbox": None}, "bbox must be"),
        ({"area": math.nan}, "area must be a finite.*NaN"),
        ({"area": -1}, "area must be a finite number from 0"),
        ({"area": 1e11}, "area must be a finite number from 0"),
        ({"area": "400"}, "area must be a finite number"),
        ({"iscrowd": 2}, "iscrowd must be 0"),
        ({"iscrowd": "0"}, "iscrowd must be 0"),
        ({"segmentation": "text"}, "neither polygons nor RLE"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "an invalid polygon"),
    ],
)
def test_annotations_that_mislead_are_refused(score, change, message):
    truth = _truth([_object(1), _object(2) | change])
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        score(truth, [_result()])
    assert "annotations[1]" in str(error.value)
    assert "t.json" in str(error.value)


def test_a_missed_object_counts(score):
    """Of an unknown image it would be left out, and AP be 1."""
    truth = _truth([_object(1), _object(2, image=2)], images=(1, 2))
    assert score(truth, [_result()])["ARmax100"] == pytest.approx(0.5)


def test_text_as_an_images_id_is_refused(score):
    truth = _truth([_object(1)])
    truth["images"][0]["id"] = "1"
    with pytest.raises(ValueError, match=r"images\[0\] \(id='1'\): id must"):
        score(truth, [_result()])


def test_two_categories_of_one_name_are_refused(score):
    truth = _truth([_object(1)])
    truth["categories"].append({"id": 2, "name": "cat"})
    with pytest.raises(ValueError, match=r"categories\[1\] \(id=2\).*same nam"):
        score(truth, [_result()])
    truth["categories"][1]["name"] = "dog"
    figures = score(truth, [_result()])
    assert (figures["AP/cat"], figures["AP/dog"]) == pytest.approx((1, -1))


def test_a_category_of_id_0_is_scored(score):
    """Only training needs 0 for the background."""
    truth = _truth([_object(1, category_id=0)])
    truth["categories"][0]["id"] = 0
    figures = score(truth, [_result(category_id=0)])
    assert figures["AP"] == figures["AP/cat"] == pytest.approx(1)


# Entry 2: results.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [math.nan] * 4}, "bbox must be .*finite.*NaN"),
        ({"score": math.nan}, "score must be a finite.*NaN"),
        ({"score": "0.9"}, "score must be a finite number"),
        ({"score": None}, "score must be a finite number"),
        ({"score": True}, "score must be a finite number"),
        ({"score": [0.9]}, "score must be a finite number"),
        ({"bbox": None}, "bbox must be"),
        ({"bbox": []}, "bbox must be"),
        ({"bbox": [10, 10, 20]}, "bbox must be"),
        ({"bbox": [10, 10, -20, -20]}, "bbox must be"),
        ({"bbox": [10, 10, 1e6, 1e6]}, "bbox must be"),
        ({"image_id": [1]}, "image_id must be an integer"),
        ({"image_id": "1"}, "image_id must be an integer"),
        ({"image_id": None}, "image_id must be an integer"),
        ({"image_id": 3}, "its image or its category is not"),
        ({"category_id": 3}, "its image or its category is not"),
        ({"category_id": {}}, "category_id must be an integer"),
        ({"segmentation": _CODE}, "all results must have boxes, all"),
        ({"segmentation": None}, "must be an RLE"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "must be an RLE"),
    ],
)
def test_results_that_mislead_are_refused(score, change, message):
    # The first is the perfect one: only the gate sees the other.
    results = [_result(), _result(box=(0, 0, 5, 5)) | change]
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        score(_truth([_object(1)]), results)
    assert "results[1]" in str(error.value)
    assert "r.json" in str(error.value)


@pytest.mark.parametrize("key", ["score", "bbox", "image_id", "category_id"])
def test_a_result_that_lacks_something_is_named(score, key):
    result = _result()
    del result[key]
    with pytest.raises(ValueError, match=rf"results\[1\].*{key}"):
        score(_truth([_object(1)]), [_result(box=(0, 0, 5, 5)), result])


def test_words_in_text_are_no_numbers(score):
    truth = _truth([_object(1)])
    truth["categories"][0]["name"] = 'a [NaN, "Infinity", \\ NaN'
    assert score(truth, [_result()])[
        'AP/a [NaN, "Infinity", \\ NaN'
    ] == pytest.approx(1)


@pytest.mark.parametrize("entry", [None, 5, "text", [], [_result()]])
def test_a_result_that_is_no_object_is_named(score, entry):
    with pytest.raises(ValueError, match=r"results\[1\]: an entry must be an"):
        score(_truth([_object(1)]), [_result(), entry])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"annotations": []}', "must be a list"),
        ("5", "must be a list"),
        ("", "premature EOF"),
        ('[{"image_id": 1', "premature EOF.*results.0. .image_id=1"),
        ("[] []", "trailing garbage"),
        ('[{"score": 1, "score": 2}]', "key 'score' twice.*results.0."),
    ],
)
def test_a_file_that_is_no_list_of_results_is_named(score, text, message):
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        score(_truth([_object(1)]), text)
    assert "r.json" in str(error.value)


def test_a_diverged_models_boxes_are_no_perfect_score():
    """Without a file: as an evaluation during training hands them over."""
    truth = ground_truth.GroundTruth(
        *("t", {1: {"id": 1}}, {1: [_object(1)]}, {1: "cat"}, Counts(), None)
    )
    with pytest.raises(ValueError, match=r"results\[0\].*bbox must be"):
        evaluate.score([_result(box=[math.nan] * 4)], truth)


def test_integers_may_be_written_as_fractions(score):
    counts = Counts()
    results = [_result(image=1.0, category_id=1.0)]
    figures = score(_truth([_object(1.0)]), results, counts=counts)
    assert figures["AP"] == pytest.approx(1)
    assert counts["integer"] == 2 * 3


# Entry 3: compressed masks.


def _masked(code):
    result = _result(segmentation={"size": [64, 64], "counts": code})
    del result["bbox"]
    return result


def test_a_whole_mask_is_found(score):
    truth = _truth([_object(1, segmentation=_CODE)])
    runs = masks._uncompress(_CODE["counts"]).tolist()
    for code in (_CODE["counts"], runs):
        assert score(truth, [_masked(code)])["mask_AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (_CODE["counts"][:-2], "truncated"),
        (_CODE["counts"][:-1], "truncated"),
        (_CODE["counts"] + "1", "add up"),
        ("", "one or more"),
        (str(_CODE["counts"].encode()), "not str"),
        (None, "is empty"),
    ],
)
def test_truncated_masks_are_refused_in_both_files(score, code, message):
    """Two characters less and pycocotools would never return."""
    truth = _truth([_object(1, segmentation=_CODE)])
    with pytest.raises(ValueError, match=f"(?s)results.0.*{message}"):
        score(truth, [_masked(code)])
    truth["annotations"][0]["segmentation"] = _masked(code)["segmentation"]
    with pytest.raises(ValueError, match=f"(?s)annotations.0.*{message}"):
        score(truth, [_masked(_CODE["counts"])])


def test_a_mask_of_another_image_is_refused(score):
    small = mask_api.encode(np.asfortranarray(_SQUARE[:32]))
    result = _masked(small["counts"].decode())
    result["segmentation"]["size"] = [32, 64]
    truth = _truth([_object(1, segmentation=_CODE)])
    with pytest.raises(ValueError, match=r"another size.*\[64, 64\]"):
        score(truth, [result])


def test_masks_are_scored_where_all_annotations_have_one(score):
    truth = _truth([_object(1, segmentation=_CODE), _object(2)])
    with pytest.raises(ValueError, match=r"annotations\[1\] .*missing or em"):
        score(truth, [_masked(_CODE["counts"])])
    # Boxes are.
    assert score(truth, [_result()])["ARmax100"] == pytest.approx(0.5)


def test_only_what_is_not_empty_is_a_duplicate(score):
    truth = _truth([_object(1, segmentation=_CODE)])
    empty = masks.encode(np.zeros([64, 64], np.uint8))["counts"]
    for code, twice in ((empty, False), (_CODE["counts"], True)):
        results = [_masked(code)] * 2
        if twice:
            with pytest.raises(ValueError, match=r"results\[1\].*a duplicate"):
                score(truth, results)
        else:
            assert score(truth, results)["mask_AP"] == 0


def test_boxes_that_are_equal_may_have_other_masks(score):
    truth = _truth([_object(1, segmentation=_CODE)])
    pixels = np.zeros([64, 64], np.uint8)
    pixels[3, 4] = 1
    box = _result()["bbox"]
    one, other = (
        _masked(code) | {"bbox": box}
        for code in (_CODE["counts"], masks.encode(pixels)["counts"])
    )
    assert score(truth, [one, other])["mask_AP"] > 0
    with pytest.raises(ValueError, match=r"results\[2\].*a duplicate"):
        score(truth, [one, other, one])


# Entry 12: ground truth that lacks something.


@pytest.mark.parametrize("value", [None, "gone"])
def test_what_everyone_means_is_scored(score, value):
    truth = _truth([_object(1)])
    complete = score(truth, [_result()])
    (one,), (image,) = truth["annotations"], truth["images"]
    for entry, key in (
        *((one, "iscrowd"), (one, "area"), (one, "segmentation")),
        *((image, "height"), (image, "width"), (image, "file_name")),
    ):
        entry[key] = None
        if value == "gone":
            del entry[key]
    assert score(truth, [_result()]) == complete


def test_the_area_of_a_mask_decides_on_its_size(score):
    """20 x 20 pixels in a box of 50 x 50: small, not medium."""
    truth = _truth([_object(1, box=(5, 5, 50, 50), segmentation=_CODE)])
    del truth["annotations"][0]["area"]
    figures = score(truth, [_result(box=(5, 5, 50, 50))])
    assert (figures["APs"], figures["APm"]) == pytest.approx((1, -1))


def test_masks_need_the_size_of_their_image(score):
    truth = _truth([_object(1, segmentation=_CODE)])
    del truth["images"][0]["height"]
    with pytest.raises(ValueError, match="height and width of each"):
        score(truth, [_masked(_CODE["counts"])])


@pytest.mark.parametrize(
    "section, key", [("categories", "name"), ("images", "file_name")]
)
def test_text_that_cannot_be_written_is_named(score, section, key):
    truth = _truth([_object(1)])
    score(truth, [_result()])
    truth[section][0][key] = "half a \udc00"
    with pytest.raises(ValueError, match=rf"half of a surr.*{section}\[0\]"):
        score(truth, [_result()])


def test_text_that_is_no_utf8_is_named(tmp_path):
    text = json.dumps(_truth([_object(1)])).replace("cat", "Stra\u00dfe")
    (tmp_path / "t.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="write the file as UTF-8"):
        ground_truth.load(str(tmp_path / "t.json"))


def test_the_command_reports_and_refuses_without_a_traceback(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([_result()]))
    (tmp_path / "t.json").write_text(json.dumps(_truth([_object(0)])))
    command = [sys.executable, "-m", "detection.evaluate"]
    command += [f"--results={tmp_path}/r.json"]
    command += [f"--annotations={tmp_path}/t.json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0
    assert "1 annotations have the id 0: they are" in run.stdout
    assert "AP/cat" in run.stdout
    (tmp_path / "r.json").write_text(json.dumps([_result(box=[1])]))
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "ERROR:" in run.stderr and "results[0]" in run.stderr
    assert "Traceback" not in run.stderr
