"""Epochs turned into steps: what the user says, and what is cut."""

import pytest
from official.core import config_definitions

from training import schedule


def _resolved(plan, **settings):
    trainer = config_definitions.TrainerConfig(**settings)
    schedule.resolve(trainer, plan, examples=1280, batch=64)
    return trainer


@pytest.mark.parametrize("key", ["validation_interval", "checkpoint_interval"])
def test_an_interval_that_is_given_stands_over_epochs(key):
    plan = schedule.Schedule(epochs=10, validation_epochs=2)
    plain = _resolved(plan)
    assert plain.validation_interval == plain.checkpoint_interval == 40
    given = _resolved(plan, **{key: 7})
    assert getattr(given, key) == 7
    other = ({"validation_interval", "checkpoint_interval"} - {key}).pop()
    assert getattr(given, other) == 40


def test_warm_up_is_at_most_half_of_a_short_run():
    plan = schedule.Schedule(warmup_epochs=5)
    for steps, expected in ((1000, 100), (30, 15)):
        trainer = _resolved(plan, train_steps=steps)
        warmup = trainer.optimizer_config.warmup.linear
        assert warmup.warmup_steps == expected
