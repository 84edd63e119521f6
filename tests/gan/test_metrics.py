"""Golden numbers of the Frechet distance and the class score."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
import tf_keras

from gan import datasets
from gan.metrics import classifier, extractor, frechet
from gan.metrics.moments import Moments
from gan.metrics.score import ClassScore
from training.images.sources import Memory

RNG = np.random.default_rng


def _random(n, d, seed=0):
    rng = RNG(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 0.3


def _distance(one, other):
    return frechet.distance(Moments.of(one), Moments.of(other))


@pytest.mark.parametrize("d", [64, pytest.param(2048, marks=pytest.mark.slow)])
def test_equal_covariances_leave_the_means(d):
    eye, zeros, ones = np.eye(d), np.zeros(d), np.ones(d)
    assert frechet.of_gaussians(zeros, eye, ones, eye) == pytest.approx(d)


def test_two_features_of_a_hundred_samples():
    # Means differ by (4, 8); deviations sqrt(25/99) and sqrt(1225/99).
    real = np.ones((100, 2))
    real[:50, 0] = 2
    made = np.full((100, 2), 9.0)
    made[50:, 0] = 2
    assert _distance(real, made) == pytest.approx(89.0909091, abs=1e-7)


def test_one_dimension():
    assert frechet.of_gaussians([0], [[4]], [3], [[9]]) == pytest.approx(10)


def test_diagonal_is_the_sum_of_squared_differences_of_deviations():
    a, b = RNG(0).uniform(0.1, 4, (2, 30))
    zeros = np.zeros(30)
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet.of_gaussians(zeros, np.diag(a), zeros, np.diag(b))
    assert found == pytest.approx(expected, rel=1e-12)


def test_covariances_that_do_not_commute():
    found = frechet.of_gaussians(
        [1, 0], [[2, 0.5], [0.5, 1]], [0, 2], [[1, -0.3], [-0.3, 3]]
    )
    assert found == pytest.approx(5.929311854967773, abs=1e-11)


@pytest.mark.parametrize("d", [3, 64])
def test_agrees_with_the_general_matrix_root(d):
    one, other = (np.cov(_random(4 * d, d, s), rowvar=False) for s in (0, 1))
    root = scipy.linalg.sqrtm(one @ other)
    expected = np.trace(one) + np.trace(other) - 2 * np.trace(root).real
    zeros = np.zeros(d)
    found = frechet.of_gaussians(zeros, one, zeros, other)
    assert found == pytest.approx(expected, rel=1e-8)


def test_fewer_samples_than_features():
    # tr (S1 S2)^(1/2) is the nuclear norm of the centred cross product.
    one, other = RNG(0).standard_normal((2, 20, 50))
    a, b = one - one.mean(0), other - other.mean(0)
    nuclear = np.linalg.norm(a @ b.T, "nuc") / 19
    shift = one.mean(0) - other.mean(0)
    expected = shift @ shift + ((a**2).sum() + (b**2).sum()) / 19 - 2 * nuclear
    # Roots of rounding errors: sqrt(1e-15) for each lost dimension.
    assert _distance(one, other) == pytest.approx(expected, abs=1e-4)


def test_zero_to_itself_symmetric_and_blind_to_rotation_and_shift():
    one, other = _random(300, 8, 0), _random(300, 8, 1)
    expected = _distance(one, other)
    assert _distance(one, one) == pytest.approx(0, abs=1e-8)
    assert _distance(other, one) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(RNG(2).standard_normal((8, 8)))[0]
    moved = _distance(one @ turn + 5, other @ turn + 5)
    assert moved == pytest.approx(expected, rel=1e-9)


def test_moments_in_ragged_batches_equal_numpy():
    features = _random(9007, 6) + 100
    buffered, merged = Moments(6), Moments(6)
    for part in np.split(features, [1, 1, 40, 47, 5000]):
        buffered.update(part)
        merged.update(part)
        assert np.isfinite(merged.mean).all()  # Adds what is buffered.
    for moments in (buffered, merged):
        assert moments.count == 9007
        np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-13)
        np.testing.assert_allclose(
            moments.covariance(), np.cov(features, rowvar=False), rtol=1e-10
        )


def test_moments_refuse_what_has_no_distance():
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        Moments(3).update(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="1 of 4 samples"):
        Moments(2).update([[0, 1], [2, 3], [np.nan, 1], [1, 1]])
    with pytest.raises(ValueError, match="count=1"):
        Moments.of(np.zeros((1, 2))).covariance()


def _score(logits, splits=1, batch=7):
    score = ClassScore(len(logits), len(logits[0]), splits)
    for first in range(0, len(logits), batch):
        score.update(logits[first : first + batch])
    return score.result()


def test_score_of_known_distributions():
    certain = np.eye(10).repeat(30, axis=0) * 1e9  # Exact ones and zeros.
    assert _score(np.zeros((50, 10)))[0] == pytest.approx(1)
    assert _score(certain)[0] == pytest.approx(10)
    assert _score(certain[:60])[0] == pytest.approx(2)


def test_score_in_one_pass_equals_its_definition():
    logits = RNG(0).standard_normal((101, 7)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert _score(logits)[0] == pytest.approx(expected, rel=1e-12)


def test_score_of_two_samples_and_a_thousand_classes():
    logits = np.array([[1, 2] * 500 + [4], [4, 5] * 500 + [6]], np.float64)
    assert _score(logits)[0] == pytest.approx(1.00080878, abs=5e-9)


def test_splits_are_shuffled():
    by_class = np.eye(10).repeat(100, axis=0) * 50.0
    mean, deviation = _score(by_class, splits=10, batch=33)
    assert mean > 9.0  # One class a split would be 1.
    assert 0 < deviation < 0.5


def test_score_refuses_the_wrong_number_of_samples():
    score = ClassScore(10, 3, 2)
    score.update(np.zeros((8, 3)))
    with pytest.raises(ValueError, match="Received: 8"):
        score.result()
    with pytest.raises(ValueError, match="Received: 11"):
        score.update(np.zeros((3, 3)))


def _classifier(activation=None):
    inputs = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Flatten()(inputs)
    x = tf_keras.layers.Dense(5, activation="relu")(x)
    x = tf_keras.layers.Dense(4, activation=activation)(x)
    return tf_keras.Model(inputs, x)


def test_extractor_cuts_a_classifier_before_its_last_layer():
    model = _classifier("softmax")
    extract = extractor.KerasClassifier(model, "m")
    pixels = RNG(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    features, logits = extract(pixels)
    assert (features.shape, extract.size, extract.classes) == ((3, 5), 5, 4)
    expected = model(datasets.to_float(pixels))
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-6)
    about = extractor.about(extract.facts)
    assert extractor.digest(model)[:12] in about
    assert "fid" not in (str(extract.names) + about).lower()
    with pytest.raises(ValueError, match="8 px"):
        extract(np.zeros((1, 9, 9, 3), np.uint8))


def test_half_precision_and_other_shapes_of_a_classifier(tmp_path):
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = _classifier()
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    extract = extractor.KerasClassifier(half, "m")
    features, logits = extract(np.zeros((2, 8, 8, 3), np.uint8))
    assert features.dtype == logits.dtype == np.float32
    with pytest.raises(ValueError, match=r"8x8 px.*8, 9, 3"):
        extract(np.zeros((1, 8, 9, 3), np.uint8))
    text = tmp_path / "text.keras"
    text.write_text("no model")
    with pytest.raises(ValueError, match=r"not a model that.*text\.keras"):
        extractor.load(str(text))


def test_own_classifier_is_of_its_data_and_in_float32(tmp_path):
    pixels = RNG(0).integers(0, 256, (70, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(70, dtype=np.int32) % 3
    images = Memory(pixels, labels, 3, name="some")
    digests = []
    before = tf_keras.mixed_precision.global_policy()
    for name in ("float32", "mixed_bfloat16"):
        tf_keras.mixed_precision.set_global_policy(name)
        try:
            (tmp_path / name).mkdir()
            found = classifier.own(str(tmp_path / name), images, 1)
        finally:
            tf_keras.mixed_precision.set_global_policy(before)
        digests.append(found.facts["sha256"])
    assert digests[0] == digests[1]
    folder = tmp_path / "float32"
    content = (folder / classifier.FILE).read_bytes()
    again = classifier.own(str(folder), images, 1)
    assert again.facts["sha256"] == digests[0]
    other = Memory(pixels, labels, 3, name="others")
    for wrong, steps in ((other, 1), (images, 2)):
        with pytest.raises(ValueError, match="trained differently"):
            classifier.own(str(folder), wrong, steps)
    assert (folder / classifier.FILE).read_bytes() == content


def test_own_classifier_is_channels_last_whatever_keras_is_configured_for():
    want = classifier._network((8, 8, 3), 4)
    try:
        tf_keras.backend.set_image_data_format("channels_first")
        found = classifier._network((8, 8, 3), 4)
    finally:
        tf_keras.backend.set_image_data_format("channels_last")
    images = RNG(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(found(images), want(images))


def test_digest_names_the_weights():
    model = _classifier()
    before = extractor.digest(model)
    assert extractor.digest(tf_keras.models.clone_model(model)) != before
    model.layers[-1].bias.assign_add([0, 0, 0, 1e-7])
    assert extractor.digest(model) != before
    inputs = tf_keras.Input((8,))
    flat = tf_keras.Model(inputs, tf_keras.layers.ReLU()(inputs))
    with pytest.raises(ValueError, match="ends in ReLU"):
        extractor.KerasClassifier(flat, "m")
    with pytest.raises(ValueError, match="no classifier"):
        extractor.load("nowhere.keras")
