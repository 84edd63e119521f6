"""Exported generators compute what the model computes."""

import json

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from gan import export, latent, restore
from tests.gan import small

LABELS = np.arange(4, dtype=np.int32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of B0, whose batch statistics have to be settled."""
    folder = tmp_path_factory.mktemp("run")
    params = small.parameters("evonorm_b0", train_steps=1)
    with evonorm_tf.using(xla=False):
        with small.eagerly():
            small.make(folder, params)
        yield restore.restore(str(folder))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The folder of an export in all formats, and what was compared."""
    folder = tmp_path_factory.mktemp("exported")
    return folder, export.export(run, str(folder), list(export.FORMATS))


@pytest.fixture(scope="module")
def served(exported):
    """The signatures, read by TensorFlow alone."""
    return tf.saved_model.load(str(exported[0] / "saved_model")).signatures


def test_every_format_is_compared_and_described(run, exported):
    folder, done = exported
    about = json.loads((folder / "export.json").read_text())
    assert about["step"] == run.step == 1
    assert about["weights"] == "averaged"
    assert about["latent_size"] == 8 and about["classes"] == 10
    assert set(about["files"]) == set(done) == set(export.FORMATS)
    assert all(one.difference <= 1e-4 for one in done.values())


def test_class_and_truncation_are_inputs(run, served):
    z = np.random.default_rng(1).normal(size=[4, 8]).astype("float32")

    def images(labels, truncation):
        return served["serving_default"](
            latents=tf.constant(z),
            labels=tf.constant(labels),
            truncation=tf.fill([4], truncation),
        )

    got = images(LABELS, 0.5)
    assert got["images"].dtype == tf.uint8
    wanted = run.generator(0.5 * z, LABELS, training=False)
    np.testing.assert_allclose(got["values"], wanted, atol=1e-4)
    for other in (images(LABELS, 1.0), images(LABELS[::-1].copy(), 0.5)):
        assert np.abs(other["values"] - got["values"]).max() > 1e-4


@pytest.mark.parametrize("truncation", [0.0, 0.5])
def test_samples_are_those_of_their_seed(run, served, truncation):
    seed = tf.constant([3, 4], tf.int64)
    got = served["sample"](
        labels=tf.constant(LABELS),
        truncation=tf.constant(truncation),
        seed=seed,
    )
    z = latent.truncated(seed, 4, 8, truncation)
    wanted = run.generator(z, LABELS, training=False)
    np.testing.assert_allclose(got["values"], wanted, atol=1e-4)


def test_a_truncation_wider_than_none_is_refused(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 1"):
        served["sample"](
            labels=tf.constant(LABELS),
            truncation=tf.constant(2.0),
            seed=tf.constant([3, 4], tf.int64),
        )


def test_what_differs_or_is_unknown_is_refused(run, tmp_path):
    with pytest.raises(
        ValueError, match=r"saved_model, tflite\. Received: \['h5'\]"
    ):
        export.export(run, str(tmp_path), ["h5"])
    with (
        small.eagerly(),
        pytest.raises(ValueError, match="export differs from the model"),
    ):
        export.export(run, str(tmp_path), ["tflite"], tolerance=0.0)
    assert not (tmp_path / "export.json").exists()
