"""Run lengths are added up before pycocotools sees them."""

import numpy as np
import pytest
from pycocotools import mask as mask_api

from detection import masks


def _mask(rng):
    shape = rng.integers(1, 40, 2)
    mask = (rng.random(shape) < rng.choice([0, 0.02, 0.5, 1])).astype(np.uint8)
    return np.kron(mask, np.ones(rng.integers(1, 9, 2), np.uint8))


def _runs(mask):
    """Run lengths, column by column and zeros first, in plain Python."""
    runs, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def test_run_lengths_are_read_as_pycocotools_reads_them():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = _mask(rng)
        code = mask_api.encode(np.asfortranarray(mask))
        assert masks._uncompress(code["counts"]).tolist() == _runs(mask)
        size, text = list(mask.shape), code["counts"].decode()
        for counts in (code["counts"], text, _runs(mask)):
            found = masks.check_rle({"size": size, "counts": counts})
            assert found == {"size": size, "counts": text}
            np.testing.assert_array_equal(masks.decode(found), mask)
        assert masks.area(found) == mask.sum()


def test_large_masks_are_read():
    """Run lengths of up to six characters each."""
    size = [20_000, 26_000]
    runs = [600_005, 1, 519_399_992, 2]
    code = mask_api.frPyObjects({"size": size, "counts": runs}, *size)
    assert masks._uncompress(code["counts"]).tolist() == runs
    found = {"size": size, "counts": code["counts"].decode()}
    assert masks.check_rle(found) == found


def test_runs_without_a_length_are_joined():
    """pycocotools stops where two masks have one at the same place."""
    plain = [4, 6, 10]
    split = [4, 3, 0, 3, 10, 0]
    codes = [
        masks.check_rle({"size": [4, 5], "counts": runs})
        for runs in (plain, split)
    ]
    assert codes[0] == codes[1]
    raw = mask_api.frPyObjects({"size": [4, 5], "counts": split}, 4, 5)
    # What it would have been: half of the mask.
    assert mask_api.iou([raw], [raw], [0])[0, 0] == 1
    assert mask_api.iou(codes[:1], codes[1:], [0])[0, 0] == 1
    compressed = raw["counts"].decode()
    assert masks.check_rle({"size": [4, 5], "counts": compressed}) == codes[0]


_FULL = mask_api.encode(np.asfortranarray(np.eye(9, dtype=np.uint8)))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (_FULL["counts"][:-1].decode(), "truncated|add up"),
        (_FULL["counts"][:-2].decode(), "add up"),
        (_FULL["counts"].decode() + "1", "add up"),
        (_FULL["counts"].decode() * 2, "add up"),
        (str(_FULL["counts"]), r"counts\.decode\(\)"),
        ("", "one or more"),
        (" ", "the characters"),
        ("q", "the characters"),
        ("\u00fc", "the characters"),
        ("P", "truncated"),
        ("PPPPPPPP0", "truncated"),
        ("O", "add up"),
        ([81], None),
        ([80], "add up"),
        ([0, 81, 1], "add up"),
        ([-1, 82], "integers from 0"),
        ([81.0], None),
        ([80.5, 0.5], "integers from 0"),
        ([float("nan"), 81], "integers from 0"),
        ([True, 80], "integers from 0"),
        (["81"], "integers from 0"),
        ([2**64, 81], "integers from 0"),
        ([[81]], "integers from 0"),
        ([], "is empty"),
        (None, "is empty"),
        (81, "is empty"),
    ],
)
def test_counts_that_are_not_of_the_size_are_refused(counts, message):
    code = {"size": [9, 9], "counts": counts}
    if message is None:
        assert masks.area(masks.rle(code, 9, 9)) == 0
        return
    with pytest.raises(ValueError, match=message):
        masks.rle(code, 9, 9)


@pytest.mark.parametrize(
    "size",
    [
        *(None, [], [9], [9, 9, 9], "99", [9, None], ["9", 9], [9.5, 9]),
        *([0, 9], [-9, -9], [float("nan"), 9], [float("inf"), 9]),
        *([2**20, 2**20], [True, 9], {"0": 9}),
    ],
)
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match=r"must be \[height, width\]"):
        masks.check_rle({"size": size, "counts": [81]})


def test_a_size_may_be_written_as_fractions():
    code = masks.rle({"size": [9.0, 9], "counts": [81]}, 9, 9)
    assert code["size"] == [9, 9]
    with pytest.raises(ValueError, match=r"\[3, 27\]"):
        masks.rle({"size": [9, 9], "counts": [81]}, 3, 27)


@pytest.mark.parametrize(
    "polygons",
    [
        *([], None, 5, "text", [[]], [5], [1, 2, 3, 4, 5, 6]),
        *([[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, "6"]]),
        *([[1, 2, 3, 4, 5, None]], [[1, 2, 3, 4, 5, float("nan")]]),
        *([[1, 2, 3, 4, 5, 1e9]], [[1, 2, 3, 4, 5, True]]),
        *([[[1, 2], [3, 4], [5, 6]]], [[-1e5, -1e5, 1e5, 1e5] * 20]),
    ],
)
def test_polygons_that_are_none_are_refused(polygons):
    with pytest.raises(ValueError, match=r"^its segmentation"):
        masks.rle(polygons, 9, 9)
