"""Graphs that run once or twice: TensorFlow need not optimise them."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _unoptimised():
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options()
    off = {"disable_meta_optimizer": True}
    tf.config.optimizer.set_experimental_options(off)
    yield
    on = {"disable_meta_optimizer": False, **before}
    tf.config.optimizer.set_experimental_options(on)
