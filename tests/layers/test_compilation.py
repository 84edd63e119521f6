"""Which inputs are compiled: `xla_elements`, and what turns it off."""

import concurrent.futures
import math

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf.ops import settings
from tests import cases

SIZE = math.prod(cases.SHAPE)


def _compiles(shape=cases.SHAPE, **keywords):
    """Whether the training step of a layer has functions XLA compiles."""
    layer = cases.make("tf_keras", cases.BY_NAME["evonorm_s0"], **keywords)

    @tf.function(autograph=False)
    def step(x):
        return layer(x, training=True)

    traced = step.get_concrete_function(tf.TensorSpec(shape))
    functions = traced.graph.as_graph_def().library.function
    return any(one.attr["_XlaMustCompile"].b for one in functions)


@pytest.mark.parametrize(
    ("least", "compiled"), [(SIZE, True), (SIZE + 1, False), ("auto", False)]
)
def test_inputs_of_that_many_elements_are_compiled(least, compiled):
    with settings.using(xla_elements=least):
        assert _compiles() == compiled


def test_a_gpu_counts_that_is_not_hidden(monkeypatch):
    """As by `tf.config.set_visible_devices([], "GPU")`."""

    def devices(kind):
        return [f"{kind}:0"] if kind == "GPU" else []

    monkeypatch.setattr(tf.config, "list_physical_devices", devices)
    with settings.using(xla_elements="auto"):
        assert not _compiles()
        monkeypatch.setattr(tf.config, "get_visible_devices", devices)
        assert _compiles()


def test_a_batch_of_unknown_size_is_compiled():
    with settings.using(xla_elements="auto"):
        assert _compiles((None, *cases.SHAPE[1:]))


def test_nothing_is_compiled_with_xla_false():
    assert not _compiles(xla=False)
    with settings.using(xla=False):
        assert not _compiles()


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_s0", "rs_rej"])
def test_small_inputs_give_what_compiled_ones_do(name):
    case = cases.BY_NAME[name]
    x = cases.draw().astype(np.float32)
    found = []
    for least in (0, "auto"):
        layer = cases.make("keras3", case, cases.weights_of(case))
        with settings.using(xla_elements=least):
            found.append(cases.gradients(layer, x, cases.draw(seed=5)))
    (y, gradients), (other, others) = found
    cases.assert_close(other, y, 1e-5, "y")
    for key, value in gradients.items():
        cases.assert_close(others[key], value, 1e-5, f"d {key}")


@pytest.mark.parametrize("value", [-1, 1.5, True, "all"])
def test_an_invalid_number_of_elements_is_refused(value):
    with pytest.raises(ValueError, match=f"xla_elements={value!r}"):
        settings.configure(xla_elements=value)


def test_blocks_of_several_threads_may_overlap():
    before = settings.get()
    first = settings.using(xla_elements=1)
    second = settings.using(xla_elements=2, reduction="sum")
    pool = concurrent.futures.ThreadPoolExecutor(1)
    first.__enter__()
    pool.submit(second.__enter__).result()
    assert settings.get().xla_elements == 2
    # Of this thread's block, so it ends with it.
    settings.configure(xla_elements=3, moments="merged")
    assert settings.get().xla_elements == 2
    first.__exit__(None, None, None)
    assert settings.get().moments == before.moments
    assert settings.get().reduction == "sum"
    pool.submit(second.__exit__, None, None, None).result()
    assert settings.get() == before
    with pytest.raises(ValueError, match="xla"), settings.using(xla=3):
        pass
    assert settings.get() == before
