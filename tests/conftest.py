"""Shared by all tests: two logical CPUs, fixed seeds, the optional data."""

import gc
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

# Before anything initialises the devices: replica tests need two.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


def pytest_collection_finish():
    """What was imported stays: no collection of garbage need walk it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _collected():
    """Models and traced graphs that a file leaves are cycles of objects."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)
    tf.random.set_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """Real data for trials; a test that uses it skips without it."""
    here = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(os.environ.get("EVONORM_DATA", here))
    if not path.is_dir():
        pytest.skip("no real data: set EVONORM_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def mirrored() -> tf.distribute.MirroredStrategy:
    """Two replicas, one on each logical CPU: one strategy a process.

    The heads' own where they are installed; see `strategy.mirrored`.
    """
    devices = ("CPU:0", "CPU:1")
    if importlib.util.find_spec("official") is None:
        return tf.distribute.MirroredStrategy(devices)
    from training import strategy

    return strategy.mirrored(devices)
