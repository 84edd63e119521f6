"""Converts epochs and a base learning rate to steps and a schedule.

The paper's recipes are given in epochs and scale the rate linearly with the
batch (section 6, table "batch sizes", arXiv:2004.02967), so a sweep over batch
sizes changes only `global_batch_size`.
"""

import dataclasses
import itertools

from official.core import config_definitions
from official.modeling import hyperparams

from training import config

_DECAYS = ("cosine", "stepwise", "exponential")
# The default of intervals that `validation_epochs` may set.
UNSET = -1
_INTERVAL = 1000  # Of those that nothing sets.


@dataclasses.dataclass
class Schedule(hyperparams.Config):
    """The length of a run and its learning rate.

    Attributes:
      epochs: passes over the training set. Ignored if `trainer.train_steps`
        is above 0, which then is the run's length.
      base_learning_rate: rate at a global batch of `base_batch_size`; the
        actual rate is this * global_batch_size / base_batch_size. This rate,
        its decay and its warm-up are ignored if
        `trainer.optimizer_config.learning_rate` is set.
      base_batch_size: see above.
      warmup_epochs: linear warm-up from 0, part of `epochs`; at most half of
        the run, so that a short trial of a long recipe works. Ignored if
        `trainer.optimizer_config.warmup` is set.
      decay: "cosine" to 0; "stepwise": /10 after each of `boundaries`;
        "exponential": times `decay_rate` every `decay_epochs`, in steps.
      boundaries: fractions of the run in (0, 1), increasing, for "stepwise";
        by default 30, 60 and 80 of 90 epochs. The step at a boundary still has
        the rate before it: with boundary 0.5 of 100 steps, step 50, counted
        from 0, is the last with the full rate.
      decay_rate: for "exponential", above 0.
      decay_epochs: for "exponential", above 0.
      validation_epochs: epochs between evaluations and between checkpoints,
        whatever the batch; 0 for every 1000 steps.
        `trainer.validation_interval` and `trainer.checkpoint_interval` take
        precedence if they are set.
    """

    epochs: float = 90.0
    base_learning_rate: float = 0.1
    base_batch_size: int = 256
    warmup_epochs: float = 5.0
    decay: str = "cosine"
    boundaries: list[float] = dataclasses.field(
        default_factory=lambda: [1 / 3, 2 / 3, 8 / 9]
    )
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    validation_epochs: float = 0.0


def resolve(
    trainer: config_definitions.TrainerConfig,
    schedule: Schedule,
    examples: int,
    batch: int,
) -> None:
    """Sets train_steps, intervals, warm-up and rate unless they are set.

    Args:
      trainer: the trainer's config, changed in place.
      schedule: of the recipe.
      examples: size of the training set.
      batch: global batch size.

    Raises:
      ValueError: if the run has no step, the decay is unknown or a number is
        out of range.
    """
    _check(schedule)
    steps_per_epoch = examples / batch
    if not trainer.train_steps:
        trainer.train_steps = round(schedule.epochs * steps_per_epoch)
    steps = trainer.train_steps
    if steps < 1:
        raise ValueError(
            "The run must have at least one step. Received: "
            f"epochs={schedule.epochs}, examples={examples}, "
            f"global_batch_size={batch}, train_steps={steps}"
        )
    if trainer.summary_interval == UNSET:
        trainer.summary_interval = trainer.steps_per_loop
    if trainer.summary_interval != trainer.steps_per_loop:
        raise ValueError(
            "Summaries are written at the end of each loop; set "
            "trainer.steps_per_loop, and omit trainer.summary_interval. "
            f"Received: trainer.summary_interval={trainer.summary_interval}, "
            f"trainer.steps_per_loop={trainer.steps_per_loop}"
        )
    interval = _INTERVAL
    if schedule.validation_epochs:
        interval = max(round(schedule.validation_epochs * steps_per_epoch), 1)
    for key in ("validation_interval", "checkpoint_interval"):
        if getattr(trainer, key) == UNSET:
            setattr(trainer, key, interval)
    optimizer = trainer.optimizer_config
    warmup = optimizer.warmup
    if warmup.type is not None and warmup.get().warmup_steps is None:
        key = f"trainer.optimizer_config.warmup.{warmup.type}.warmup_steps"
        raise ValueError(
            f"A warm-up needs its number of steps; set {key}, or omit the "
            "warm-up for that of task.schedule.warmup_epochs. "
            f"Received: {key}=None"
        )
    if optimizer.learning_rate.type is not None:
        return
    rate = schedule.base_learning_rate * batch / schedule.base_batch_size
    optimizer.learning_rate.override(
        _decay(schedule, rate, steps, steps_per_epoch)
    )
    rising = min(round(schedule.warmup_epochs * steps_per_epoch), steps // 2)
    if rising and warmup.type is None:
        linear = {"warmup_steps": rising, "warmup_learning_rate": 0.0}
        warmup.override({"type": "linear", "linear": linear})


def _check(schedule: Schedule) -> None:
    if schedule.decay not in _DECAYS:
        raise ValueError(
            f"schedule.decay must be one of {_DECAYS}. "
            f"Received: decay={schedule.decay!r}"
        )
    floor = ("base_learning_rate", "warmup_epochs", "validation_epochs")
    least = dict.fromkeys(floor, 0) | {"base_batch_size": 1}
    config.require_at_least(schedule, least, "schedule.")
    for name in ("decay_rate", "decay_epochs"):
        value = getattr(schedule, name)
        if not value > 0:
            raise ValueError(
                f"schedule.{name} must be above 0. "
                f"Received: schedule.{name}={value!r}"
            )
    places = [0, *schedule.boundaries, 1]
    if any(not one < other for one, other in itertools.pairwise(places)):
        raise ValueError(
            "schedule.boundaries must be fractions of the run in (0, 1), each "
            "larger than the one before it. "
            f"Received: schedule.boundaries={schedule.boundaries}"
        )


def _decay(
    schedule: Schedule, rate: float, steps: int, steps_per_epoch: float
) -> dict:
    """Returns the Model Garden's learning_rate config for this decay."""
    if schedule.decay == "cosine":
        cosine = {"initial_learning_rate": rate, "decay_steps": steps}
        return {"type": "cosine", "cosine": cosine}
    if schedule.decay == "exponential":
        exponential = {
            "initial_learning_rate": rate,
            "decay_rate": schedule.decay_rate,
            "decay_steps": max(
                round(schedule.decay_epochs * steps_per_epoch), 1
            ),
            "staircase": True,
        }
        return {"type": "exponential", "exponential": exponential}
    boundaries = [round(part * steps) for part in schedule.boundaries]
    values = [rate * 0.1**k for k in range(len(boundaries) + 1)]
    stepwise = {"boundaries": boundaries, "values": values}
    return {"type": "stepwise", "stepwise": stepwise}
