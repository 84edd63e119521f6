"""Records are what the annotations say, and never half of it."""

import functools
import io
import json
import os

import cv2
import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from pycocotools import coco

from detection import convert, ground_truth, inspect_dataset
from detection.tables import TABLES
from tests.detection import coco_files
from tests.training.images import pictures
from training import commands, progress
from training.images import decoding


def _convert(folder, changed=None, **options):
    path, images = coco_files.write(folder, changed)
    overwrite = options.pop("overwrite", False)
    job = convert.Conversion(path, images, str(folder / "out"), **options)
    stream = io.StringIO()
    about = convert.convert(job, progress.Display("t", stream), overwrite)
    return about, stream.getvalue()


@functools.cache
def _decode():
    """The Model Garden's decoder, traced once."""
    decoder = tf_example_decoder.TfExampleDecoder(include_mask=True)
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(decoder.decode, input_signature=signature)


def _decoded(pattern):
    files = sorted(tf.io.gfile.glob(str(pattern)))
    found = {}
    for record in tf.data.TFRecordDataset(files):
        one = {name: x.numpy() for name, x in _decode()(record).items()}
        found[int(one["source_id"])] = one
    return found


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder with images, JSON and records, and what was said of it."""
    folder = tmp_path_factory.mktemp("coco")
    return folder, _convert(folder, shards=2)[0]


def test_records_hold_what_the_annotations_say(converted):
    folder, _ = converted
    found = _decoded(folder / "out/*.tfrecord")
    assert sorted(found) == [3, 5, 7]
    truth = coco.COCO(str(folder / "instances.json"))
    for number, record in found.items():
        name = str(folder / truth.imgs[number]["file_name"])
        # The file's own bytes: a JPEG is not encoded anew.
        encoded = tf.io.decode_image(tf.io.read_file(name)).numpy()
        np.testing.assert_array_equal(record["image"], encoded)
        annotations = truth.imgToAnns[number]
        assert record["groundtruth_classes"].tolist() == [
            a["category_id"] for a in annotations
        ]
        assert record["groundtruth_is_crowd"].tolist() == [
            bool(a["iscrowd"]) for a in annotations
        ]
        assert record["groundtruth_area"].tolist() == [
            a["area"] for a in annotations
        ]
        wanted = [truth.annToMask(a) for a in annotations]
        pictures = record["groundtruth_instance_masks"]
        assert len(pictures) == len(wanted)
        for picture, mask in zip(pictures, wanted):
            np.testing.assert_array_equal(picture, mask)


def test_a_box_a_hair_outside_is_clipped_and_counted(converted):
    folder, about = converted
    boxes = _decoded(folder / "out/*.tfrecord")[7]["groundtruth_boxes"]
    # float32: y, x, y, x of 40 x 50 pixels.
    expected = [[7 / 40, 0.1, 11 / 40, 0.2], [0.75, 0.8, 0.95, 1]]
    np.testing.assert_allclose(boxes, expected, atol=1e-7)
    assert boxes.max() == 1
    assert about["counts"] == {
        "objects": 3,
        "crowds": 1,
        "clipped": 1,
        "without_objects": 1,
    }
    assert "annotation id=1, image_id=7" in about["first"]["clipped"]
    text = "\n".join(convert.summary(about))
    assert "3 of 3 annotations, 1 of them crowds" in text
    assert "1 boxes less than a pixel outside: clipped" in text
    assert "num_classes=91" in text


def test_far_and_empty_boxes_are_counted(tmp_path):
    changed = coco_files.content()
    for number, bbox in ((0, [-9, 7, 14, 4]), (1, [2, 3, 0, 6])):
        changed["annotations"][number]["bbox"] = bbox
    changed["annotations"][2]["bbox"] = [50, 0, 5, 5]
    about, _ = _convert(tmp_path, changed)
    assert about["counts"]["clipped_far"] == 1
    assert about["counts"]["dropped"] == 2
    assert about["counts"]["objects"] == 1
    found = _decoded(tmp_path / "out/*.tfrecord")
    np.testing.assert_allclose(
        found[7]["groundtruth_boxes"], [[7 / 40, 0, 11 / 40, 0.1]], atol=1e-7
    )
    assert len(found[3]["groundtruth_instance_masks"]) == 0


_CUT = {"size": [32, 64], "counts": "0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": []}, "segmentation is missing or empty"),
        ({"segmentation": [[]]}, "invalid polygon"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three points"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "another size"),
        ({"segmentation": {"size": [32, 64], "counts": [9]}}, "add up"),
        # pycocotools would write what memory holds as the mask.
        ({"segmentation": _CUT}, "add up"),
        ({"segmentation": _CUT | {"counts": "000000"}}, "add up"),
        ({"bbox": [1, 2, 3]}, "bbox must be"),
        ({"bbox": ["2", 3, 10, 6]}, "bbox must be"),
        ({"bbox": [1, 2, 3, float("nan")]}, "finite numbers.*'NaN'"),
        ({"area": -float("inf")}, "finite number.*'-Infinity'"),
        ({"category_id": 2}, "category is not in the file"),
        ({"iscrowd": "1"}, "iscrowd must be"),
    ],
)
def test_an_invalid_annotation_is_named_with_its_file(
    change, message, tmp_path
):
    changed = coco_files.content()
    changed["annotations"][1] |= change
    with pytest.raises(ValueError, match=message) as error:
        _convert(tmp_path, changed)
    assert "instances.json" in str(error.value)
    assert "annotations[1] (id=2, image_id=3)" in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.unfinished").exists()
    about, _ = _convert(tmp_path, changed, skip_invalid=True)
    assert about["counts"]["invalid"] == 1
    assert about["counts"]["objects"] == 2
    assert "annotation" in about["first"]["invalid"]
    assert "1 invalid annotations: left out" in "".join(convert.summary(about))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": "none.png"}, "cannot be read.*none.png"),
        ({"file_name": None}, "needs file_name"),
        ({"file_name": 5}, "file_name must be text"),
        ({"width": 65}, "64x32, annotated 65x32"),
        ({"width": "64"}, "width must be an integer"),
        ({"file_name": "instances.json"}, "cannot be read"),
        ({"height": None}, "needs height"),
    ],
)
def test_an_image_that_does_not_fit_is_named(change, message, tmp_path):
    changed = coco_files.content()
    changed["images"][1] |= change
    with pytest.raises(ValueError, match=message) as error:
        _convert(tmp_path, changed)
    assert "id=3" in str(error.value)
    assert "instances.json" in str(error.value)
    assert not (tmp_path / "out.unfinished").exists()
    about, _ = _convert(tmp_path, changed, skip_invalid=True, shards=2)
    assert about["counts"]["invalid_images"] == 1
    assert (about["images"], about["counts"]["objects"]) == (2, 2)
    assert "id=3" in about["first"]["invalid_images"]
    assert sorted(_decoded(tmp_path / "out/*.tfrecord")) == [5, 7]
    said = "".join(convert.summary(about))
    assert "1 invalid images: left out, with their annotations" in said


def test_no_valid_image_is_an_error(tmp_path):
    changed = coco_files.content()
    for image in changed["images"]:
        image["file_name"] = "none.png"
    with pytest.raises(ValueError, match=r"No image.*none\.png"):
        _convert(tmp_path, changed, skip_invalid=True)
    assert not (tmp_path / "out.unfinished").exists()


def test_what_everyone_means_is_converted_and_counted(tmp_path):
    changed = coco_files.content()
    for one in changed["annotations"][1:]:
        del one["iscrowd"], one["area"]
    changed["images"][0] |= {"width": 50.0}
    changed["annotations"][1] |= {"category_id": 1.0, "id": 0}
    about, _ = _convert(tmp_path, changed)
    counts = about["counts"]
    assert (counts["iscrowd"], counts["area"], counts["id_0"]) == (2, 2, 1)
    assert counts["integer"] == 2
    said = "\n".join(convert.summary(about))
    assert "2 annotations have no iscrowd: 0, a single" in said
    assert "annotations[1] (id=0, image_id=3)" in said
    found = _decoded(tmp_path / "out/*.tfrecord")
    assert not found[3]["groundtruth_is_crowd"].any()
    # Of the masks: a square of 10 x 6, and one of 10 x 8.
    assert found[3]["groundtruth_area"].tolist() == [60]
    assert found[7]["groundtruth_area"].tolist() == [20, 80]


def test_a_category_of_id_0_is_refused_with_what_to_do(tmp_path):
    changed = coco_files.content()
    changed["categories"][0]["id"] = 0
    for one in changed["annotations"][1:]:
        one["category_id"] = 0
    with pytest.raises(ValueError, match=r"Add 1 to every category id.*jq '"):
        _convert(tmp_path, changed)


def test_a_killed_conversion_never_looks_finished(tmp_path, monkeypatch):
    class Killed(BaseException):
        """No Exception: nothing may catch it."""

    def kill(self, done):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(convert._Clock, "tick", kill)
        with pytest.raises(Killed):
            _convert(tmp_path, shards=2)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.unfinished").is_dir()
    # The next one starts afresh.
    (tmp_path / "out.unfinished" / "old").touch()
    _convert(tmp_path, shards=2)
    assert sorted(os.listdir(tmp_path / "out")) == [
        "conversion.json",
        "out-00000-of-00002.tfrecord",
        "out-00001-of-00002.tfrecord",
        "record_counts.json",
    ]
    assert not (tmp_path / "out.unfinished").exists()
    with pytest.raises(ValueError, match="--overwrite"):
        _convert(tmp_path)
    _convert(tmp_path, overwrite=True, shards=9)
    # Never more files than images.
    names = os.listdir(tmp_path / "out")
    assert sum(name.endswith("of-00003.tfrecord") for name in names) == 3


@pytest.mark.parametrize("output", ["coco", ".", "coco/a/..", "link"])
def test_an_output_that_holds_the_input_is_refused(output, tmp_path):
    folder = tmp_path / "coco"
    folder.mkdir()
    path, images = coco_files.write(folder)
    (tmp_path / "link").symlink_to(folder)
    # Even what looks like an earlier conversion.
    (folder / convert.ABOUT_FILE).touch()
    before = sorted(os.listdir(folder))
    job = convert.Conversion(path, images, str(tmp_path / output))
    with pytest.raises(ValueError, match="is, or contains, the annotations"):
        convert.convert(job, progress.Display("t", io.StringIO()), True)
    # As the folder of an unfinished conversion, which is removed.
    os.rename(folder, tmp_path / "coco.unfinished")
    images = str(tmp_path / "coco.unfinished")
    job = convert.Conversion("elsewhere.json", images, str(folder))
    with pytest.raises(ValueError, match="is, or contains, the images"):
        convert.convert(job, progress.Display("t", io.StringIO()))
    assert sorted(os.listdir(images)) == before


def test_only_a_conversion_is_overwritten(tmp_path):
    other = tmp_path / "out" / "mine"
    other.parent.mkdir()
    other.touch()
    with pytest.raises(ValueError, match="has no conversion"):
        _convert(tmp_path, overwrite=True)
    assert other.exists()


def test_records_do_not_depend_on_the_workers(converted, tmp_path):
    folder, _ = converted
    _convert(tmp_path, shards=2, workers=1)
    for name in ("out-00000-of-00002", "out-00001-of-00002"):
        one, other = (
            (where / "out" / f"{name}.tfrecord").read_bytes()
            for where in (folder, tmp_path)
        )
        assert one == other


def test_progress_is_shown_in_plain_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_SAID_EVERY", 0.0)
    _, said = _convert(tmp_path)
    lines = said.strip().splitlines()
    assert len(lines) == 3
    assert "3 of 3 images" in lines[-1]
    assert "0 s left" in lines[-1]


def test_real_images_convert_and_check(data_dir, tmp_path, monkeypatch, capsys):
    real = data_dir / "coco_mini"
    path = real / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    chosen = sorted(content["images"], key=lambda i: i["id"])[:2]
    ids = {image["id"] for image in chosen}
    content["images"] = chosen
    content["annotations"] = [
        one for one in content["annotations"] if one["image_id"] in ids
    ]
    small = tmp_path / "small.json"
    small.write_text(json.dumps(content))
    arguments = [f"--annotations={small}", f"--images={real / 'val2017'}"]
    output = tmp_path / "val"
    monkeypatch.setattr(
        "sys.argv", ["data", "convert", *arguments, f"--output={output}"]
    )
    with pytest.raises(SystemExit) as ended:
        commands.dispatch("detection.data", {"convert": convert})
    assert ended.value.code == 0
    assert f"input_path: {output}/*.tfrecord" in capsys.readouterr().out
    picture = tmp_path / "check.png"
    arguments += [f"--records={output}/*.tfrecord", f"--picture={picture}"]
    assert inspect_dataset.main(arguments) == 0
    assert cv2.imread(str(picture)).std() > 20
    said = capsys.readouterr().out
    assert "80 categories with ids 1 to 90, 10 ids between" in said
    assert "PROBLEM" not in said


def test_a_rows_command_finds_what_is_converted(converted):
    folder, _ = converted
    recipe = TABLES.find("coco/r50_fpn/bn_relu").recipe
    parts = recipe.data.replace("DIR/train/", f"{folder}/out/").split(",")
    pattern = parts[0].partition("=")[2]
    # The records alone: conversion.json stands beside them.
    assert len(tf.io.gfile.glob(pattern)) == 2
    assert sorted(_decoded(pattern)) == [3, 5, 7]


def _write_image(folder, name, content):
    (folder / name).write_bytes(content)


def test_what_a_phone_or_a_browser_wrote_is_converted(tmp_path):
    """MPO, WebP, GIF and transparent PNG, whatever their names say."""
    path, images = coco_files.write(tmp_path)
    colour = pictures.COLOUR
    mpo = pictures.encoded(
        colour.resize((64, 32)),
        "MPO",
        save_all=True,
        append_images=[colour.resize((64, 32))],
    )
    _write_image(tmp_path, "a.jpg", mpo + b"\0after its end")
    clear = pictures.WITH_ALPHA.resize((50, 40))
    _write_image(tmp_path, "b.png", pictures.encoded(clear, "PNG"))
    lossless = pictures.encoded(colour.resize((8, 8)), "WEBP", lossless=True)
    _write_image(tmp_path, "c.png", lossless)
    job = convert.Conversion(path, images, str(tmp_path / "out"), shards=1)
    display = progress.Display("t", io.StringIO())
    about = convert.convert(job, display)
    assert about["counts"]["transparent"] == 1
    said = "\n".join(convert.summary(about))
    assert "1 images with transparent pixels: composited on white" in said
    assert "image id=7" in said
    found = _decoded(f"{tmp_path}/out/*.tfrecord")
    for number, name in ((7, "b.png"), (3, "a.jpg"), (5, "c.png")):
        content = (tmp_path / name).read_bytes()
        expected = decoding.read(content, name).pixels
        # By the plain decoder of the Model Garden.
        difference = np.abs(found[number]["image"].astype(int) - expected)
        assert difference.max() <= (20 if name == "a.jpg" else 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pictures.refused()["jpeg cut"][0], "cut off"),
        (pictures.refused()["png of 16 bits"][0], "16 bits per channel"),
        (pictures.refused()["tiff of floats"][0], "not unsigned"),
        (b"", "empty"),
    ],
)
def test_an_image_that_training_would_stop_at_is_not_converted(
    content, message, tmp_path
):
    path, images = coco_files.write(tmp_path)
    _write_image(tmp_path, "a.jpg", content)
    job = convert.Conversion(path, images, str(tmp_path / "out"))
    display = progress.Display("t", io.StringIO())
    with pytest.raises(ValueError, match=message) as error:
        convert.convert(job, display)
    assert "image id=3, file_name='a.jpg' cannot be read" in str(error.value)
    assert not (tmp_path / "out").exists()
    with ground_truth.Reader(path, True) as reader:
        report, _ = inspect_dataset.examine(reader, images, 0, 0)
    assert len(report.problems) == 1 and message in report.problems[0]
