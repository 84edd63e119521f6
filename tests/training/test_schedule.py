"""Epochs turned into steps: what the user says, and what is cut."""

import re

import pytest
import tensorflow as tf
from official.core import config_definitions
from official.modeling import optimization

from classification import experiment as _digits_resnet  # noqa: F401
from training import config, runs, schedule

INTERVALS = ("validation_interval", "checkpoint_interval")


def _resolved(plan, **settings):
    unset = dict.fromkeys(INTERVALS, schedule.UNSET)
    trainer = config_definitions.TrainerConfig(**(unset | settings))
    schedule.resolve(trainer, plan, examples=1280, batch=64)
    return trainer


@pytest.mark.parametrize("value", [7, 1000])
@pytest.mark.parametrize("key", INTERVALS)
def test_an_interval_that_is_given_stands_over_epochs(key, value):
    plan = schedule.Schedule(epochs=10, validation_epochs=2)
    plain = _resolved(plan)
    assert plain.validation_interval == plain.checkpoint_interval == 40
    given = _resolved(plan, **{key: value})
    assert getattr(given, key) == value
    other = ({*INTERVALS} - {key}).pop()
    assert getattr(given, other) == 40
    assert getattr(_resolved(schedule.Schedule()), key) == 1000


def test_warm_up_is_at_most_half_of_a_short_run():
    plan = schedule.Schedule(warmup_epochs=5)
    for steps, expected in ((1000, 100), (30, 15)):
        trainer = _resolved(plan, train_steps=steps)
        warmup = trainer.optimizer_config.warmup.linear
        assert warmup.warmup_steps == expected


def _digits(**optimizer):
    changes = {"trainer": {"optimizer_config": optimizer}}
    params = config.parse("digits_resnet", params_override=changes)
    schedule.resolve(params.trainer, params.task.schedule, 1280, 64)
    return params


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("linear", {"warmup_steps": 7, "warmup_learning_rate": 0.01}),
        ("polynomial", {"warmup_steps": 7, "power": 2.0}),
    ],
)
def test_a_warm_up_that_is_given_stands(kind, settings):
    warmup = _digits(warmup={"type": kind, kind: settings})
    warmup = warmup.trainer.optimizer_config.warmup
    assert warmup.type == kind
    assert warmup.get().as_dict() == {"name": kind} | settings
    key = f"warmup.{kind}.warmup_steps"
    with pytest.raises(ValueError, match=f"needs its number.*{key}=None"):
        _digits(warmup={"type": kind})


@pytest.mark.parametrize("key", ["warmup_epochs", "base_learning_rate"])
def test_what_a_given_rate_replaces_is_refused(key, tmp_path):
    changes = f"task.schedule.{key}=3,trainer.optimizer_config"
    constant = ".learning_rate={type: constant}"
    match = rf"no effect; omit.*task\.schedule\.{key}=3"
    with pytest.raises(ValueError, match=match):
        config.parse("digits_resnet", params_override=changes + constant)
    warmup = f"{changes}.warmup={{type: polynomial}}"
    if key == "warmup_epochs":
        with pytest.raises(ValueError, match=match):
            config.parse("digits_resnet", params_override=warmup)
    else:
        config.parse("digits_resnet", params_override=warmup)
    # A run's record has both.
    record = tmp_path / "params.yaml"
    record.write_text(runs.as_yaml(_digits()))
    config.parse("digits_resnet", params_override=str(record))
    with pytest.raises(ValueError, match=match):
        config.parse(
            "digits_resnet", [str(record)], None, f"task.schedule.{key}=3"
        )


def test_a_summary_interval_is_that_of_the_loop():
    params = config.parse("digits_resnet")
    schedule.resolve(params.trainer, params.task.schedule, 1280, 64)
    assert params.trainer.summary_interval == params.trainer.steps_per_loop
    with pytest.raises(ValueError, match=r"end of each loop.*interval=1000, "):
        _resolved(
            schedule.Schedule(), summary_interval=1000, steps_per_loop=100
        )


def test_the_step_at_a_boundary_still_has_the_rate_before_it():
    plan = schedule.Schedule(
        epochs=5, decay="stepwise", boundaries=[0.5], warmup_epochs=0
    )
    trainer = _resolved(plan)
    trainer.optimizer_config.optimizer.type = "sgd"
    factory = optimization.OptimizerFactory(trainer.optimizer_config)
    rate = factory.build_learning_rate()
    rates = [float(rate(tf.constant(k, tf.int64))) for k in (49, 50, 51)]
    assert rates == pytest.approx([0.025, 0.025, 0.0025])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("decay", "linear", "must be one of"),
        ("base_batch_size", 0, "at least 1"),
        ("decay_epochs", 0.0, "above 0"),
        ("decay_rate", -1.0, "above 0"),
        ("boundaries", [0.8, 0.3], "each larger"),
        ("boundaries", [0.5, 0.5], "each larger"),
        ("boundaries", [-0.5, 30.0, 60.0], "fractions of the run"),
        ("boundaries", [0.0, 0.5], "fractions of the run"),
        ("boundaries", [0.5, 1.0], "fractions of the run"),
        ("base_learning_rate", -0.1, "at least 0"),
        ("warmup_epochs", -1.0, "at least 0"),
        ("validation_epochs", -1.0, "at least 0"),
    ],
)
def test_what_cannot_be_is_named(name, value, words):
    received = re.escape(f"{name}={value!r}")
    with pytest.raises(ValueError, match=f"{words}.*{received}"):
        _resolved(schedule.Schedule(**{name: value}))
