"""When a run trains, and when it evaluates: one order for all heads."""

import orbit
from official.core import config_definitions

from training import progress, runs


def execute(
    controller: orbit.Controller,
    settings: config_definitions.TrainerConfig,
    mode: str,
    run: runs.Run,
    first: bool = False,
) -> dict[str, float]:
    """Trains and evaluates from the step where the controller is.

    Evaluations are at multiples of their interval, wherever the run was
    started: Orbit's own loop counts them from there.

    Args:
      controller: Orbit's, restored.
      settings: `train_steps`, `validation_interval` (0: at the end alone) and
        `validation_steps`.
      mode: one of `flags.MODES`.
      run: says what was evaluated before.
      first: whether a new run is evaluated before its first step, too.

    Returns:
      The last evaluation's metrics, {} where there was none.
    """
    total, metrics = settings.train_steps, None
    if mode == "train":
        controller.train(total)
        return {}
    step = int(controller.global_step.numpy())
    if mode == "train_and_eval" and step < total:
        every = settings.validation_interval or total
        # New, or killed between a checkpoint and its evaluation.
        due = step % every == 0 and (step or first)
        if due and not run.evaluated(step):
            controller.evaluate(settings.validation_steps)
        while step < total:
            step = min(step - step % every + every, total)
            controller.train(step, checkpoint_at_completion=False)
            metrics = controller.evaluate(settings.validation_steps)
        controller.save_checkpoint()
    # An evaluation alone, or of a run that was already at its end.
    if metrics is None:
        metrics = controller.evaluate(settings.validation_steps)
    return progress.scalars(metrics or {})
