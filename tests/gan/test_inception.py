"""The loader of the Inception network, on made networks of its interface."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from gan import experiment
from gan.metrics import frechet, inception, measure
from gan.metrics.moments import Moments
from gan.metrics.score import ClassScore

RNG = np.random.default_rng
PIXELS = RNG(0).integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)


def _frozen(path, weights, bias, logits):
    """A graph named as the published one: one image in, as a decoder gives."""
    with tf.Graph().as_default() as graph:
        v1 = tf.compat.v1
        image = v1.placeholder(tf.uint8, [None, None, 3], "DecodeJpeg")
        x = tf.expand_dims(tf.cast(image, tf.float32), 0, name="ExpandDims")
        x = v1.image.resize_bilinear(x, (299, 299))
        x = (x - 128.0) * 0.0078125
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        kernel = tf.constant(weights.reshape(1, 1, 3, -1), tf.float32)
        x = tf.nn.conv2d(x, kernel, 1, "VALID")
        pool = tf.add(x, tf.constant(bias, tf.float32), name="pool_3")
        # One image alone, as in the published graph.
        flat = tf.reshape(pool, [1, len(bias)], name="pool_3/_reshape")
        table = tf.constant(logits, tf.float32, name="softmax/weights")
        tf.matmul(flat, table, name="softmax/logits/MatMul")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


@pytest.fixture(scope="module")
def ones(tmp_path_factory):
    """Features of ones, logits of zeros: as both of the published forms."""
    folder = tmp_path_factory.mktemp("ones")
    d, k = inception.FEATURES, inception.CLASSES
    frozen = _frozen(
        folder / "graph.pb", np.zeros((3, d)), np.ones(d), np.zeros((d, k))
    )

    class Module(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None, 299, 299, 3], tf.float32)]
        )
        def __call__(self, images):
            n = tf.shape(images)[0]
            return {"pool_3": tf.ones([n, d]), "logits": tf.zeros([n, k])}

    saved = str(folder / "module")
    tf.saved_model.save(Module(), saved)
    return {"frozen": frozen, "module": saved}


@pytest.mark.parametrize("form", ["frozen", "module"])
def test_both_forms_give_features_and_logits(ones, form):
    extract = inception.Inception(ones[form])
    features, logits = extract(PIXELS)
    np.testing.assert_array_equal(features, np.ones((3, 2048)))
    np.testing.assert_array_equal(logits, np.zeros((3, 1008)))
    assert extract.names.distance == "fid"
    assert len(extract.facts["sha256"]) == 64


@pytest.mark.slow  # The roots of 2048 x 2048 matrices.
def test_equal_features_are_at_no_distance_and_score_one(ones):
    features, logits = inception.Inception(ones["frozen"])(PIXELS)
    moments = Moments.of(features)
    assert frechet.distance(moments, moments) == 0
    score = ClassScore(3, inception.CLASSES, 1)
    score.update(logits)
    # A sum of 1008 terms, in float64.
    assert score.result() == pytest.approx((1.0, 0.0), abs=1e-12)


def test_frozen_graph_sees_each_image_of_a_batch(tmp_path):
    rng = RNG(1)
    weights = rng.standard_normal((3, 2048))
    logits = rng.standard_normal((2048, 1008)) / 50
    path = _frozen(tmp_path / "graph.pb", weights, np.zeros(2048), logits)
    features, found = inception.Inception(path)(PIXELS)
    resized = inception.resize(tf.cast(PIXELS, tf.float32)).numpy()
    expected = ((resized - 128) * 0.0078125).mean((1, 2)) @ weights
    # Means of 89,401 pixels in float32, in another order.
    np.testing.assert_allclose(features, expected, atol=1e-4)
    np.testing.assert_allclose(found, expected @ logits, atol=1e-3)


def test_resize_is_that_of_tensorflow_1():
    x = RNG(2).standard_normal((1, 32, 32, 1)).astype(np.float32)
    source = np.arange(299) * 32 / 299
    low = np.floor(source).astype(int)
    high, share = np.minimum(low + 1, 31), (source - low)[:, np.newaxis]

    def along(y):
        return y[low] * (1 - share) + y[high] * share

    expected = along(along(x[0, :, :, 0]).T).T
    found = inception.resize(x)[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=3e-5)
    today = tf.image.resize(x, (299, 299))[0, :, :, 0]
    assert np.abs(today - expected).mean() > 0.05


def test_hash_is_checked_and_other_networks_are_refused(ones, tmp_path):
    with open(ones["frozen"], "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    found = inception.Inception(ones["frozen"], digest[:16].upper())
    assert found.facts["sha256"] == digest
    with pytest.raises(ValueError, match=f"not the requested one.*{digest}"):
        inception.Inception(ones["frozen"], "0123456789abcdef")
    with pytest.raises(ValueError, match=r"classify_image_graph_def\.pb"):
        inception.Inception(str(tmp_path / "nothing.pb"))
    with pytest.raises(ValueError, match="not a frozen graph"):
        (tmp_path / "text.pb").write_text("not a graph at all")
        inception.Inception(str(tmp_path / "text.pb"))
    small = _frozen(
        tmp_path / "small.pb", np.zeros((3, 64)), np.ones(64), np.eye(64)
    )
    with pytest.raises(ValueError, match=r"logits of \[64, 64\]"):
        inception.Inception(small)
    with tf.Graph().as_default() as graph:
        tf.constant(1.0, name="pool_3")
    (tmp_path / "other.pb").write_bytes(
        graph.as_graph_def().SerializeToString()
    )
    with pytest.raises(ValueError, match="not the 2015 Inception"):
        inception.Inception(str(tmp_path / "other.pb"))


def test_extractor_is_opened_by_its_kind(ones):
    settings = experiment.Evaluation(
        extractor="inception", path=ones["frozen"], sha256="0" * 16
    )
    with pytest.raises(ValueError, match=r"sha256='0{16}'"):
        measure.open_extractor(settings)
    with pytest.raises(ValueError, match="extractor='own'"):
        measure.open_extractor(experiment.Evaluation())
