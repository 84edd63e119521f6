"""create_model and list_models, in both Kerases."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import evonorm_tf
from evonorm_tf import legacy
from tests.nets.small import DEBUG, copy, disturb, norm_acts

IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
LIBRARIES = {True: tf_keras, False: keras}
small = functools.partial(evonorm_tf.create_model, image_size=32, **DEBUG)


@pytest.mark.parametrize("legacy", LIBRARIES)
def test_the_model_is_of_the_keras_asked_for(legacy):
    model = small("resnet50", "evonorm_s0", 7, legacy=legacy)
    assert isinstance(model, LIBRARIES[legacy].Model)
    assert model(IMAGES).shape == (4, 7)
    assert model.name == "resnet50"
    found = norm_acts(model)
    assert len(found) == 13  # Three a block, four blocks, one at the end.
    assert {x.row.name for x in found} == {"evonorm_s0"}


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        # With fewer kinds of layers, which test_parity.py compares.
        pytest.param("resnet50_postact", marks=pytest.mark.slow),
        # An efficientnet_b0 without excitation, of another activation.
        pytest.param("mobilenet_v2_cifar", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "norm_act",
    [pytest.param("bn_silu", marks=pytest.mark.slow), "evonorm_b0"],
)
def test_both_kerases_give_equal_outputs(name, norm_act):
    new, old = small(name, norm_act, 5), small(name, norm_act, 5, legacy=True)
    disturb(new)
    copy(new, old)
    want = np.array(old(IMAGES, training=False))
    # float32, and a convolution sums in the same order in both.
    np.testing.assert_allclose(
        new(IMAGES, training=False), want, rtol=1e-5, atol=1e-6
    )
    assert want.std() > 1e-4


def test_a_saved_model_is_the_model(tmp_path):
    # Two blocks per stage: the second has stochastic depth.
    model = small("efficientnet_b0", "evonorm_b0", 5, max_depth=2)
    assert any(getattr(x, "noise_shape", None) for x in model.layers)
    disturb(model)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))
    assert [x.name for x in norm_acts(again)] == [
        x.name for x in norm_acts(model)
    ]


# Networks are the same code in both, and what differs is Keras's own policy.
@pytest.mark.parametrize(
    "legacy", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_mixed_precision_keeps_logits_and_weights_in_float32(legacy):
    want = small("efficientnet_b0", "evonorm_s0", 5, legacy=legacy)
    if legacy:
        set_policy = tf_keras.mixed_precision.set_global_policy
    else:
        set_policy = keras.config.set_dtype_policy
    try:
        set_policy("mixed_bfloat16")
        model = small("efficientnet_b0", "evonorm_s0", 5, legacy=legacy)
    finally:
        set_policy("float32")
    copy(want, model)
    logits = model(IMAGES)
    assert logits.dtype == tf.float32
    assert norm_acts(model)[1].compute_dtype == "bfloat16"
    for layer in model.layers:
        for weight in layer.weights:
            assert weight.dtype in ("float32", tf.float32), weight.name
    # 8 bits, and a network of 20 layers; 2 to 4 % over 8 draws of weights.
    want = np.array(want(IMAGES))
    error = np.abs(logits - want).mean() / want.std()
    assert 0 < error < 0.1


def test_any_height_and_width():
    model = small("mobilenet_v2", image_size=(None, None), num_classes=3)
    assert model.input_shape == (None, None, None, 3)
    assert model(IMAGES[:, :24, :20]).shape == (4, 3)
    grey = small("resnet18", image_size=(28, 28, 1), num_classes=3)
    assert grey.input_shape == (None, 28, 28, 1)


def test_numpys_integers_are_integers():
    side, classes = np.int64(32), np.int32(7)
    model = small("resnet8_cifar", "bn_relu", classes, image_size=side)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 7)
    # What a model stores is Python's.
    keras.models.model_from_json(model.to_json())
    model = small("resnet8_cifar", "bn_relu", image_size=(None, side, side))
    assert model.input_shape == (None, None, 32, 32)


def test_image_sizes_are_the_networks_own():
    model = evonorm_tf.create_model("efficientnet_b3", num_classes=3, **DEBUG)
    assert model.input_shape == (None, 300, 300, 3)


def test_a_callable_brings_settings_of_its_own():
    norm_act = functools.partial(evonorm_tf.norm_act, "evonorm_s0", groups=4)
    model = small("mobilenet_v2", norm_act)
    assert {x.groups for x in norm_acts(model)} == {4}
    wrong = functools.partial(legacy.norm_act, "evonorm_s0")
    with pytest.raises(TypeError, match=r"evonorm_tf\.layers"):
        small("mobilenet_v2", wrong)


@pytest.mark.parametrize("in_legacy", LIBRARIES)
def test_a_layer_is_not_taken_for_a_callable_that_creates_layers(in_legacy):
    module = "evonorm_tf.legacy" if in_legacy else "evonorm_tf"
    layers = (
        evonorm_tf.NormAct("evonorm_s0"),
        legacy.NormAct("evonorm_s0"),
        LIBRARIES[in_legacy].layers.BatchNormalization(),
    )
    for layer in layers:
        with pytest.raises(TypeError, match=rf"partial\({module}\.norm_act, "):
            small("resnet8_cifar", layer, legacy=in_legacy)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"Did you mean resnet50.*'resnet_50'"):
        small("resnet_50")
    with pytest.raises(ValueError, match="evonorm_s0"):
        small("resnet50", "evonorm_s00")
    for bad in (["resnet50"], None, 3):
        with pytest.raises(ValueError, match=r"list_models\(\) lists them all"):
            small(bad)
    for bad in (10.0, 0, True, None, "10"):
        with pytest.raises(ValueError, match=f"num_classes={bad!r}"):
            small("resnet50", num_classes=bad)
    for bad in (1.5, -1, True, "2"):
        with pytest.raises(ValueError, match=f"max_depth={bad!r}"):
            small("resnet50", max_depth=bad)
    for bad in (0, "1", True, float("nan")):
        with pytest.raises(ValueError, match=f"width={bad!r}"):
            small("resnet50", width=bad)
    for bad in (0, True, 32.0, (32, 32, 3, 1), "32", (32, 32, None)):
        with pytest.raises(ValueError, match="image_size"):
            small("resnet50", image_size=bad)


def test_listing_models_imports_no_tensorflow():
    code = (
        "import sys, evonorm_tf; print(*evonorm_tf.list_models());"
        "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names, heavy = done.stdout.splitlines()
    assert heavy == "set()"
    issue = ["resnet50", "resnet101", "mobilenet_v2", "mnasnet_b1"]
    issue += [f"efficientnet_b{i}" for i in range(6)]
    assert {*issue} <= {*names.split()}
