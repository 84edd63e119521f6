"""Epochs turned into steps: what the user says, and what is cut."""

import pytest
from official.core import config_definitions

from training import schedule

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


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("decay", "linear", "must be one of"),
        ("base_batch_size", 0, "at least 1"),
        ("decay_epochs", -1.0, "at least 0"),
        ("base_learning_rate", -0.1, "at least 0"),
        ("warmup_epochs", -1.0, "at least 0"),
        ("validation_epochs", -1.0, "at least 0"),
    ],
)
def test_what_cannot_be_is_named(name, value, words):
    with pytest.raises(ValueError, match=f"{words}.*{name}={value!r}"):
        _resolved(schedule.Schedule(**{name: value}))
