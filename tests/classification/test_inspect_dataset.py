"""`python -m classification.data check`: what it finds, and its status."""

import gzip
import json

import pytest
import tensorflow as tf
from PIL import Image

from classification import inspect_dataset
from tests.classification import images
from tests.training.images import pictures
from training.images import sources


def _run(capsys, *arguments):
    status = inspect_dataset.main([*arguments])
    return status, capsys.readouterr().out


def test_a_good_set_is_described(capsys):
    status, out = _run(
        capsys, "--dataset=digits", "--num_classes=10", "--split=train"
    )
    assert status == 0
    assert "1,352 examples" in out and "labels 0 to 9" in out
    assert "no problem" in out


def test_tfrecords_whose_labels_begin_at_one(tmp_path, capsys):
    images.write_tfrecords(tmp_path, counts=(20, 30), label_offset=1)
    flags = ["--dataset=tfrecords", f"--path={tmp_path}/{{split}}-*"]
    flags += ["--num_classes=10"]
    status, out = _run(capsys, *flags)
    assert status == 1 and "set label_offset=1" in out
    assert "record 0 of" in out and "ms per image" in out
    status, out = _run(capsys, *flags, "--label_offset=1")
    assert status == 0, out
    status, out = _run(capsys, *flags, "--label_offset=3")
    assert status == 1 and "Received: labels -2 to 7" in out


def test_broken_images_are_all_named(tmp_path, capsys):
    files, _ = sources.jpeg_digits("train")
    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        for encoded in (b"text", files[0], files[1][:200]):
            writer.write(images.example(encoded, 0))
    status, out = _run(
        capsys, "--dataset=tfrecords", f"--path={tmp_path}/train-*"
    )
    assert status == 1 and "2 problems" in out
    assert "record 0 of" in out and "record 2 of" in out
    assert "record 1 of" not in out.split("PROBLEM", 1)[1]


def test_records_of_another_layout(tmp_path, capsys):
    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    status, out = _run(
        capsys, "--dataset=tfrecords", f"--path={tmp_path}/train-*"
    )
    assert status == 1 and "image/class/label" in out


@pytest.mark.parametrize("part", ["length", "content"])
def test_the_damaged_file_of_several_is_named(part, tmp_path, capsys):
    # All have a record at the byte that TensorFlow names.
    images.write_tfrecords(tmp_path, counts=(6, 6, 6))
    paths = sorted(tmp_path.glob("train-*"))
    content = bytearray(paths[0].read_bytes())
    first = 16 + int.from_bytes(content[:8], "little")  # With its framing.
    for path in paths:
        path.write_bytes(content)
    content[first + (9 if part == "length" else 100)] ^= 1
    paths[1].write_bytes(content)
    status, out = _run(
        capsys, "--dataset=tfrecords", f"--path={tmp_path}/train-*", "--all"
    )
    assert status == 1 and f"PROBLEM: {paths[1]} is damaged" in out
    assert out.count("is damaged") == 1 and "corrupted record at" in out


def test_splits_that_share_images_or_differ_in_classes(tmp_path, capsys):
    images.write_folder(tmp_path / "train")
    images.write_folder(tmp_path / "test")
    (tmp_path / "test" / "class_2").rename(tmp_path / "test" / "other")
    flags = ["--dataset=folder", f"--path={tmp_path}/{{split}}"]
    flags += ["--num_classes=3", "--split=train", "--split=test"]
    status, out = _run(capsys, *flags)
    assert status == 1
    assert "only in one of them class_2, other" in out
    assert "12 images are in both folder train and folder test" in out


@pytest.mark.parametrize(
    ("shards", "is_sorted"),
    [
        (([0, 0, 0, 1, 1, 1],), True),
        (([0, 0, 1, 1, 2], [0, 1, 1, 2, 2]), True),
        (([1, 1, 1], [0, 0, 0]), True),
        (([0, 1, 0, 1], [0, 0, 1, 1]), False),
        (([0], [1], [2]), False),
    ],
)
def test_sorted_records_are_pointed_out(tmp_path, capsys, shards, is_sorted):
    files, _ = sources.jpeg_digits("train")
    for number, labels in enumerate(shards):
        path = str(tmp_path / f"train-{number}")
        with tf.io.TFRecordWriter(path) as writer:
            for index, label in enumerate(labels):
                writer.write(images.example(files[index], label))
    status, out = _run(
        capsys, "--dataset=tfrecords", f"--path={tmp_path}/train-*"
    )
    assert status == 0 and ("sorted by label" in out) == is_sorted


@pytest.mark.parametrize(
    ("flags", "unused"),
    [
        (
            ["--experiment=digits_resnet", "--split=test", "--num_classes=3"],
            "--split, --num_classes need --dataset",
        ),
        (["--row=imagenet/r50/bn_relu", "--path=a"], "--path need --dataset"),
        (
            ["--dataset=digits", "--config_file=nowhere.yaml"],
            "--config_file need --experiment",
        ),
        (["--dataset=digits", "--params_override=a=1"], "need --experiment"),
        (["--dataset=digits", "--write_counts"], "needs data of tfrecords"),
    ],
)
def test_flags_without_effect_are_refused(capsys, flags, unused):
    with pytest.raises(SystemExit):
        inspect_dataset.main(flags)
    assert unused in capsys.readouterr().err


def test_data_of_an_experiment(capsys):
    status, out = _run(capsys, "--experiment=digits_resnet")
    assert status == 0
    assert "digits train" in out and "digits test" in out
    # Held in memory: the first training image is a 0 of 0 to 15 sixteenths.
    assert "first image: label 0, 8 x 8 pixels, levels 0 to" in out


