"""The comparison of B0 and BatchNorm: what a trial changes and measures."""

import random

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from benchmarks import convergence
from benchmarks.convergence import Trial


def test_a_trial_is_named_by_what_it_changes():
    assert Trial("bn_relu").name == "bn_relu"
    name = Trial("evonorm_b0", rate=0.5, fixed_v=True, seed=1).name
    assert name == "evonorm_b0 rate=0.5 fixed_v=1 seed=1"
    names = [trial.name for trial in convergence.TRIALS]
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def result():
    trial = Trial("evonorm_b0", width=0.5, v=0.5, fixed_v=True)
    # Compiling every site takes longer than all steps.
    with evonorm_tf.using(xla=False):
        return convergence.run(trial, "", steps=4)


@pytest.mark.slow
def test_a_trial_measures_three_statistics_twice(result):
    for moment in ("middle", "end"):
        found = result["accuracy"][moment]
        assert set(found) == {"moving", "batch", "recalibrated"}
        assert all(0 <= value <= 1 for value in found.values())
    assert "evonorm_b0 width=0.5" in convergence.line(result)
    assert result["steps"] == 4


@pytest.mark.slow
def test_fixed_v_stays(result):
    for site in result["sites"]:
        assert site["v_mean"] == 0.5 and site["v_std"] == 0.0
        assert 0 < site["bounded"] < 1


def test_an_evaluation_leaves_the_model_as_it_was():
    random.seed(3)  # With other weights, two accuracies may be equal.
    params, task = convergence.prepare(Trial("bn_relu", width=0.5), "", 2)
    model = task.build_model()
    before = [np.array(w) for w in model.weights]
    with evonorm_tf.using(xla=False):
        found = convergence.Evaluation(task, params, model)()
    assert found["moving"] != found["batch"]
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(tf.convert_to_tensor(new)))


def test_layers_without_batch_statistics_have_one_accuracy():
    params, task = convergence.prepare(Trial("evonorm_s0", width=0.5), "", 2)
    model = task.build_model()
    assert set(convergence.Evaluation(task, params, model)()) == {"moving"}
