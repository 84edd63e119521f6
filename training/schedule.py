"""Converts epochs and a base learning rate to steps and a schedule.

The paper's recipes are given in epochs and scale the rate linearly with the
batch (section 6, table "batch sizes", arXiv:2004.02967), so a sweep over batch
sizes changes only `global_batch_size`.
"""

import dataclasses

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
        actual rate is this * global_batch_size / base_batch_size.
      base_batch_size: see above.
      warmup_epochs: linear warm-up from 0, part of `epochs`; at most half of
        the run, so that a short trial of a long recipe works.
      decay: "cosine" to 0; "stepwise": /10 at each of `boundaries`;
        "exponential": times `decay_rate` every `decay_epochs`, in steps.
      boundaries: fractions of the run, for "stepwise"; by default 30, 60 and
        80 of 90 epochs.
      decay_rate: for "exponential".
      decay_epochs: for "exponential".
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
    """Sets train_steps, intervals and learning rate unless they are set.

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
    # Summaries are only written at the end of a loop.
    trainer.summary_interval = trainer.steps_per_loop
    interval = _INTERVAL
    if schedule.validation_epochs:
        interval = max(round(schedule.validation_epochs * steps_per_epoch), 1)
    for key in ("validation_interval", "checkpoint_interval"):
        if getattr(trainer, key) == UNSET:
            setattr(trainer, key, interval)
    if trainer.optimizer_config.learning_rate.type is not None:
        return
    rate = schedule.base_learning_rate * batch / schedule.base_batch_size
    trainer.optimizer_config.learning_rate.override(
        _decay(schedule, rate, steps, steps_per_epoch)
    )
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps // 2)
    if warmup:
        trainer.optimizer_config.warmup.override(
            {
                "type": "linear",
                "linear": {"warmup_steps": warmup, "warmup_learning_rate": 0.0},
            }
        )


def _check(schedule: Schedule) -> None:
    if schedule.decay not in _DECAYS:
        raise ValueError(
            f"schedule.decay must be one of {_DECAYS}. "
            f"Received: decay={schedule.decay!r}"
        )
    floor = ("base_learning_rate", "warmup_epochs", "validation_epochs")
    least = dict.fromkeys((*floor, "decay_epochs"), 0) | {"base_batch_size": 1}
    config.require_at_least(schedule, least, "schedule.")


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
