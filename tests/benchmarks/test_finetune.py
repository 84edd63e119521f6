"""The fine-tuning of a converted network: five arms, one recipe."""

import keras
import numpy as np
import pytest

import evonorm_tf
from benchmarks import finetune
from evonorm_tf import efficientnet_lite
from evonorm_tf.nets import mobile
from training.images.sources import Memory

SIZE = mobile.Size(
    (mobile.Stage(1, 3, 2, 2, 8),), stem_filters=8, head_filters=16
)
SETTINGS = finetune.Settings(steps=4, batch=4, image_size=16, warmup=2)


@pytest.fixture(scope="module")
def weights():
    """A state dict of the small network, all of it at random."""
    rng = np.random.default_rng(0)
    shapes = {
        "_conv_stem": (8, 3, 3, 3),
        "_blocks.0._expand_conv": (16, 8, 1, 1),
        "_blocks.0._depthwise_conv": (16, 1, 3, 3),
        "_blocks.0._project_conv": (8, 16, 1, 1),
        "_conv_head": (16, 8, 1, 1),
    }
    norms = ("_bn0", "_blocks.0._bn0", "_blocks.0._bn1", "_blocks.0._bn2")
    found = {}
    for (name, shape), norm in zip(shapes.items(), (*norms, "_bn1")):
        found[f"{name}.weight"] = rng.standard_normal(shape) / 3
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{part}"] = rng.uniform(0.5, 1, shape[0])
    return found


def _source():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 8, 8, 3), np.uint8)
    return Memory(images, rng.integers(0, 10, 200).astype(np.int32), 10)


@pytest.fixture
def small(monkeypatch):
    load = efficientnet_lite.load
    monkeypatch.setattr(
        efficientnet_lite, "load", lambda w, **kw: load(w, SIZE, **kw)
    )


def test_an_arm_is_trained_and_measured(small, weights):
    # Compiling every site takes longer than all steps.
    with evonorm_tf.using(xla=False):
        sources = (_source(),) * 2
        result = finetune.run("evonorm_s0", 0.01, weights, sources, SETTINGS)
    assert [step for step, _ in result["curve"]] == [0, 1, 2, 3]
    assert 0 <= result["accuracy"] <= 1
    assert np.isfinite(result["training_loss"])


def test_frozen_batch_norms_stay_and_trained_ones_move(small, weights):
    for arm, trained in (("bn_frozen", False), ("bn_trained", True)):
        model = finetune.build(arm, weights)
        norms = [
            x
            for x in model.layers
            if isinstance(x, keras.layers.BatchNormalization)
        ]
        assert len(norms) == 5
        before = np.array(norms[0].moving_mean)
        model(np.ones((2, 16, 16, 3), np.float32), training=True)
        same = np.array_equal(before, np.array(norms[0].moving_mean))
        assert same != trained
    assert len(model.trainable_variables) == 5 + 2 * 5 + 2


def test_what_is_converted_depends_on_the_batch_with_b0_alone(small, weights):
    for arm in ("gn_silu", "evonorm_s0", "evonorm_b0"):
        model = finetune.build(arm, weights)
        kinds = [type(layer).__name__ for layer in model.layers]
        assert "ReLU" not in kinds
        batch = any(hasattr(layer, "moving_variance") for layer in model.layers)
        assert batch == (arm == "evonorm_b0")


def test_training_changes_every_kernel(small, weights, monkeypatch):
    built = []
    build = finetune.build
    monkeypatch.setattr(
        finetune,
        "build",
        lambda *a, **k: built.append(build(*a, **k)) or built[-1],
    )
    settings = finetune.Settings(
        steps=3, batch=4, image_size=16, warmup=1, seed=1
    )
    finetune.run("bn_trained", 0.01, weights, (_source(),) * 2, settings)
    keras.utils.set_random_seed(1)
    fresh = build("bn_trained", weights, image_size=(16, 16))
    for old, new in zip(
        fresh.trainable_variables, built[0].trainable_variables, strict=True
    ):
        # A beta whose mean the next BatchNorm subtracts has no gradient.
        if "kernel" in new.path:
            assert not np.array_equal(np.array(old), np.array(new)), new.path


def test_the_rate_rises_and_falls_to_zero():
    schedule = finetune.Schedule(0.01, finetune.Settings(steps=100, warmup=10))
    rates = [float(schedule(step)) for step in (0, 9, 55, 100)]
    assert rates == pytest.approx([0.001, 0.01, 0.005, 0], abs=1e-9)
