"""COCO's figures: perfect results, bad results, part of the images."""

import copy
import json

import numpy as np
import pytest
from pycocotools import coco, cocoeval

from detection import datasets, evaluate, ground_truth, scenes
from detection.masks import encode
from detection.results import Collector

_FILES = scenes.Scenes(train=1, validation=6)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """Path of the annotations of six scenes."""
    made = scenes.ensure(_FILES, str(tmp_path_factory.mktemp("scenes")))
    return f"{made}/validation.json"


def _perfect(annotations):
    """Every annotation as a result; scores that do not tie."""
    truth = ground_truth.load(annotations)
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "segmentation": a["segmentation"],
            "score": 0.5 + 0.001 * a["id"],
        }
        for a in truth.annotations()
    ]


def _score_file(results, annotations, tmp_path, missing="error", **settings):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    return evaluate.score_file(str(path), annotations, missing, **settings)


def _worse(results):
    """Shifted boxes and masks, some labels wrong, some results gone."""
    rng = np.random.default_rng(0)
    worse = copy.deepcopy(results)[:-2]
    for entry in worse:
        entry["score"] = float(rng.uniform(0.1, 1))
        shift = int(rng.integers(0, 6))
        entry["bbox"][0] += shift
        mask = coco.maskUtils.decode(entry["segmentation"])
        entry["segmentation"] = encode(np.roll(mask, shift, axis=1))
    worse[0]["category_id"] = worse[0]["category_id"] % 10 + 1
    return worse


def test_perfect_results_score_one(annotations, tmp_path):
    figures = _score_file(_perfect(annotations), annotations, tmp_path)
    names = {f"{p}{n}" for p in ("", "mask_") for n in evaluate.FIGURES}
    assert names <= set(figures)
    for prefix in ("", "mask_"):
        assert figures[f"{prefix}AP"] == pytest.approx(1)
        assert figures[f"{prefix}AP75"] == pytest.approx(1)
        assert figures[f"{prefix}ARmax100"] == pytest.approx(1)


def test_categories_average_to_the_whole(annotations, tmp_path):
    results = _worse(_perfect(annotations))
    figures = _score_file(results, annotations, tmp_path, missing="empty")
    for prefix in ("", "mask_"):
        each = [v for k, v in figures.items() if k.startswith(f"{prefix}AP/")]
        present = [value for value in each if value >= 0]
        assert len(each) == 10
        assert np.mean(present) == pytest.approx(figures[f"{prefix}AP"])


def test_a_duplicate_is_an_error(annotations, tmp_path):
    results = _perfect(annotations)
    with pytest.raises(ValueError, match="twice"):
        _score_file([*results, results[3]], annotations, tmp_path)


def test_an_unknown_image_or_category_is_an_error(annotations, tmp_path):
    for change in ({"image_id": 99}, {"category_id": 99}):
        results = _perfect(annotations)
        results[0] |= change
        with pytest.raises(ValueError, match=f"{next(iter(change))}=99"):
            _score_file(results, annotations, tmp_path)


def test_a_missing_image_is_an_error_until_said_what_it_is(
    annotations, tmp_path
):
    results = [r for r in _perfect(annotations) if r["image_id"] != 2]
    with pytest.raises(ValueError, match=r"1 of 6 images .* id 2"):
        _score_file(results, annotations, tmp_path)
    empty = _score_file(results, annotations, tmp_path, missing="empty")
    assert 0 < empty["AP"] < 1
    part = _score_file(results, annotations, tmp_path, missing="skip")
    assert all(name.startswith("partial_") for name in part)
    assert part["partial_AP"] == pytest.approx(1)
    assert "PARTIAL" in evaluate.table(part)
    assert "PARTIAL" not in evaluate.table(empty)


def test_nothing_found_scores_zero(annotations, tmp_path):
    figures = _score_file([], annotations, tmp_path, missing="empty")
    assert figures["AP"] == figures["mask_AP"] == 0


@pytest.mark.parametrize("backend", evaluate.BACKENDS)
def test_no_image_to_score_is_an_error(backend, annotations, tmp_path):
    with pytest.raises(ValueError, match="no image to score") as raised:
        _score_file([], annotations, tmp_path, missing="skip", backend=backend)
    assert annotations in str(raised.value)
    with pytest.raises(ValueError, match="no image to score"):
        Collector(annotations, None, False).result()