def test_an_experiments_size_is_its_networks(capsys):
    override = "task: {model: {network: efficientnet_b1}"
    for part in ("train", "validation"):
        override += f", {part}_data: {{dataset: jpeg_digits, split: test}}"
    flags = ["--experiment=imagenet", "--limit=3"]
    _, out = _run(capsys, *flags, f"--params_override={override}}}")
    assert out.count("trained at 240") == 2
    override = "task: {train_data: {mean: [0.1]}}"
    flags = ["--experiment=digits_resnet", f"--params_override={override}"]
    status, out = _run(capsys, *flags)
    assert status == 1 and "must have the same mean" in out


def test_data_of_a_row(tmp_path, capsys):
    flags = ["--row=imagenet/r50/evonorm_s0", "--params_override"]
    flags += [f"task.train_data.tfds_data_dir={tmp_path}"]
    flags += ["--params_override=task.train_data.seed=1"]
    status, out = _run(capsys, *flags)
    assert status == 1
    assert "imagenet2012 validation" in out and "2 problems" in out


def test_missing_data_is_a_problem(tmp_path, capsys):
    status, out = _run(
        capsys, "--dataset=cifar10", f"--tfds_data_dir={tmp_path}"
    )
    assert status == 1 and "tfds build cifar10" in out


def _folder(capsys, root, *more):
    flags = ["--dataset=folder", f"--path={root}", "--num_classes=3"]
    return _run(capsys, *flags, *more)


def test_what_is_left_out_of_a_folder_is_named(tmp_path, capsys):
    images.write_folder(tmp_path)
    hidden = tmp_path / ".ipynb_checkpoints"
    hidden.mkdir()
    one = next((tmp_path / "class_0").iterdir())
    (hidden / "x.png").write_bytes(one.read_bytes())
    (tmp_path / "class_1" / "._x.png").write_bytes(b"macOS")
    (tmp_path / "class_1" / "x.svg").write_text("<svg/>")
    status, out = _folder(capsys, tmp_path)
    # Nothing of it is read: 3 classes, none of them hidden.
    assert status == 0 and "3 classes: class_0, class_1, class_2" in out
    assert "12 examples" in out
    assert "ADVICE: left out: 2 hidden files or folders" in out
    assert "left out: 1 files with suffix .svg" in out


def test_pictures_of_12_bits_are_a_problem(tmp_path, capsys):
    images.write_folder(tmp_path)
    deep = pictures.encoded(Image.fromarray(pictures.DEEP), "PNG")
    (tmp_path / "class_0" / "deep.png").write_bytes(deep)
    (tmp_path / "class_0" / "deeper.png").write_bytes(deep + b"\0")
    status, out = _folder(capsys, tmp_path)
    assert status == 1 and "2 problems" in out
    assert out.count("deep.png cannot be read as an image: its pixels") == 1
    assert out.count("deeper.png cannot be read as an image: its pixels") == 1


def test_a_sample_has_images_of_all_classes(tmp_path, capsys):
    images.write_folder(tmp_path)
    (tmp_path / "class_1" / "zz.png").write_bytes(b"broken")
    status, out = _folder(capsys, tmp_path, "--limit=3")
    assert status == 0 and "labels 0 to 2" in out
    status, out = _folder(capsys, tmp_path, "--all")
    assert status == 1 and "zz.png cannot be read" in out


def test_formats_and_transparent_pixels_are_counted(tmp_path, capsys):
    for name, content in pictures.others().items():
        folder = tmp_path / f"class_{len(name) % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.{name.split()[0]}").write_bytes(content)
    status, out = _folder(capsys, tmp_path)
    assert status == 0 and "formats: 8 TIFF, 4 BMP, 3 GIF, 2 WEBP" in out
    assert "ADVICE: In 5 of" in out


def test_records_that_are_compressed_say_so(tmp_path, capsys):
    images.write_tfrecords(tmp_path, counts=(3,))
    for path in tmp_path.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    flags = ["--dataset=tfrecords", f"--path={tmp_path}/train-*"]
    status, out = _run(capsys, *flags)
    assert status == 1 and "compressed by gzip" in out


def test_a_file_that_is_gone_is_named(tmp_path, capsys):
    images.write_folder(tmp_path)
    (tmp_path / "class_0" / "gone.png").symlink_to(tmp_path / "nowhere")
    status, out = _folder(capsys, tmp_path)
    assert status == 1 and "gone.png" in out.split("PROBLEM")[1]


def test_counts_of_records_are_left_beside_the_files(tmp_path, capsys):
    images.write_tfrecords(tmp_path, counts=(20, 30))
    flags = ["--dataset=tfrecords", f"--path={tmp_path}/train-*"]
    status, out = _run(capsys, *flags, "--write_counts", "--limit=1")
    assert status == 0 and "wrote" in out
    found = json.loads((tmp_path / "record_counts.json").read_text())
    assert [count for _, count in found.values()] == [20, 30]
    status, out = _run(capsys, *flags)
    assert status == 0 and "50 examples" in out


def test_files_with_an_orientation_are_counted(tmp_path, capsys):
    images.write_folder(tmp_path / "train")
    folder = next(each for each in sorted((tmp_path / "train").iterdir()))
    picture = Image.new("RGB", (30, 20))
    for number in (1, 6, 8):
        exif = Image.Exif()
        exif[274] = number
        picture.save(folder / f"turned{number}.jpg", exif=exif)
    # A header of EXIF whose content is damaged is not an error.
    picture.save(folder / "damaged.jpg", exif=b"Exif\0\0II*\0nonsense")
    path = str(tmp_path / "{split}")
    _, out = _run(capsys, "--dataset=folder", f"--path={path}")
    assert "ADVICE: In 2 of" in out
    assert "turned6.jpg" in out
