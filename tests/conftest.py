"""Shared by all tests: two logical CPUs, fixed seeds, the optional data.

TensorFlow is imported where tests run: the process that only distributes them
among the workers of `-n` needs neither its time nor its memory.
"""

import functools
import gc
import importlib.util
import os
import pathlib
import random
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from evonorm_tf.ops import settings

_HERE = pathlib.Path(__file__).parent
# Where compilation is what is tested. Elsewhere it takes longer than what runs,
# and processes that tests start compile what their users' do.
_COMPILED = ("graphs", "jax", "layers", "test_memory.py")
# Where graphs run so seldom that optimising them takes longer, but for files
# in which a run equals that of another process to the bit.
_UNOPTIMISED = (
    *("benchmarks", "classification", "convert", "detection", "gan", "nets"),
    *("exporting", "search", "training"),
)
_OF_PROCESSES = ("test_driver.py",)


def pytest_configure(config):
    """Before anything initialises the devices: replica tests need two."""
    if config.getoption("numprocesses", None):
        return
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_collection_finish():
    """What was imported stays: no collection of garbage need walk it.

    The rest is mostly graphs, which live as long as a test: looking through
    them as often as Python does takes a fifth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True, scope="module")
def _collected():
    """Models and traced graphs that a file leaves are cycles of objects.

    What is left then, modules and what they cache, stays to the end: walking
    through it again after each file would take a twentieth of the time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _classes_of_version_2():
    """A tf_keras model that a file builds in a graph changes those of others.

    The base of their classes is that of version 1 from then on.
    """
    yield
    if "tf_keras" not in sys.modules:
        return
    from tf_keras.src.engine import (
        base_layer,
        base_layer_v1,
        training,
        training_v1,
    )

    for old, new in (
        (base_layer_v1.Layer, base_layer.Layer),
        (training_v1.Model, training.Model),
    ):
        for found in old.__subclasses__():
            if found.__module__ != training_v1.__name__:
                found.__bases__ = tuple(
                    new if base is old else base for base in found.__bases__
                )


@pytest.fixture(autouse=True, scope="module")
def _uncompiled(request):
    """Layers are compiled by the tests of layers alone."""
    compiled = request.path.relative_to(_HERE).parts[0] in _COMPILED
    with settings.using(**({} if compiled else {"xla": False})):
        yield


@pytest.fixture(autouse=True, scope="module")
def _unoptimised(request):
    folder = request.path.relative_to(_HERE).parts[0]
    if folder not in _UNOPTIMISED or request.path.name in _OF_PROCESSES:
        yield
        return
    import tensorflow as tf

    options = tf.config.optimizer
    before = {"disable_meta_optimizer": False}
    before |= options.get_experimental_options()
    options.set_experimental_options({"disable_meta_optimizer": True})
    yield
    options.set_experimental_options(before)


@pytest.fixture(autouse=True, scope="module")
def _seeded():
    """Once a file: TensorFlow drops its cached kernels when it is seeded."""
    import tensorflow as tf

    tf.random.set_seed(0)


@pytest.fixture(autouse=True)
def _seeded_numbers():
    """Python's own numbers too: both Kerases draw their seeds from them."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True, scope="session")
def _annotations_read_once():
    """The Model Garden evaluates a class's annotations for every value set."""
    if importlib.util.find_spec("official") is None:
        return
    from official.modeling.hyperparams import base_config

    original = base_config.Config._get_annotations.__func__
    base_config.Config._get_annotations = classmethod(functools.cache(original))


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """Real data for trials; a test that uses it skips without it."""
    here = _HERE.resolve().parents[1] / "shared" / "data"
    path = pathlib.Path(os.environ.get("EVONORM_DATA", here))
    if not path.is_dir():
        pytest.skip("no real data: set EVONORM_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas, one on each logical CPU: one strategy a process.

    The heads' own where they are installed; see `strategy.mirrored`.
    """
    import tensorflow as tf

    devices = ("CPU:0", "CPU:1")
    if importlib.util.find_spec("official") is None:
        return tf.distribute.MirroredStrategy(devices)
    from training import strategy

    return strategy.mirrored(devices)
