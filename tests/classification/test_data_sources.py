"""What is opened, what is refused, and how errors name the record."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from classification import datasets
from classification.settings import Data
from tests.classification import images
from training.images import decoding, records, sources
from training.images.sources import Files, Memory


def _tfrecords(root, **changes):
    return Data(
        dataset="tfrecords",
        path=f"{root}/{{split}}-*",
        global_batch_size=4,
        image_size=16,
        shuffle_buffer_size=8,
    ).replace(**changes)


def test_tfrecords_are_counted_and_labelled(tmp_path):
    files, labels = images.write_tfrecords(tmp_path, label_offset=1)
    config = _tfrecords(tmp_path, is_training=False, label_offset=1)
    source = datasets.open_source(config, 10)
    assert source.examples == 24
    found = [y["label"].numpy() for _, y in datasets.inputs(source, config)]
    # Files of one turn of 16 records each follow one another.
    np.testing.assert_array_equal(np.concatenate(found), labels)
    rows = source.reader.in_order()
    encoded, _, name = source.reader.read(*next(iter(rows.skip(11))))
    assert encoded.numpy() == files[11]
    assert name.numpy().decode() == (
        f"record 0 of {tmp_path}/train-00001-of-00003"
    )


@pytest.mark.parametrize("examples", [23, 25])
def test_a_wrong_number_of_examples_is_an_error(tmp_path, examples):
    images.write_tfrecords(tmp_path)
    config = _tfrecords(tmp_path, examples=examples)
    with pytest.raises(ValueError, match=f"24 records.*examples={examples}"):
        datasets.open_source(config, 10)


def test_a_label_outside_the_classes_names_its_record(tmp_path):
    images.write_tfrecords(tmp_path, label_offset=1)
    config = _tfrecords(tmp_path, augmentation="none")
    source = datasets.open_source(config, 10)  # Labels are 1 to 10: offset 0.
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"0 to 9: of record \d+ of .*train-0000.*label=10",
    ):
        list(datasets.inputs(source, config).take(6))
    config = config.replace(label_offset=2)
    source = datasets.open_source(config, 10)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label=-1"):
        list(datasets.inputs(source, config).take(6))


def test_a_label_of_a_known_set_is_refused_at_once(tmp_path):
    images.write_folder(tmp_path / "train")
    config = Data(dataset="folder", path=f"{tmp_path}/{{split}}")
    with pytest.raises(
        ValueError, match=r"num_classes=3.*label=2, classes: \w+"
    ):
        datasets.open_source(config, 2)


@pytest.mark.parametrize("name", ["digits", "jpeg_digits"])
def test_digits_stand_in_for_a_model_of_fewer_classes(name):
    """--debug and --preflight put them in the place of any data."""
    config = Data(dataset=name, is_training=False, global_batch_size=100)
    config = config.replace(mean=[0.5], std=[0.25])
    source = datasets.open_source(config, 3)
    _, expected = sources.digits("train")
    found = [y["label"].numpy() for _, y in datasets.inputs(source, config)]
    found = np.concatenate(found)[: source.examples]
    np.testing.assert_array_equal(found, expected[expected < 3])


# What is refused is in tests/training/images/test_decoding.py.
@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("text", "empty")),
    ],
)
def test_a_broken_image_names_its_record(tmp_path, damage):
    files, _ = sources.jpeg_digits("train")
    broken = {"cut": files[1][:-300], "text": b"no image", "empty": b""}
    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        for encoded in (files[0], broken[damage]):
            writer.write(images.example(encoded, 0))
    config = _tfrecords(tmp_path, global_batch_size=2)
    source = datasets.open_source(config, 10)
    with pytest.raises(
        tf.errors.OpError, match=r"record 1 of .*train-0 cannot be read"
    ):
        list(datasets.inputs(source, config).take(1))


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    images.write_tfrecords(tmp_path, counts=(3,))
    path = tmp_path / "train-00000-of-00001"
    assert records.count(str(path)) == 3
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"ends within a record.*record=2"):
        datasets.open_source(_tfrecords(tmp_path), 10)


def test_a_folder_of_folders(tmp_path):
    examples = images.write_folder(tmp_path / "train")
    config = Data(
        dataset="folder",
        path=str(tmp_path / "{split}"),
        image_size=16,
        global_batch_size=4,
        is_training=False,
    )
    source = datasets.open_source(config, 3)
    assert source.examples == examples == 12
    assert source.class_names == ("class_0", "class_1", "class_2")
    found = [y["label"].numpy() for _, y in datasets.inputs(source, config)]
    np.testing.assert_array_equal(
        np.concatenate(found), [0] * 4 + [1] * 4 + [2] * 4
    )
    (tmp_path / "train" / "class_9").mkdir()
    with pytest.raises(ValueError, match="class_9"):
        datasets.open_source(config, 4)
    with pytest.raises(ValueError, match="no such folder"):
        datasets.open_source(config.replace(split="test"), 3)
    broken = tmp_path / "train" / "class_9" / "x.jpg"
    broken.write_bytes(b"\xff\xd8\xff no image \xff\xd9"[:-2])
    source = datasets.open_source(config, 4)
    with pytest.raises(
        tf.errors.OpError, match=r"class_9/x\.jpg cannot be read"
    ):
        list(datasets.inputs(source, config))


def _pixels(kind, mode="RGB", **options):
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    image = coarse.resize((64, 48)).convert(mode)
    encoded = images.encoded(image, kind, **options)
    return encoded, np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def full_image():
    """`decoding.full_image` as a pipeline calls it."""
    text = tf.TensorSpec([], tf.string)
    return tf.function(decoding.full_image, input_signature=[text, text])


@pytest.mark.parametrize(
    "kind, mode, tolerance",
    [
        ("PNG", "RGB", 0),
        ("PNG", "P", 0),
        ("GIF", "P", 0),
        ("BMP", "RGB", 0),
        # Lossy: mean difference at quality 95, of 255.
        ("JPEG", "RGB", 3),
        ("JPEG", "L", 3),
        ("JPEG", "CMYK", 3),
    ],
)
def test_formats(kind, mode, tolerance, full_image):
    options = {"quality": 95} if kind == "JPEG" else {}
    encoded, expected = _pixels(kind, mode, **options)
    found = full_image(encoded, "x").numpy()
    assert found.shape == (48, 64, 3)
    assert np.abs(found - expected).mean() <= tolerance
    # Bytes after the end are harmless, and do happen.
    again = full_image(encoded + b"\0\0", "x").numpy().astype(int)
    assert np.abs(again - expected).mean() <= tolerance


@pytest.mark.parametrize("quality, subsampling", [(95, 0), (80, 2)])
def test_decoding_a_window_equals_cutting_the_decoded(quality, subsampling):
    encoded, _ = _pixels("JPEG", quality=quality, subsampling=subsampling)
    encoded = tf.constant(encoded)
    whole = decoding.full_image(encoded, tf.constant("x")).numpy().astype(int)
    part = decoding.window(
        encoded, tf.constant("x"), lambda shape: tf.constant([9, 13, 30, 41])
    )
    difference = np.abs(part.numpy() - whole[9:39, 13:54])
    # Half-resolution colour is interpolated across the window's border, where
    # the window's neighbours are not decoded.
    inside = difference[2:-2, 2:-2]
    assert inside.max() == 0
    assert difference.max() <= (0 if subsampling == 0 else 40)


def test_tfds_sets(data_dir):
    config = Data(
        dataset="imagenet2012:5.1.0",
        split="train[3:20]+validation[:5]",
        tfds_data_dir=str(data_dir / "tfds"),
        image_size=32,
        global_batch_size=11,
        is_training=False,
    )
    source = datasets.open_source(config, 1000)
    assert isinstance(source, Files)
    assert source.examples == 22
    weights = [
        y["weight"].numpy().sum() for _, y in datasets.inputs(source, config)
    ]
    assert weights == [11, 11]
    with pytest.raises(ValueError, match=r"versions 5\.1\.0"):
        datasets.open_source(config.replace(dataset="imagenet2012:9.9.9"), 1000)
    with pytest.raises(ValueError, match="num_classes=1000"):
        datasets.open_source(config, 999)


def test_tfds_order_is_the_files(data_dir):
    import tensorflow_datasets as tfds

    root = str(data_dir / "tfds")
    config = Data(
        dataset="imagenet2012",
        split="train[5:15]",
        tfds_data_dir=root,
        is_training=False,
    )
    source = datasets.open_source(config, 1000)
    rows = source.reader.in_order()
    found = [int(source.reader.read(*row)[1]) for row in rows]
    builder = tfds.builder_from_directory(f"{root}/imagenet2012/5.1.0")
    expected = builder.as_dataset("train[5:15]", shuffle_files=False)
    assert found == [int(row["label"]) for row in expected]


def test_cifar_is_held_in_memory_or_resized(data_dir):
    config = Data(
        dataset="cifar10",
        split="test[:50]",
        tfds_data_dir=str(data_dir / "tfds"),
        global_batch_size=5,
    )
    source = datasets.open_source(config, 10)
    assert isinstance(source, Memory)
    assert source.images.shape == (50, 32, 32, 3)
    with pytest.raises(ValueError, match="test"):
        datasets.open_source(config.replace(split="tset"), 10)
    larger = config.replace(image_size=48)  # Its images are PNGs.
    batch, _ = next(
        iter(datasets.inputs(datasets.open_source(larger, 10), larger))
    )
    assert batch.shape == (5, 48, 48, 3)


@pytest.mark.parametrize(
    "damage, split, words",
    [
        ("none", "train", None),
        ("none", "test", None),
        ("cut", "test", "00001 is not a complete TFRecord file"),
        ("cut", "train[:3]+test[:3]", "00001 is not a complete TFRecord file"),
        ("shorter", "test", "too few records.*00001.*4 records, not 5"),
        ("missing", "test", "is missing.*00001.*0 records, not 5"),
        ("changed", "test", "is damaged: corrupted record.*test.*00001$"),
    ],
)
def test_a_damaged_file_of_tfds_is_named(damage, split, words, tmp_path):
    path = images.tfds(tmp_path)
    content = path.read_bytes()
    with tf.io.TFRecordWriter(str(tmp_path / "four")) as file:
        for record in tf.data.TFRecordDataset(str(path)).take(4):
            file.write(record.numpy())
    changed = {
        "none": content,
        "cut": content[:-7],
        "shorter": (tmp_path / "four").read_bytes(),
        "changed": content[:-20] + b"\0\0" + content[-18:],
    }
    path.unlink()
    if damage != "missing":
        path.write_bytes(changed[damage])
    config = Data(dataset="own", split=split, tfds_data_dir=str(tmp_path))
    if words is None:
        assert datasets.open_source(config, 2).examples == 5
        return
    with pytest.raises(ValueError, match=words):
        datasets.open_source(config, 2)


def test_missing_directory_says_what_to_do(tmp_path):
    config = Data(dataset="cifar10", tfds_data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="tfds build cifar10"):
        datasets.open_source(config, 10)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"augmentation": "crop_flipp"}, "Did you mean crop_flip"),
        ({"augmenter": "garden"}, "augmenter='garden'"),
        ({"mixup_alpha": -1.0}, "mixup_alpha=-1"),
        ({"randaugment_layers": 1}, "colour"),
        ({"path": "/x"}, "path is only for the datasets tfrecords and folder"),
        ({"image_size": 32}, "not resized.*image_size=32"),
        ({"dataset": "folder"}, "needs a path"),
        ({"dataset": "tfrecords", "path": "/none/*"}, "No files match"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    config = Data(dataset="digits").replace(**changes)
    with pytest.raises(ValueError, match=message):
        datasets.open_source(config, 10)


def test_validation_data_lie_beside_the_training_data():
    train = Data(dataset="tfrecords", path="a/{split}-*")
    test = Data(dataset="tfrecords", split="validation")
    assert datasets.located_as(test, train).path == "a/{split}-*"
    own = test.replace(path="b")
    assert datasets.located_as(own, train).path == "b"
    tfds = Data(dataset="cifar10", tfds_data_dir="t")
    other = Data(dataset="imagenet_v2")
    assert datasets.located_as(other, tfds).tfds_data_dir == "t"
    own = other.replace(tfds_data_dir="u")
    assert datasets.located_as(own, tfds).tfds_data_dir == "u"
    # A folder is not in the directory of TFDS.
    assert not datasets.located_as(
        own.replace(dataset="folder", tfds_data_dir=""), tfds
    ).tfds_data_dir
    with pytest.raises(ValueError, match=r"\{split\}"):
        datasets.located_as(test, train.replace(path="a/*"))


def test_labels_of_both_splits_begin_alike(tmp_path):
    images.write_tfrecords(tmp_path, label_offset=1)
    pairs = [
        (config, datasets.open_source(config, 11))
        for config in (_tfrecords(tmp_path, label_offset=k) for k in (1, 0))
    ]
    with pytest.raises(ValueError, match="the same label_offset"):
        datasets.require_alike(*pairs)


@pytest.mark.parametrize(
    ("dataset", "changes"),
    [
        ("digits", {"path": "a"}),
        ("digits", {"label_offset": 1}),
        ("jpeg_digits", {"examples": 7}),
        ("folder", {"label_offset": 1}),
        ("cifar10", {"examples": 50_000}),
        ("digits", {"tfds_data_dir": "t"}),
        ("tfrecords", {"tfds_data_dir": "t"}),
    ],
)
def test_a_setting_that_the_dataset_does_not_read_is_refused(dataset, changes):
    [(name, value)] = changes.items()
    match = f"{name} is only.*dataset='{dataset}', {name}={value!r}"
    with pytest.raises(ValueError, match=match):
        datasets.open_source(Data(dataset=dataset, **changes), 10)


@pytest.mark.parametrize("dataset", ["tfrecords", "folder"])
def test_files_have_no_parts_of_splits(dataset):
    config = Data(dataset=dataset, path="a/{split}", split="train[:90%]")
    with pytest.raises(ValueError, match=r"held_out=0.*split='train\[:90%\]'"):
        datasets.open_source(config, 10)
