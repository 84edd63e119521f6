"""Published networks: site counts, shape, a training step, save and load."""

import os
import pathlib
import subprocess
import sys

import pytest

import evonorm_tf
from evonorm_tf.conversion.graph import kit_of
from evonorm_tf.conversion.sites import find
from tests import cases
from tests.convert import small

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*plain affine", "ignore:.*still depends on the batch"
)
ROOT = pathlib.Path(__file__).resolve().parents[2]
SIDE = 64
# Sites with an activation and without. ResNet50: the stem, two a block, and
# one more without; four shortcuts. ResNet50V2: three a block, and the last.
# MobileNetV2: two a block but for the first, one without, and two outside;
# EfficientNetB0 likewise.
NETWORKS = {
    "ResNet50": (1 + 2 * 16, 16 + 4),
    "ResNet50V2": (3 * 16 + 1, 0),
    "MobileNetV2": (16 + 17 + 2, 17),
    "EfficientNetB0": (15 + 16 + 2, 16),
}


@pytest.fixture(autouse=True)
def _uncompiled():
    # One small batch; compiling each layer for it would take longer.
    with evonorm_tf.using(xla=False):
        yield


def _model(kit_name, name, **options):
    keras = cases.kit(kit_name).keras
    make = getattr(keras.applications, name)
    shape = (SIDE, SIDE, 3)
    return make(weights=None, input_shape=shape, classes=4, **options)


def _check(kit_name, model, norm_act, sites, path, mode="normalize"):
    old = model(small.draw(1, SIDE, SIDE, 3))
    new, report = evonorm_tf.convert(
        model, norm_act, without_activation=mode, return_report=True
    )
    found = report.counts()
    found.pop("left (activations)", None)
    with_activation, without = sites
    wanted = {norm_act: with_activation, "affine": without}
    if mode == "normalize":
        wanted["left"] = wanted.pop("affine")
        assert len(small.normalizations(new)) == wanted["left"]
    assert found == {name: n for name, n in wanted.items() if n}
    small.assert_kept(model, new)
    x = small.draw(2, SIDE, SIDE, 3)
    assert new(x).shape == (2, *old.shape[1:])
    if path:
        small.assert_trains(kit_name, new, x)
        small.assert_saves(kit_name, new, x, path / "new.keras")


# One is converted here, and small ones of both Kerases are trained and saved
# in test_models.py; the rest runs in `make test-all`.
_SLOW = [
    pytest.param(kit_name, name, True, marks=pytest.mark.slow)
    for kit_name in cases.KITS
    for name in NETWORKS
]


@pytest.mark.parametrize(
    ("kit_name", "name", "trained"),
    [("keras3", "MobileNetV2", False), *_SLOW],
)
def test_keras_applications(kit_name, name, trained, tmp_path):
    model = _model(kit_name, name)
    # A layer of each kind, each with one of the Kerases.
    norm_act, mode = {
        "tf_keras": ("evonorm_b0", "normalize"),
        "keras3": ("evonorm_s0", "replace"),
    }[kit_name]
    path = tmp_path if trained else None
    _check(kit_name, model, norm_act, NETWORKS[name], path, mode)


@pytest.mark.parametrize(
    ("kit_name", "name", "found"),
    [
        # Hard swish written out; NASNet's stem, read by five activations.
        ("tf_keras", "MobileNetV3Small", (23, 11)),
        pytest.param(
            *("keras3", "NASNetMobile", (84, 108)), marks=pytest.mark.slow
        ),
    ],
)
def test_sites(kit_name, name, found):
    model = _model(kit_name, name)
    sites = find(model, kit_of(model)).sites
    taken = sum(bool(site.activation) for site in sites)
    assert (taken, len(sites) - taken) == found


@pytest.mark.slow
@pytest.mark.parametrize("norm_act", ["evonorm_s0", "evonorm_b0"])
def test_a_trained_residual_network_trains_on(norm_act):
    """With the optimizer that trained it; as an affine it does not."""
    keras = pytest.importorskip("keras")
    pytest.importorskip("sklearn")
    from benchmarks import residual_ends

    keras.utils.set_random_seed(0)
    recipe = residual_ends.Recipe(residual_ends.digits(), 0.05, 64)
    model = residual_ends.resnet()
    assert recipe.fit(model, 5)[-1] < 0.2
    new = residual_ends.converted(model, norm_act, "stays")
    assert recipe.fit(new, 2)[-1] < 0.3
    other = residual_ends.converted(model, norm_act, "affine")
    assert not recipe.fit(other, 2)[-1] < 1.0


@pytest.mark.slow
@cases.both_kerases
def test_keras_cv(kit_name, tmp_path):
    """In a process of its own: keras-cv takes the Keras of TensorFlow.

    Which that is stands in the environment, where others of this process may
    have set it.
    """
    code = (
        "import pathlib, sys\n"
        "from tests.convert import test_networks\n"
        "test_networks.check_keras_cv(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
    )
    legacy = str(int(kit_name == "tf_keras"))
    done = subprocess.run(
        [sys.executable, "-c", code, kit_name, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"TF_USE_LEGACY_KERAS": legacy},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def check_keras_cv(kit_name, folder):
    """Built from its arguments; a class of its own, which the report says."""
    from keras_cv.models import ResNetV2Backbone

    model = ResNetV2Backbone(
        stackwise_filters=[8, 16],
        stackwise_blocks=[2, 2],
        stackwise_strides=[1, 2],
        include_rescaling=True,
        input_shape=(SIDE, SIDE, 3),
    )
    # Three a block, and one at the end.
    _check(kit_name, model, "evonorm_s0", (3 * 4 + 1, 0), folder)
    _, report = evonorm_tf.convert(model, "evonorm_b0", return_report=True)
    assert report.notes == (
        f"{model.name}: a ResNetV2Backbone became a Functional",
    )
