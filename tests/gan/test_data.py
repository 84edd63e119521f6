"""Batches as a function of (seed, step); real sets and their errors."""

import numpy as np
import pytest
import tensorflow as tf

from gan import data, experiment, latent


def _numbered(count):
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return data.Images("numbered", pixels, np.arange(count, dtype=np.int32))


def _join(parts):
    return [item for part in parts for item in part]


def _labels(batches, *args):
    stream = data.inputs(_numbered(10), *args).take(batches)
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
    floats = data.to_float(pixels)
    assert (float(floats[0]), float(floats[-1])) == (-1.0, 1.0)
    np.testing.assert_array_equal(data.to_uint8(floats), pixels)
    np.testing.assert_array_equal(data.to_uint8([-1.2, 1.2]), [0, 255])


def test_images_and_labels_stay_together():
    images, labels = next(iter(data.inputs(_numbered(10), 0, 4)))
    expected = data.to_float(tf.cast(labels, tf.uint8))
    np.testing.assert_array_equal(images[:, 0, 0, 0], expected)


def _model(**changes):
    return experiment.Model(architecture="biggan32", num_classes=10, **changes)


def test_digits_are_resized_and_split():
    settings = experiment.Data(dataset="digits")
    train = data.open_images(settings, _model())
    test = data.open_images(settings, _model(), "test")
    assert train.pixels.shape == (1352, 32, 32, 3)
    assert len(train) + len(test) == 1797
    assert (train.pixels.min(), train.pixels.max()) == (0, 255)
    with pytest.raises(ValueError, match="num_classes=10"):
        data.open_images(settings, _model().replace(num_classes=9))


def test_cifar10_in_the_layout_of_tfds(data_dir):
    settings = experiment.Data(
        dataset="cifar10", split="test", tfds_data_dir=str(data_dir / "tfds")
    )
    images = data.open_images(settings, _model())
    assert images.pixels.shape == (10_000, 32, 32, 3)
    assert np.bincount(images.labels).tolist() == [1000] * 10
    assert images.name == "cifar10/3.0.2/test, JPEG"
    with pytest.raises(ValueError, match="Choose the architecture"):
        data.open_images(settings, experiment.Model())
    settings.split = "dev"
    with pytest.raises(ValueError, match="'test', 'train'"):
        data.open_images(settings, _model())


def test_missing_set_says_how_to_make_it(tmp_path):
    settings = experiment.Data(dataset="mnist", tfds_data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="tfds build mnist"):
        data.open_images(settings, _model())


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
