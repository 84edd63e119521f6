"""Whatever a COCO file holds: right figures, or an error of ours.

Valid files are changed at random, entries and bytes alike. What the gate lets
through must be scored alike by both packages and by the definition; all else
must be an error that names the file.
"""

import copy
import json
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from detection import evaluate, ground_truth, instances, masks
from tests.detection import coco_reference
from training.images.folders import Counts

# The shapes of each image's objects, of which results are moved a little.
_SIZES = {3: (24, 40), 8: (100, 120)}


def _blob(image, top, left, height, width):
    mask = np.zeros(_SIZES[image], np.uint8)
    mask[top : top + height, left : left + width] = 1
    mask[top : top + height // 2, left] = 0
    return mask


_BLOBS = [
    *((3, 1, _blob(3, 2, 3, 9, 12)), (3, 1, _blob(3, 10, 20, 12, 15))),
    *((3, 7, _blob(3, 1, 22, 8, 9)), (8, 7, _blob(8, 5, 5, 50, 60))),
    *((8, 1, _blob(8, 0, 0, 100, 110)), (8, 1, _blob(8, 60, 80, 30, 30))),
]


def _box(mask):
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def _truth():
    annotations = []
    for number, (image, category, mask) in enumerate(_BLOBS, start=1):
        code = masks.encode(mask)
        if number == 2:
            runs = masks._uncompress(code["counts"]).tolist()
            code = {"size": list(mask.shape), "counts": runs}
        if number == 3:
            x, y, width, height = _box(mask)
            code = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        one = {"id": number, "image_id": image, "category_id": category}
        one |= {"bbox": _box(mask), "area": int(mask.sum())}
        one |= {"iscrowd": int(number == 5), "segmentation": code}
        annotations.append(one)
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w) in _SIZES.items()
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "one"}, {"id": 7, "name": "seven"}],
    }


def _results():
    results = []
    for number, (image, category, mask) in enumerate(_BLOBS):
        mask = np.roll(mask, number % 3, axis=1)
        box = [float(value) for value in _box(mask)]
        one = {"image_id": image, "category_id": category, "bbox": box}
        one |= {"score": 0.9 - number / 8, "segmentation": masks.encode(mask)}
        results.append(one)
    return results


_VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, 1.0, 3, 3.0, 7, 8, -1, 0.5, -0.0, 2.5),
        *(2**31, 2**53, 2**63, 2**64, 1e5, 1e10, 1e300, -1e300),
        *(float("nan"), float("inf"), -float("inf")),
        *("", "1", "text", "\x00", "\u00fc", "b'0'", "NaN", "P", "0"),
        *("half a \ud83d", "half a \udc00"),
        *([], {}, [0], [[]], [1, 2, 3, 4], {"size": [24, 40], "counts": []}),
        [[5, 5, 9, 5, 9, 9]],
        {"size": [24, 40], "counts": [960]},
        {"size": [24, 40], "counts": [100, 5, 0, 5, 850, 0]},
    ]
)


_CHANGES = ["replace", "remove", "number", "again", "other"]
_GENTLE = ["box", "integers", "remove", "order", "category", "another", "field"]


def _places(tree, prefix=()):
    """Paths of all values below."""
    inside = []
    if isinstance(tree, dict):
        inside = list(tree.items())
    elif isinstance(tree, list):
        inside = list(enumerate(tree))
    for key, value in inside:
        yield (*prefix, key)
        yield from _places(value, (*prefix, key))


