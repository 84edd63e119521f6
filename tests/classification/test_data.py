"""Batches: a pure function of (seed, step), every label in range."""

import numpy as np
import pytest
import tensorflow as tf

from classification import data
from classification.settings import Data
from classification.sources import Memory, Records
from evonorm_tf.training import datasets

DIGITS = Data(
    dataset="digits",
    global_batch_size=64,
    augmentation="crop_flip",
    mean=[0.5],
    std=[0.25],
)


def _take(dataset, count):
    return [
        (images.numpy(), labels["label"].numpy())
        for images, labels in dataset.take(count)
    ]


def _equal(left, right):
    assert len(left) == len(right)
    for (images, labels), (other_images, other_labels) in zip(
        left, right, strict=True
    ):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_digits_split_is_fixed_whole_and_stratified():
    train, test = datasets.digits("train"), datasets.digits("test")
    assert len(train[1]) + len(test[1]) == 1797
    share = np.bincount(test[1]) / np.bincount(train[1])
    np.testing.assert_allclose(share, 1 / 3, atol=0.02)
    rows = {image.tobytes() for image in train[0]}
    assert not [image for image in test[0] if image.tobytes() in rows]
    with pytest.raises(ValueError, match="validation"):
        datasets.digits("validation")


def test_a_later_start_gives_what_the_unbroken_run_gives():
    source = data.open_source(DIGITS, 10)
    # 1,352 examples: step 22 lies in the second epoch.
    unbroken = _take(data.inputs(source, DIGITS), 26)
    _equal(unbroken[22:], _take(data.inputs(source, DIGITS, 22), 4))
    other = _take(data.inputs(source, DIGITS.replace(seed=1)), 1)
    assert (unbroken[0][0] != other[0][0]).any()


def test_an_epoch_visits_every_example_once():
    config = DIGITS.replace(global_batch_size=52, augmentation="none")
    source = data.open_source(config, 10)
    assert source.examples == 26 * 52
    seen = np.concatenate(
        [images for images, _ in _take(data.inputs(source, config), 26)]
    )
    plain = (source.images / 255.0 - 0.5) / 0.25
    np.testing.assert_allclose(
        np.sort(seen.sum((1, 2, 3))), np.sort(plain.sum((1, 2, 3))), rtol=1e-4
    )


def test_evaluation_is_one_pass_with_a_padded_last_batch():
    config = DIGITS.replace(split="test", is_training=False)
    source = data.open_source(config, 10)
    batches = list(data.inputs(source, config))
    weight = np.concatenate([labels["weight"] for _, labels in batches])
    label = np.concatenate([labels["label"] for _, labels in batches])
    assert {len(images) for images, _ in batches} == {64}
    assert weight.sum() == source.examples
    np.testing.assert_array_equal(label[weight > 0], source.labels)


def test_two_pipelines_share_the_batch():
    source = data.open_source(DIGITS, 10)
    halves = [
        data.inputs(source, DIGITS, 3, tf.distribute.InputContext(2, k, 2))
        for k in range(2)
    ]
    whole = _take(data.inputs(source, DIGITS, 3), 1)[0][1]
    parts = [_take(half, 1)[0][1] for half in halves]
    assert [len(part) for part in parts] == [32, 32]
    np.testing.assert_array_equal(np.stack(parts, 1).ravel(), whole)


def test_label_outside_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"num_classes=10.*label=9"):
        data.open_source(DIGITS, 9)


def test_label_outside_the_classes_is_refused_while_reading(data_dir):
    config = Data(
        dataset="imagenet2012",
        split="train[:8]",
        tfds_data_dir=str(data_dir / "tfds"),
        image_size=32,
        global_batch_size=4,
    )
    source = data.open_source(config, 1000)
    wrong = Records(source.dataset, source.examples, 1, 32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside the 1"):
        list(data.inputs(wrong, config).take(2))


def test_records_start_where_the_unbroken_run_would_be(data_dir):
    config = Data(
        dataset="imagenet2012",
        split="train[:24]",
        tfds_data_dir=str(data_dir / "tfds"),
        image_size=32,
        global_batch_size=10,
        shuffle_buffer_size=24,
    )
    source = data.open_source(config, 1000)
    assert isinstance(source, Records)
    unbroken = _take(data.inputs(source, config), 6)
    assert unbroken[0][0].shape == (10, 32, 32, 3)
    _equal(unbroken[3:], _take(data.inputs(source, config, 3), 3))


def test_cifar_is_held_in_memory(data_dir):
    config = Data(
        dataset="cifar10",
        split="test[:50]",
        tfds_data_dir=str(data_dir / "tfds"),
    )
    source = data.open_source(config, 10)
    assert isinstance(source, Memory)
    assert source.images.shape == (50, 32, 32, 3)
    with pytest.raises(ValueError, match="test"):
        data.open_source(config.replace(split="tset"), 10)


def test_missing_directory_says_what_to_do(tmp_path):
    config = Data(dataset="cifar10", tfds_data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="tfds build cifar10"):
        data.open_source(config, 10)