def test_files_that_are_not_there_are_named(annotations, tmp_path):
    with pytest.raises(ValueError, match=r"no such file.*nowhere"):
        evaluate.score_file("nowhere.json", annotations, "error")
    with pytest.raises(ValueError, match=r"no such file.*nowhere"):
        evaluate.score_file("nowhere.json", "nowhere.json", "error")


def _predictions(ids, count=1):
    """What a model returns, two replicas' worth: boxes twice too large."""

    def halves(array):
        return tuple(np.array_split(array, 2))

    size = len(ids)
    info = [[128, 128], [256, 256], [2, 2], [0, 0]]
    return {
        "source_id": halves(np.array(ids)),
        "image_info": halves(np.array([info] * size, np.float32)),
        "num_detections": halves(np.full([size], count)),
        "detection_boxes": halves(
            np.tile(np.float32([20, 40, 100, 80]), (size, 3, 1))
        ),
        "detection_scores": halves(np.full([size, 3], 0.75, np.float32)),
        "detection_classes": halves(np.full([size, 3], 4)),
        "detection_masks": halves(np.ones([size, 3, 28, 28], np.float32)),
    }


def test_detections_become_results_in_pixels_of_the_image(annotations):
    collector = Collector(annotations, None, per_category=False)
    collector.update_state(None, _predictions([1, 2]))
    # One detection an image: the two that pad it are no detections.
    # Nor is anything in an image that fills a batch up.
    collector.update_state(None, _predictions([3, datasets.PADDING]))
    first, second, third = collector.results
    assert third["image_id"] == 3
    assert second == first | {"image_id": 2}
    assert first["bbox"] == [20.0, 10.0, 20.0, 40.0]
    assert (first["category_id"], first["score"]) == (4, 0.75)
    mask = coco.maskUtils.decode(first["segmentation"])
    assert mask.shape == (128, 128)
    # The Model Garden's pasting rounds outwards, by a pixel at most.
    assert 20 * 40 <= mask.sum() <= 21 * 41 + 41


def test_an_image_evaluated_twice_or_unknown_is_an_error(annotations):
    collector = Collector(annotations, None, per_category=False)
    collector.update_state(None, _predictions([1, 2]))
    with pytest.raises(ValueError, match=r"twice.*source_id=2"):
        collector.update_state(None, _predictions([3, 2]))
    with pytest.raises(ValueError, match=r"not annotated.*source_id=77"):
        collector.update_state(None, _predictions([77, 4]))


def test_detections_of_classes_without_a_category_are_ignored(annotations):
    """COCO's ids have gaps: a class may be found that nothing is of."""
    collector = Collector(annotations, None, per_category=False)
    found = _predictions([1, 2])
    for part in found["detection_classes"]:
        part[:] = 11
    collector.update_state(None, found)
    assert collector.results == []
    assert collector.result()["partial_AP"] == 0


def test_a_diverged_model_is_an_error(annotations):
    collector = Collector(annotations, None, per_category=False)
    found = _predictions([1, 2])
    for part in found["detection_boxes"]:
        part[:] = np.nan
    collector.update_state(None, found)
    with pytest.raises(ValueError, match=r"diverged.*\n.*results\[0\].*bbox"):
        collector.result()


def test_part_of_an_evaluation_is_labelled_and_the_whole_is_not(
    annotations, tmp_path
):
    path = str(tmp_path / "results.json")
    collector = Collector(annotations, path, per_category=True)
    collector.update_state(None, _predictions([1, 2, 3]))
    assert all(n.startswith("partial_") for n in collector.result())
    collector.reset_states()
    collector.update_state(None, _predictions([1, 2, 3, 4, 5]))
    # Nothing found in the sixth, which is not the same as not seen.
    collector.update_state(None, _predictions([6], count=0))
    figures = collector.result()
    assert not any(n.startswith("partial_") for n in figures)
    assert evaluate.score_file(path, annotations, "empty") == figures


def _plain(annotations, path, kind):
    """The figures of a file, as someone with pycocotools alone has them."""
    truth = coco.COCO(annotations)
    run = cocoeval.COCOeval(truth, truth.loadRes(path), kind)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return dict(zip(evaluate.FIGURES, run.stats.tolist(), strict=True))