def _at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def _changed_tree(draw, tree):
    """The tree with one value removed, replaced, moved or there twice."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return tree
    *way, key = draw(st.sampled_from(places))
    parent = _at(tree, way)
    what = draw(
        st.sampled_from(["replace", "remove", "number", "again", "other"])
    )
    if what == "remove":
        del parent[key]
    elif what == "number" and type(parent[key]) in (int, float):
        times = draw(st.sampled_from([-1, 0, 0.5, 1.0, 1.01, 2, 1e3, 1e9]))
        parent[key] = parent[key] * times + draw(st.sampled_from([0, 0.25, 1]))
    elif what == "again" and isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent))), parent[key])
    elif what == "other":
        parent[key] = copy.deepcopy(_at(tree, draw(st.sampled_from(places))))
    else:
        parent[key] = draw(_VALUES)
    return tree


@st.composite
def _changed_values(draw, tree):
    """The tree with a change after which it is as valid as before."""
    tree = copy.deepcopy(tree)
    entries = tree if isinstance(tree, list) else tree["annotations"]
    one = draw(st.sampled_from(entries))
    what = draw(st.sampled_from(_GENTLE))
    if what == "box":
        at, by = draw(st.integers(0, 3)), draw(st.floats(-9, 9))
        one["bbox"][at] = max(0 if at > 1 else -99, one["bbox"][at] + by)
    elif what == "integers":
        keys = [key for key in one if type(one[key]) is int]
        one |= {key: float(one[key]) for key in keys}
    elif what == "remove":
        for key in draw(st.sampled_from([["area"], ["iscrowd", "area"]])):
            one.pop(key, None)
    elif what == "order":
        entries.insert(0, entries.pop(draw(st.integers(0, len(entries) - 1))))
    elif what == "category":
        one["category_id"] = draw(st.sampled_from([1, 7]))
    elif what == "another":
        other = copy.deepcopy(one)
        if "score" in other:
            other["score"] = draw(st.sampled_from([0, 0.4, 0.9, 2, -1]))
        if "id" in other:
            other["id"] = draw(st.sampled_from([0, 77, 2**52]))
        entries.append(other)
    else:
        key = draw(st.sampled_from(["ignore", "_ignore", "drop", "rle", "x"]))
        one[key] = draw(st.sampled_from([0, 1, None, "1", {}]))
        fields = {"area": [0, 50, 5000, 1e10], "iscrowd": [0, 1, True, None]}
        if "score" not in one:
            key = draw(st.sampled_from(list(fields)))
            one[key] = draw(st.sampled_from(fields[key]))
    return tree


@st.composite
def _changed_text(draw, text):
    """The bytes with a few of them changed, lost, repeated or cut off."""
    at = draw(st.integers(0, len(text)))
    long = draw(st.integers(0, 20))
    what = draw(st.sampled_from(["byte", "lose", "again", "cut", "digit"]))
    if what == "cut":
        return text[:at]
    if what == "lose":
        return text[:at] + text[at + long :]
    if what == "again":
        return text[:at] + text[at : at + long] + text[at:]
    new = bytes([draw(st.integers(0, 255))])
    if what == "digit":
        new = draw(st.sampled_from([b"0", b"9", b"-", b".", b"e5", b",", b'"']))
    return text[:at] + new + text[at + draw(st.integers(0, 1)) :]


@st.composite
def _changed_file(draw, tree):
    """The bytes of a file that is like a valid one."""
    for _ in range(draw(st.integers(0, 4))):
        tree = draw(_changed_values(tree))
    what = draw(st.sampled_from(["values", "tree", "text"]))
    if what == "tree":
        tree = draw(_changed_tree(tree))
    text = json.dumps(tree).encode()
    return draw(_changed_text(text)) if what == "text" else text


def _fuzz(drawn):
    """Runs a test on 50 draws, and as a slow one on 20,000."""

    def decorate(test):
        @pytest.mark.parametrize(
            "count", [50, pytest.param(20_000, marks=pytest.mark.slow)]
        )
        def run(count, tmp_path):
            @hypothesis.settings(
                max_examples=count,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(drawn)
            def one(value):
                test(tmp_path, value)

            one()

        return run

    return decorate


def _score(folder, truth, results):
    """Figures of two files' bytes by both packages; None of a refusal.

    Any other error goes through.
    """
    paths = []
    for name, text in (("results", results), ("truth", truth)):
        paths.append(str(folder / f"{name}.json"))
        (folder / f"{name}.json").write_bytes(text)
    started, found = time.monotonic(), []
    for backend in evaluate.BACKENDS:
        try:
            found.append(evaluate.score_file(*paths, "empty", backend))
        except ValueError as error:
            assert str(folder) in str(error)
            found.append(None)
    assert time.monotonic() - started < 20
    if None in found:
        assert found == [None, None]
        return None
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    return found[0]


def _parsed(text):
    """By Python's own parser.

    yajl also takes \\v and \\f for white space, and does not notice a string
    that begins after the end and never ends: neither hides anything.
    """
    text = text.translate(bytes.maketrans(b"\v\f", b"  ")).decode().lstrip()
    return json.JSONDecoder().raw_decode(text)[0]


def _check_figures(figures, truth, results):
    """That figures are those of the definition."""
    truth, results = _parsed(truth), _parsed(results)
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        if f"{prefix}AP" not in figures:
            continue
        found = [figures[prefix + name] for name in evaluate.FIGURES]
        expected = coco_reference.figures(truth, results, kind)
        assert found == pytest.approx(expected, abs=1e-12), kind


def _check_training(path, text):
    """That what is trained on is what the file says."""
    for skip in (True, False):
        try:
            reader = ground_truth.Reader(path, True, skip)
        except ValueError as error:
            assert path in str(error)
            continue
        content = {} if skip else _parsed(text)
        kept = {one["id"]: one for one in content.get("annotations", ())}
        with reader:
            for image, annotations in reader:
                found = instances.read(image, annotations, True, Counts())
                size = image["height"], image["width"]
                assert len(found) <= len(annotations)
                for one in found:
                    assert masks.decode(one.mask).shape == size
                if skip or len(found) < len(annotations):
                    continue
                for one, read in zip(found, annotations):
                    written = kept[read["id"]]
                    expected = coco_reference.mask(
                        written["segmentation"], [int(side) for side in size]
                    )
                    assert np.array_equal(masks.decode(one.mask), expected)
                    assert one.label == written["category_id"]
                    assert one.crowd == bool(written.get("iscrowd"))
                    assert one.area == coco_reference.area(written, size)


@_fuzz(_changed_file(_truth()))
def test_ground_truth(folder, text):
    results = json.dumps(_results()).encode()
    figures = _score(folder, text, results)
    if figures is not None:
        _check_figures(figures, text, results)
    _check_training(str(folder / "truth.json"), text)


@_fuzz(_changed_file(_results()))
def test_results(folder, text):
    truth = json.dumps(_truth()).encode()
    figures = _score(folder, truth, text)
    if figures is not None:
        _check_figures(figures, truth, text)


@st.composite
def _changed_rle(draw):
    """Size and counts of a mask, as a list or compressed, a little changed."""
    size = [draw(st.integers(1, 9)), draw(st.integers(1, 9))]
    pixels = draw(st.lists(st.booleans(), min_size=81, max_size=81))
    mask = np.array(pixels[: size[0] * size[1]], np.uint8).reshape(size)
    if draw(st.booleans()):
        mask = np.kron(mask, np.ones([draw(st.integers(1, 300)), 7], np.uint8))
    code = masks.encode(mask)
    runs = masks._uncompress(code["counts"]).tolist()
    kind = draw(st.sampled_from(["text", "bytes", "list", "tree"]))
    if kind == "tree":
        return draw(_changed_tree(code | {"counts": runs}))
    if kind == "list":
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(runs) - 1))
            left = draw(st.integers(-1, runs[at] + 1))
            runs[at : at + 1] = [left, 0, runs[at] - left]
        return code | {"counts": runs}
    text = code["counts"].encode()
    for _ in range(draw(st.integers(0, 2))):
        text = draw(_changed_text(text))
    if kind == "text":
        text = text.decode("latin-1")
    return code | {"counts": text}


@_fuzz(_changed_rle())
def test_run_lengths(_, code):
    try:
        found = masks.check_rle(code)
    except ValueError:
        return
    if isinstance(code["counts"], bytes):
        code = code | {"counts": code["counts"].decode()}
    size = [int(side) for side in code["size"]]
    expected = coco_reference.mask(code, size)
    assert np.array_equal(masks.decode(found), expected)
    assert masks.area(found) == expected.sum()
    # Whole runs: what pycocotools counts of a mask with itself is all of it.
    overlap = mask_api.iou([found], [masks.encode(expected)], [0])[0, 0]
    assert overlap == (1 if expected.any() else 0)


def test_the_reference_agrees_on_a_valid_file(tmp_path):
    truth, results = (json.dumps(t()).encode() for t in (_truth, _results))
    figures = _score(tmp_path, truth, results)
    assert 0 < figures["AP"] < 1 and 0 < figures["mask_AP"] < 1
    _check_figures(figures, truth, results)
    _check_training(str(tmp_path / "truth.json"), truth)
