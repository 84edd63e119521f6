"""Batches as a function of (seed, step); real sets and their errors."""

import os

import numpy as np
import pytest
import tensorflow as tf

from gan import datasets, experiment, latent, sets
from tests.classification import images as written
from training.images import readers
from training.images.sources import Files, Memory


def _numbered(count):
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    labels = np.arange(count, dtype=np.int32)
    return Memory(pixels, labels, count, name="numbered")


def _join(parts):
    return [item for part in parts for item in part]


def _labels(batches, *args):
    stream = datasets.inputs(_numbered(10), *args).take(batches)
    return [labels.numpy().tolist() for _, labels in stream]


def test_every_image_comes_once_an_epoch_in_another_order():
    stream = _join(_labels(15, 0, 4))
    epochs = [stream[k : k + 10] for k in range(0, 60, 10)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert _join(_labels(15, 1, 4)) != stream


def test_stream_from_a_later_step_is_the_rest_of_it():
    assert _labels(4, 0, 4, 7) == _labels(11, 0, 4)[7:]


def test_replicas_and_pipelines_share_each_step_out():
    whole = _labels(3, 0, 8)
    one = _labels(12, 0, 2, 0, tf.distribute.InputContext(1, 0, 4))
    assert [_join(one[k : k + 4]) for k in (0, 4, 8)] == whole
    two = [
        _labels(6, 0, 2, 0, tf.distribute.InputContext(2, pipeline, 4))
        for pipeline in (0, 1)
    ]
    steps = [_join(two[0][k : k + 2] + two[1][k : k + 2]) for k in (0, 2, 4)]
    assert steps == whole


def test_pixels_survive_the_round_trip():
    pixels = tf.cast(tf.range(256), tf.uint8)
    floats = datasets.to_float(pixels)
    assert (float(floats[0]), float(floats[-1])) == (-1.0, 1.0)
    np.testing.assert_array_equal(datasets.to_uint8(floats), pixels)
    np.testing.assert_array_equal(datasets.to_uint8([-1.2, 1.2]), [0, 255])


def test_images_and_labels_stay_together():
    images, labels = next(iter(datasets.inputs(_numbered(10), 0, 4)))
    expected = datasets.to_float(tf.cast(labels, tf.uint8))
    np.testing.assert_array_equal(images[:, 0, 0, 0], expected)


def _model(**changes):
    return experiment.Model(architecture="biggan32", num_classes=10, **changes)


def test_digits_are_resized_and_split():
    settings = experiment.Data(dataset="digits")
    train = datasets.open_images(settings, _model())
    test = datasets.open_images(settings, _model(), "test")
    assert train.images.shape == (1352, 32, 32, 3)
    assert train.examples + test.examples == 1797
    assert (train.images.min(), train.images.max()) == (0, 255)
    for classes in (9, 11):
        with pytest.raises(ValueError, match="num_classes=10"):
            datasets.open_images(
                settings, _model().replace(num_classes=classes)
            )


def test_cifar10_in_the_layout_of_tfds(data_dir):
    settings = experiment.Data(
        dataset="cifar10",
        split="test[:500]",
        tfds_data_dir=str(data_dir / "tfds"),
    )
    images = datasets.open_images(settings, _model())
    assert images.images.shape == (500, 32, 32, 3)
    counts = np.bincount(images.labels)
    assert len(counts) == 10 and counts.min() > 25  # 50 expected.
    assert images.name == "cifar10/3.0.2/test[:500], JPEG (accurate DCT)"
    with pytest.raises(ValueError, match="Choose the matching"):
        datasets.open_images(settings, experiment.Model())
    settings.split = "dev"
    with pytest.raises(ValueError, match="'test', 'train'"):
        datasets.open_images(settings, _model())


def test_files_are_cut_to_the_centre_and_averaged():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = np.arange(40)[:, np.newaxis, np.newaxis] * 6
    picture[:, :20] = 255  # What a centre square of 40 leaves out.
    encoded = tf.io.encode_png(picture)  # No loss, and by the other decoder.
    found = datasets.centre(encoded, tf.constant("one"), 20).numpy()
    assert found.shape == (20, 20, 3)
    # The mean of each two rows.
    np.testing.assert_array_equal(found[:, 0, 0], np.arange(20) * 12 + 3)
    assert (found == found[:, :1]).all()
    jpeg = tf.io.encode_jpeg(picture, quality=100, chroma_downsampling=False)
    close = datasets.centre(jpeg, tf.constant("one"), 20).numpy()
    # A JPEG rounds, most at the edge that the square's border is on.
    assert np.abs(close[:, 2:-2].astype(int) - found[:, 2:-2]).max() <= 8
    with pytest.raises(Exception, match="record 7 of x cannot be read"):
        datasets.centre(tf.constant(b"GIF89a"), tf.constant("record 7 of x"), 8)


@pytest.mark.slow  # tests/training/images/test_batches.py has it for all heads.
def test_stream_of_files_resumes_and_shares_out():
    settings = experiment.Data(dataset="jpeg_digits")
    images = datasets.open_images(settings, _model())
    assert (images.examples, images.size, images.classes) == (1352, 32, 10)

    def take(count, *args):
        batches = datasets.inputs(images, 3, *args).take(count)
        return [(x.numpy(), y.numpy()) for x, y in batches]

    # 1352 / 8 = 169 steps an epoch: the third step here begins another.
    whole = take(4, 8, 167)
    later = take(2, 8, 169)
    for (x, y), (x_later, y_later) in zip(whole[2:], later, strict=True):
        np.testing.assert_array_equal(x, x_later)
        np.testing.assert_array_equal(y, y_later)
    halves = [
        take(1, 4, 167, tf.distribute.InputContext(2, pipeline, 2))
        for pipeline in (0, 1)
    ]
    joined = np.concatenate([half[0][0] for half in halves])
    np.testing.assert_array_equal(joined, whole[0][0])
    assert whole[0][0].dtype == np.float32
    assert -1 <= whole[0][0].min() < -0.9 < 0.5 < whole[0][0].max() <= 1
    in_order = np.concatenate(list(datasets.in_order(images, 500)))
    assert in_order.shape == (1352, 32, 32, 3)


def test_a_record_that_cannot_be_read_is_one_message(tmp_path):
    written.write_tfrecords(tmp_path, counts=(3, 3))

    def parse(record):
        features = {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        }
        row = tf.io.parse_single_example(record, features)
        return row["image/encoded"], row["image/class/label"]

    paths = sorted(map(str, tmp_path.glob("train-*")))
    shards = tuple(readers.Shard(path, 3) for path in paths)
    found = Files(readers.Shards(shards, parse), 10, 16)
    assert [len(x) for x in datasets.in_order(found, 4)] == [4, 2]

    def refused():
        with pytest.raises(ValueError, match="data cannot be read") as caught:
            list(sets._readable(found, "tfds:these/digits"))
        assert str(caught.value).count("data check") == 1
        return str(caught.value)

    written.damage(paths[1])
    text = refused()
    assert "corrupted record at" in text and "tfds:these/digits" in text
    with tf.io.TFRecordWriter(paths[1]) as file:
        for _ in range(3):
            file.write(written.example(b"no image", 1))
    assert f"record 0 of {paths[1]}" in refused()


@pytest.mark.slow
def test_imagenet_in_the_layout_of_tfds(data_dir):
    root = str(data_dir / "tfds")
    if not os.path.isdir(os.path.join(root, "imagenet2012")):
        pytest.skip("no ImageNet images")
    settings = experiment.Data(
        dataset="imagenet2012", split="train", tfds_data_dir=root
    )
    settings.shuffle_buffer_size = 16
    model = experiment.Model()
    images = datasets.open_images(settings, model)
    assert (images.size, images.classes) == (128, 1000)

    def take(count, start):
        return [
            x.numpy()
            for x, _ in datasets.inputs(images, 0, 4, start).take(count)
        ]

    whole, later = take(3, 0), take(1, 2)
    assert whole[0].shape == (4, 128, 128, 3)
    np.testing.assert_array_equal(whole[2], later[0])
    assert np.abs(whole[0] - whole[1]).mean() > 0.1


def test_missing_set_says_how_to_make_it(tmp_path):
    settings = experiment.Data(dataset="mnist", tfds_data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="tfds build mnist"):
        datasets.open_images(settings, _model())


def test_latents_hang_on_their_place_alone():
    key = latent.key(0, 1, 2, 3)
    np.testing.assert_array_equal(key, latent.key(0, 1, 2, 3))
    others = [(0, 1, 3, 2), (0, 1, 2), (0, 2, 2, 3), (1, 1, 2, 3)]
    places = {tuple(latent.key(*place).numpy()) for place in others}
    assert len(places | {tuple(key.numpy())}) == 5
    z, labels = latent.draw(key, 4000, 3, 5)
    assert float(tf.reduce_mean(z)) == pytest.approx(0, abs=0.05)
    assert float(tf.math.reduce_std(z)) == pytest.approx(1, abs=0.05)
    assert np.bincount(labels).min() > 700  # 800 expected, deviation 25.
    assert np.bincount(labels).size == 5


def test_truncated_latents_stay_within():
    key = latent.key(0, 1)
    z = latent.truncated(key, 1000, 4, 0.5)
    assert 0.9 < float(tf.reduce_max(tf.abs(z))) <= 1.0
    plain = latent.truncated(key, 1000, 4, 0.0)
    assert float(tf.reduce_max(tf.abs(plain))) > 2.5
    # Each is narrower than the next, and none wider than plain normals.
    widths = [
        float(tf.math.reduce_std(latent.truncated(key, 1000, 4, t)))
        for t in (*experiment.Evaluation().truncations[::-1], 0.0)
    ]
    assert widths == sorted(widths)


@pytest.mark.parametrize("truncation", [2.0, 1.01, -0.5, float("nan")])
def test_truncations_wider_than_none_are_refused(truncation):
    with pytest.raises(ValueError, match=r"at most 1.*truncation="):
        latent.truncated(latent.key(0, 1), 10, 4, truncation)


def test_way_between_latents_keeps_their_length():
    one = latent.truncated(latent.key(0, 1), 3, 64, 0.0)
    other = latent.truncated(latent.key(0, 2), 3, 64, 0.0)
    way = latent.between(one, other, 5)
    assert way.shape == [3, 5, 64]
    np.testing.assert_allclose(way[:, 0], one, atol=1e-6)
    np.testing.assert_allclose(way[:, -1], other, atol=1e-5)
    middle = tf.norm(way[:, 2], axis=-1)
    # Straight on, it would be 0.7 of that.
    assert float(tf.reduce_min(middle / tf.norm(one, axis=-1))) > 0.85


@pytest.mark.parametrize("dataset", ["digits", "jpeg_digits"])
def test_a_setting_that_the_dataset_does_not_read_is_refused(dataset):
    data = experiment.Data(dataset=dataset, tfds_data_dir="t")
    with pytest.raises(ValueError, match=r"omit tfds_data_dir.*'t'"):
        datasets.open_set(data, 32)