def test_the_written_files_give_the_printed_figures(annotations, tmp_path):
    """All 24 to the last digit, by pycocotools alone."""
    path = str(tmp_path / "results.json")
    collector = Collector(annotations, path, per_category=False)
    collector.update_state(None, _predictions([1, 2, 3, 4, 5, 6], count=0))
    collector.results = _worse(_perfect(annotations))
    figures = collector.result()
    assert len(figures) == 24
    boxes = _plain(annotations, path, "bbox")
    masks = _plain(annotations, str(tmp_path / "results_masks.json"), "segm")
    printed = boxes | {f"mask_{name}": v for name, v in masks.items()}
    assert figures == printed
    assert 0.05 < boxes["AP"] < 0.95 and 0.05 < masks["AP"] < 0.95
    # In a file of boxes and masks, wrong detections count in the sizes of
    # their boxes.
    other = _plain(annotations, path, "segm")
    different = {name for name in masks if masks[name] != other[name]}
    assert different and different <= {"APs", "APm", "APl"}
    # Ours look at no boxes, whichever file it is.
    for file in (path, str(tmp_path / "results_masks.json")):
        scored = evaluate.score_file(file, annotations, "empty")
        assert all(scored[f"mask_{name}"] == masks[name] for name in masks)


def test_figures_on_cocos_own_annotations_are_pycocotools(data_dir, tmp_path):
    """Polygons, crowds and gaps between ids, as COCO writes them."""
    path = str(data_dir / "coco_mini/annotations/instances_val2017.json")
    truth, rng = coco.COCO(path), np.random.default_rng(0)
    results = []
    for number, one in truth.anns.items():
        mask = np.roll(truth.annToMask(one), rng.integers(0, 9), axis=1)
        result = {key: one[key] for key in ("image_id", "category_id")}
        result |= {"score": number % 97 / 97, "segmentation": encode(mask)}
        results += [result] * int(rng.random() < 0.8)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    figures = evaluate.score_file(str(file), path, "empty")
    for name, value in _plain(path, str(file), "segm").items():
        assert figures[f"mask_{name}"] == value
    assert 0.3 < figures["mask_AP"] < 0.9


def test_a_model_without_masks_has_no_figure_of_them(annotations, tmp_path):
    path = tmp_path / "results.json"
    found = []
    for masks in (False, True):
        collector = Collector(annotations, str(path), False, masks)
        collector.update_state(None, _predictions([1, 2, 3, 4, 5, 6], 0))
        found.append(collector.result())
        assert (tmp_path / "results_masks.json").exists() == masks
    assert set(found[0]) == set(evaluate.FIGURES)
    assert found[1] == found[0] | {f"mask_{k}": v for k, v in found[0].items()}


def test_the_faster_package_gives_the_same_figures(annotations):
    pytest.importorskip("faster_coco_eval")
    truth = ground_truth.load(annotations)
    for results in (_worse(_perfect(annotations)), []):
        for images in (None, [1, 2, 4]):
            ours, faster = (
                evaluate.score(results, truth, images, True, backend)
                for backend in evaluate.BACKENDS
            )
            assert ours.keys() == faster.keys()
            for name, value in ours.items():
                # pycocotools adds 2e-16 to each precision's denominator.
                assert faster[name] == pytest.approx(value, abs=1e-15)
    with pytest.raises(ValueError, match=r"must be one of.*fastest"):
        evaluate.score([], truth, backend="fastest")


def test_a_backend_that_is_not_installed_is_said(annotations, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    truth = ground_truth.load(annotations)
    with pytest.raises(ValueError, match="pip install faster-coco-eval"):
        evaluate.score([], truth, backend="faster_coco_eval")


def test_per_category_does_something(annotations):
    """The Model Garden's switch of this name does nothing."""
    figures = {}
    for switch in (True, False):
        collector = Collector(annotations, None, per_category=switch)
        collector.update_state(None, _predictions([1, 2, 3, 4, 5, 6]))
        figures[switch] = collector.result()
    extra = figures[True].keys() - figures[False].keys()
    assert extra == {f"{p}AP/{d}" for p in ("", "mask_") for d in range(10)}


def test_partial_figures_keep_their_categories(annotations, tmp_path):
    results = [r for r in _perfect(annotations) if r["image_id"] != 2]
    part = _score_file(results, annotations, tmp_path, missing="skip")
    assert "AP/3" in evaluate.table(part)
