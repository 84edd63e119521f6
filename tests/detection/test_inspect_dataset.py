"""Every fault of a data set is found before training."""

import gzip
import io
import json
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from detection import (
    convert,
    ground_truth,
    inspect_dataset,
)
from tests.detection import coco_files
from tests.training.images import pictures
from training import commands, progress
from training.images import records as counting


def _examine(folder, changed=None, num_classes=91):
    path, images = coco_files.write(folder, changed)
    with ground_truth.Reader(path, True, True) as found:
        return inspect_dataset.examine(found, images, num_classes, limit=0)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of the small files; returns their pattern."""
    folder = tmp_path_factory.mktemp("records")
    path, images = coco_files.write(folder)
    job = convert.Conversion(path, images, str(folder / "out"), shards=2)
    convert.convert(job, progress.Display("t", io.StringIO()))
    return f"{folder}/out/*.tfrecord"


def _compare(folder, records, changed=None):
    path, _ = coco_files.write(folder, changed)
    with ground_truth.Reader(path, True, True) as found:
        return inspect_dataset.compare(found, records, limit=0)


def test_a_good_set_has_no_problem(tmp_path, records):
    report, drawn = _examine(tmp_path)
    assert not report.problems and not report.advice
    assert "2 categories with ids 1 to 90, 88 ids" in report.text()
    assert "num_classes=91" in report.text()
    assert "3 objects of 2 categories, 1 of them crowds" in report.text()
    assert [pixels.shape for pixels, _ in drawn] == [(40, 50, 3), (32, 64, 3)]
    report, drawn = _compare(tmp_path, records)
    assert not report.problems
    assert "3 records in 2 files" in report.text()
    assert [len(entries) for _, entries in drawn] == [2, 1]
    bbox = drawn[0][1][0]["bbox"]
    np.testing.assert_allclose(bbox, [5, 7, 5, 4], atol=1e-4)


def test_boxes_alone_are_no_problem(tmp_path):
    changed = coco_files.content()
    for one in changed["annotations"]:
        one["segmentation"] = []
    # One that is left out has none either.
    changed["annotations"].append(one | {"id": 4, "image_id": 9})
    report, _ = _examine(tmp_path, changed)
    assert "No annotation has a mask: convert with --no_masks" in report.text()
    assert len(report.problems) == 1
    assert "its image is not in the file" in report.problems[0]


def test_records_without_the_objects_that_have_no_mask_are_no_problem(
    tmp_path,
):
    changed = coco_files.content()
    # The only object of its image.
    del changed["annotations"][1]["segmentation"]
    path, images = coco_files.write(tmp_path, changed)
    job = convert.Conversion(
        path, images, str(tmp_path / "out"), 1, skip_invalid=True
    )
    convert.convert(job, progress.Display("t", io.StringIO()))
    report, _ = _compare(tmp_path, f"{tmp_path}/out/*.tfrecord", changed)
    assert not report.problems


def test_80_classes_for_91_ids_are_a_problem(tmp_path):
    report, _ = _examine(tmp_path, num_classes=81)
    assert "must be 91 or more" in report.problems[0]
    report, _ = _examine(tmp_path, num_classes=100)
    assert not report.problems
    assert "91 would do" in report.advice[0]


@pytest.mark.parametrize(
    ("section", "number", "change", "message"),
    [
        ("images", 0, {"width": 49}, "50x40, annotated 49x40"),
        ("images", 2, {"file_name": "x.png"}, "cannot be read"),
        ("annotations", 0, {"segmentation": []}, "1 annotations have no mask"),
        ("annotations", 0, {"bbox": None}, "1 annotations are invalid"),
        ("images", 2, {"file_name": None}, "1 images are invalid"),
        (
            "images",
            2,
            {"file_name": "b.png", "height": 40, "width": 50},
            "1 images have the file name of another (the first: image id=5",
        ),
        ("annotations", 1, {"bbox": [2, 3, 0, 1]}, "1 boxes have no area"),
        ("annotations", 1, {"bbox": [40, 20, 9, 9]}, "less than half"),
        ("annotations", 1, {"bbox": [-9, 3, 21, 6]}, "further outside"),
        (
            "annotations",
            1,
            {"segmentation": [[2, 3, 2.1, 3, 2.1, 3.1]]},
            "too thin",
        ),
    ],
)
def test_faults_are_found(section, number, change, message, tmp_path):
    changed = coco_files.content()
    changed[section][number] |= change
    report, _ = _examine(tmp_path, changed)
    assert message in report.text()
    assert report.problems or report.advice


def test_an_image_that_does_not_decode_is_a_problem(tmp_path):
    path, images = coco_files.write(tmp_path)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with ground_truth.Reader(path, True, True) as found:
        report, _ = inspect_dataset.examine(found, images, 0, limit=0)
    assert len(report.problems) == 1


@pytest.mark.parametrize(
    ("section", "number", "change", "message"),
    [
        ("annotations", 1, {"bbox": [2, 3, 10, 7]}, "other boxes"),
        ("annotations", 1, {"category_id": 90}, "other categories"),
        (
            "annotations",
            1,
            {"segmentation": [[2, 3, 12, 3, 12, 9]]},
            "other masks",
        ),
        ("images", 2, {"id": 6}, "no annotated image"),
    ],
)
def test_stale_records_are_a_problem(
    section, number, change, message, tmp_path, records
):
    changed = coco_files.content()
    changed[section][number] |= change
    report, _ = _compare(tmp_path, records, changed)
    assert message in report.problems[0]
    assert "convert anew" in report.problems[0]


def test_missing_and_double_records_are_problems(tmp_path, records):
    first = sorted(tf.io.gfile.glob(records))[0]
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for _ in range(2):
            for record in tf.data.TFRecordDataset(first):
                writer.write(record.numpy())
    report, _ = _compare(tmp_path, str(tmp_path / "*.tfrecord"))
    assert "2 records are there twice" in report.problems[0]
    assert "1 annotated images have no record" in report.problems[1]
    report, _ = _compare(tmp_path, str(tmp_path / "none*"))
    assert "no such records" in report.problems[0]


def test_the_command_draws_and_says_whether_it_is_well(tmp_path, capsys):
    path, images = coco_files.write(tmp_path)
    picture = str(tmp_path / "new" / "look.png")
    given = [f"--annotations={path}", f"--images={images}"]
    assert inspect_dataset.main([*given, f"--picture={picture}"]) == 0
    assert cv2.imread(picture).shape[2] == 3
    assert inspect_dataset.main([*given, "--num_classes=3"]) == 1
    assert "PROBLEM: model.num_classes" in capsys.readouterr().out
    for flag in ("--num_classes=3", f"--images={images}"):
        with pytest.raises(SystemExit):
            inspect_dataset.main(["--records=none*", flag])
        assert "need --annotations" in capsys.readouterr().err


def test_a_limit_below_0_is_refused(capsys):
    with pytest.raises(SystemExit):
        inspect_dataset.main(["--records=x", "--limit=-1"])
    assert "0 for all. Received: '-1'" in capsys.readouterr().err


def test_records_that_training_would_stop_at_are_named(tmp_path, records):
    first, second = sorted(tf.io.gfile.glob(records))
    found = [x.numpy() for x in tf.data.TFRecordDataset([first, second])]
    example = tf.train.Example.FromString(found[0])
    image = example.features.feature["image/encoded"].bytes_list
    image.value[0] = image.value[0][:-20]
    path = str(tmp_path / "broken.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(example.SerializeToString())
        writer.write(b"no example")
        writer.write(found[1])
    report, _ = inspect_dataset.compare(None, path, limit=0)
    assert len(report.problems) == 2
    number = example.features.feature["image/source_id"].bytes_list.value[0]
    named = f"record 0 of {path} (image id {number.decode()}) cannot be read"
    assert named in report.problems[0] and "cut off" in report.problems[0]
    assert f"record 1 of {path} is broken" in report.problems[1]
    assert "3 records in 1 files" in report.text()
    # Cut off itself.
    whole = (tmp_path / "broken.tfrecord").read_bytes()
    (tmp_path / "broken.tfrecord").write_bytes(whole[:-10])
    report, _ = inspect_dataset.compare(None, path, limit=0)
    assert "Copy it again" in report.text()
    assert inspect_dataset.main([f"--records={path}", "--all"]) == 1


def test_files_that_training_would_refuse_are_problems(tmp_path, records):
    content = tf.io.gfile.GFile(sorted(tf.io.gfile.glob(records))[0], "rb")
    whole = content.read()
    path = tmp_path / "x.tfrecord"

    def found(data, message):
        path.write_bytes(data)
        report, _ = inspect_dataset.compare(None, str(path), limit=0)
        (problem,) = report.problems
        assert message in problem and str(path) in problem
        assert "{{" not in problem and "[Op:" not in problem

    found(gzip.compress(whole), "compressed by gzip")
    found(b"", "no record")
    damaged = bytearray(whole)
    damaged[20] ^= 255
    found(bytes(damaged), "corrupted record")
    counts = {path.name: [len(whole), 77]}
    (tmp_path / counting.COUNTS_FILE).write_text(json.dumps(counts))
    found(whole, "copy it again")


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    path, images = coco_files.write(tmp_path)
    command = ["data", "convert", f"--annotations={path}"]
    command += [f"--images={images}", f"--output={path}/out"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"ERROR: .*Not a directory.*/out"):
        commands.dispatch("detection.data", {"convert": convert})


def test_transparent_images_are_counted(tmp_path):
    path, images = coco_files.write(tmp_path)
    clear = pictures.WITH_ALPHA.resize((50, 40))
    (tmp_path / "b.png").write_bytes(pictures.encoded(clear, "PNG"))
    with ground_truth.Reader(path, True) as reader:
        report, _ = inspect_dataset.examine(reader, images, 91, limit=0)
    assert "1 images have transparent pixels" in report.advice[0]
