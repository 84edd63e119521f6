"""Batches: a pure function of (seed, step), whatever they are read from."""

import numpy as np
import pytest
import tensorflow as tf

from classification import datasets, decode
from classification.settings import Data
from tests.classification import images
from training.images import sources
from training.images.sources import Files, Memory

DIGITS = Data(
    dataset="digits",
    global_batch_size=64,
    augmentation="crop_flip",
    mean=[0.5],
    std=[0.25],
)
JPEG = Data(dataset="jpeg_digits", global_batch_size=10, image_size=32)
RANDAUGMENT = {"randaugment_layers": 1}
MIXED = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A config for each kind of source, by name."""
    root = tmp_path_factory.mktemp("sets")
    images.write_tfrecords(root)
    images.write_folder(root / "folder" / "train")
    small = {"global_batch_size": 10, "image_size": 32}
    return {
        "digits": DIGITS,
        "jpeg_digits": JPEG.replace(split="test", image_size=16),
        "tfrecords": Data(
            dataset="tfrecords",
            path=f"{root}/{{split}}-*",
            shuffle_buffer_size=7,
            **small,
        ),
        "folder": Data(
            dataset="folder", path=f"{root}/folder/{{split}}", **small
        ),
    }


def _take(dataset, count):
    return [
        (images.numpy(), {key: value.numpy() for key, value in labels.items()})
        for images, labels in dataset.take(count)
    ]


def _equal(left, right):
    assert len(left) == len(right)
    for (pixels, labels), (other_pixels, other_labels) in zip(left, right):
        np.testing.assert_array_equal(pixels, other_pixels)
        assert labels.keys() == other_labels.keys()
        for key in labels:
            np.testing.assert_array_equal(labels[key], other_labels[key])


def test_digits_split_is_fixed_whole_and_stratified():
    train, test = sources.digits("train"), sources.digits("test")
    assert len(train[1]) + len(test[1]) == 1797
    share = np.bincount(test[1]) / np.bincount(train[1])
    np.testing.assert_allclose(share, 1 / 3, atol=0.02)
    rows = {image.tobytes() for image in train[0]}
    assert not [image for image in test[0] if image.tobytes() in rows]
    with pytest.raises(ValueError, match="validation"):
        sources.digits("validation")


@pytest.mark.parametrize(
    "name, extra",
    [
        pytest.param("digits", {}, marks=pytest.mark.slow),
        pytest.param("jpeg_digits", MIXED, marks=pytest.mark.slow),
        pytest.param("tfrecords", RANDAUGMENT | MIXED, marks=pytest.mark.slow),
        pytest.param("folder", MIXED, marks=pytest.mark.slow),
        ("folder", {}),  # The rest is that of the next test.
    ],
)
def test_a_later_start_gives_what_the_unbroken_run_gives(sets, name, extra):
    config = sets[name].replace(**extra)
    source = datasets.open_source(config, 10)
    # The second epoch begins within, and not at, these batches.
    last = source.examples // config.global_batch_size
    unbroken = _take(datasets.inputs(source, config), last + 3)
    assert ("target" in unbroken[0][1]) == ("mixup_alpha" in extra)
    _equal(unbroken[last:], _take(datasets.inputs(source, config, last), 3))
    other = _take(datasets.inputs(source, config.replace(seed=1)), 1)
    assert (unbroken[0][0] != other[0][0]).any()
    assert (unbroken[0][1]["label"] != other[0][1]["label"]).any()


@pytest.mark.parametrize("extra", [RANDAUGMENT, MIXED])
def test_augmentation_of_images_in_memory_is_stateless(extra):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 16, 16, 3), np.uint8)
    source = Memory(pixels, np.arange(9, dtype=np.int32), 9)
    config = Data(global_batch_size=4, **extra)
    unbroken = _take(datasets.inputs(source, config), 5)
    _equal(unbroken[2:], _take(datasets.inputs(source, config, 2), 3))
    plain = _take(datasets.inputs(source, Data(global_batch_size=4)), 1)
    assert (unbroken[0][0] != plain[0][0]).any()
    np.testing.assert_array_equal(unbroken[0][1]["label"], plain[0][1]["label"])


@pytest.mark.parametrize("name", ["digits", "jpeg_digits"])
def test_an_epoch_visits_every_example_once_in_its_own_order(sets, name):
    config = sets[name].replace(augmentation="none", global_batch_size=1)
    config = config.replace(split="test")  # The smaller one.
    source = datasets.open_source(config, 10)
    found = datasets.inputs(source, config).take(2 * source.examples)
    pixels = [image.numpy().tobytes() for image, _ in found]
    epochs = pixels[: source.examples], pixels[source.examples :]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]


def test_images_are_normalized_by_channel():
    config = JPEG.replace(augmentation="none", mean=[0.2, 0.4, 0.6])
    config = config.replace(std=[0.5, 0.25, 2.0], is_training=False)
    source = datasets.open_source(config, 10)
    pixels = _take(datasets.inputs(source, config), 1)[0][0]
    load = tf.function(decode.decoder(source, config), autograph=False)
    raw = np.stack(
        [
            load(tf.constant(k), *source.reader.read(tf.constant(k)))[1]
            for k in range(10)
        ]
    )
    expected = (raw / 255 - config.mean) / config.std
    # float32 against float64, values up to 4.
    np.testing.assert_allclose(pixels, expected, atol=2e-6)


def test_evaluation_is_one_pass_with_a_padded_last_batch():
    config = DIGITS.replace(split="test", is_training=False)
    source = datasets.open_source(config, 10)
    batches = list(datasets.inputs(source, config))
    weight = np.concatenate([labels["weight"] for _, labels in batches])
    label = np.concatenate([labels["label"] for _, labels in batches])
    assert {len(images) for images, _ in batches} == {64}
    assert weight.sum() == source.examples
    np.testing.assert_array_equal(label[weight > 0], source.labels)


def test_evaluation_is_not_augmented():
    config = JPEG.replace(split="test", is_training=False)
    source = datasets.open_source(config, 10)
    plain = _take(datasets.inputs(source, config), 1)
    changed = config.replace(**RANDAUGMENT, **MIXED)
    _equal(plain, _take(datasets.inputs(source, changed), 1))


@pytest.mark.parametrize("name", ["digits", "tfrecords"])
def test_pipelines_share_the_batches_and_see_all(sets, name):
    config = sets[name].replace(global_batch_size=12)
    source = datasets.open_source(config, 10)
    steps = 2  # The whole of the TFRecords.
    whole = _take(datasets.inputs(source, config), steps)
    parts = [
        _take(datasets.inputs(source, config, 0, context), steps)
        for context in (tf.distribute.InputContext(2, k, 2) for k in range(2))
    ]
    for step in range(steps):
        labels = [part[step][1]["label"] for part in parts]
        assert [len(label) for label in labels] == [6, 6]
        np.testing.assert_array_equal(
            np.concatenate(labels), whole[step][1]["label"]
        )
    if isinstance(source, Files):  # Whose draws are an image's own.
        both = np.concatenate([parts[0][0][0], parts[1][0][0]])
        np.testing.assert_array_equal(both, whole[0][0])


def test_target_is_as_wide_as_the_model():
    config = JPEG.replace(augmentation="none", **MIXED)
    source = datasets.open_source(config, 12)
    _, labels = _take(datasets.inputs(source, config), 1)[0]
    assert labels["target"].shape == (10, 12)
    np.testing.assert_allclose(labels["target"].sum(1), 1, atol=1e-6)
    # Most of an image's label is its own or its neighbour's.
    rows = np.arange(10)
    pair = labels["target"][rows, labels["label"]]
    pair = pair + np.where(
        labels["label"] == np.roll(labels["label"], 1),
        0,
        labels["target"][rows, np.roll(labels["label"], 1)],
    )
    np.testing.assert_allclose(pair, 1, atol=1e-6)


@pytest.mark.slow
def test_official_augmenter_can_be_chosen():
    config = JPEG.replace(augmenter="official", randaugment_layers=1)
    source = datasets.open_source(config, 10)
    unbroken = _take(datasets.inputs(source, config), 2)
    # Its RandAugment is under our draws, so it can resume.
    _equal(unbroken[1:], _take(datasets.inputs(source, config, 1), 1))
    mixed = config.replace(randaugment_layers=0, **MIXED)
    _, labels = _take(datasets.inputs(source, mixed), 1)[0]
    np.testing.assert_allclose(labels["target"].sum(1), 1, atol=1e-5)
