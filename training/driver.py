"""One run: build, resume, train, evaluate, record.

The Model Garden's trainer and Orbit's controller do the work; this adds what
they lack: a run that is killed goes on where it was and ends with the weights
of an unbroken one, a loss that is not finite stops it, and its progress can
be read by people and programs.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import tf_keras
from official.core import config_definitions, train_utils
from official.modeling import optimization, performance

from evonorm_tf import files
from training import (
    accumulation,
    best,
    config,
    echo,
    iterators,
    loop,
    progress,
    runs,
    strategy,
    watch,
    workers,
)

Logs = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ends with.

    Attributes:
      model: the tf_keras model.
      step: global step reached.
      metrics: the last evaluation's metrics, {} where there was none.
    """

    model: tf_keras.Model
    step: int
    metrics: Logs


def trainer_config(**settings: Any) -> config_definitions.TrainerConfig:
    """A trainer config with the defaults that all heads share.

    Args:
      **settings: fields of the Model Garden's TrainerConfig.
    """
    shared = {
        # The guard below stops on a bad loss; the Model Garden's own module
        # would silently restore and run into it again.
        "recovery_max_trials": -1,
        "steps_per_loop": 100,
        "checkpoint_interval": 1000,
        "validation_interval": 1000,
        "max_to_keep": 2,
    }
    return config_definitions.TrainerConfig(**(shared | settings))


def run(
    params: config.Experiment,
    task: Any,
    mode: str,
    model_dir: str,
    display: progress.Display | None = None,
) -> Result:
    """Runs an experiment, from where `model_dir` left off.

    Args:
      params: the resolved experiment config, with `trainer.train_steps`.
      task: a Model Garden task. Its `start_step` attribute is set to the
        step that the run goes on from, before its inputs are built; its
        `seed` seeds the weights.
      mode: one of `flags.MODES`; "eval_best" evaluates the best checkpoint.
        An evaluation alone leaves the run's record as it is.
      model_dir: checkpoints, `metrics.jsonl`, `params.yaml`, `run.json`;
        several workers share one.
      display: where progress is shown; a bar of its own when None.

    Raises:
      ValueError: `model_dir` holds another run, or workers see different
        ones; nothing to evaluate.
      FloatingPointError: the loss or a weight is no longer finite.
      SystemExit: Ctrl-C, with the shell's code for it, 130.
    """
    folder = runs.Run(files.make_folder(model_dir))
    start, total = folder.step(), params.trainer.train_steps
    found = _found(params, mode, folder)
    devices = strategy.build(params.runtime)
    # Always: a run before this one in the process may have set another.
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
    batch = params.task.train_data.global_batch_size
    about = strategy.describe(devices, batch, params.runtime.accumulation_steps)
    workers.require_one_step(devices, start, folder.folder)
    if found:
        purpose = "resume" if "train" in mode else "read"
        folder.require_same(params, purpose, start)
    chief = workers.is_chief(devices)
    saves = chief and "train" in mode
    if mode == "train_and_eval" and start == total:
        # What is finished and recorded is looked at, and left as it is.
        mode = "eval" if folder.evaluated(start) else mode
    display = display or progress.Display(params.task.model.norm_act.name)
    with display, progress.quiet_orbit(), stoppable(folder, display):
        display.say(f"{about}. {echo.place(start, total, folder.folder)}")
        display.say(echo.settings(params))
        task.start_step = start
        writes = chief and "train" in mode
        seen = watch.Watch(display, folder, (start, total), batch, writes)
        with _runner(params, task, mode, folder, (devices, seen)) as runner:
            if saves:
                facts = _facts(task, runner.trainer.model)
                path = folder.record(params, about, facts, start >= total)
                display.say(f"The whole config is in {path}")
            if mode == "eval_best":
                _restore_best(runner, found)
            with devices.scope():
                metrics = loop.execute(
                    runner.controller, params.trainer, mode, folder
                )
    step = int(runner.trainer.global_step.numpy())
    return Result(runner.trainer.model, step, metrics)


def _found(
    params: config.Experiment, mode: str, folder: runs.Run
) -> str | None:
    """The checkpoint to go on from, or to evaluate."""
    best_of = params.trainer.best_checkpoint_export_subdir or "best"
    found = folder.checkpoint(best_of if mode == "eval_best" else "")
    if found is None and "train" not in mode:
        raise ValueError(
            "There is no checkpoint to evaluate; train first. "
            f"Received: model_dir={folder.folder!r}, mode={mode!r}"
        )
    return found


def _restore_best(runner: Any, path: str) -> None:
    """Puts the best checkpoint in the place of the latest."""
    optimizer = runner.trainer.optimizer
    with runner.strategy.scope():
        runner.controller.restore_checkpoint(runs.readable(path))
        if isinstance(optimizer, optimization.ExponentialMovingAverage):
            # It was saved with the average in the model's place, where the
            # evaluation will put it.
            optimizer.swap_weights()


def _facts(task: Any, model: tf_keras.Model) -> dict[str, Any]:
    """What an export needs to know of the data."""
    facts = {}
    # Only models of one input tensor have the attribute.
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple):
        facts["input_shape"] = list(shape[1:])
    if hasattr(task, "resized"):
        facts["resized"] = task.resized
    names = getattr(task, "class_names", ())
    return facts | ({"classes": list(names)} if names else {})


@contextlib.contextmanager
def stoppable(folder: runs.Run, display: progress.Display) -> Iterator[None]:
    """Ends a run by Ctrl-C in plain words; what is saved is whole.

    Raises:
      SystemExit: 130, where Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        step = folder.step()
        saved = f"saved up to step {step}" if step else "nothing was saved yet"
        display.say(
            f"Stopped; {saved} in {folder.folder}. The same command goes on "
            "from there."
        )
        raise SystemExit(130) from None


@contextlib.contextmanager
def _runner(params, task, mode, folder, parts) -> Iterator[Any]:
    """Builds the trainer with seeded weights, and restores what there is."""
    devices, seen = parts
    chief = workers.is_chief(devices)
    own = folder.folder if chief else workers.aside(folder)
    tf_keras.utils.set_random_seed(task.seed)
    with devices.scope():
        trainer = train_utils.create_trainer(
            params,
            task,
            train="train" in mode,
            evaluate="eval" in mode,
            checkpoint_exporter=best.keeper(
                params.trainer,
                folder,
                None if chief else files.join(own, "best"),
            )
            if "train" in mode
            else None,
            trainer_cls=accumulation.Trainer,
        )
        accumulation.check(trainer.optimizer, params.runtime)
        # Slot variables made by the first step would have TensorFlow trace
        # the step a second time, and be restored only then.
        optimizer = trainer.optimizer
        create = getattr(optimizer, "_create_all_weights", None)
        (create or optimizer.build)(trainer.model.trainable_variables)
    seen.trainer = trainer

    def evaluated(output):
        seen.evaluated(output)
        # The sooner, the less its end can wait for; the last is left.
        if int(trainer.global_step.numpy()) < params.trainer.train_steps:
            trainer.eval_dataset.release()

    manager = runs.Checkpoints(
        trainer.checkpoint,
        own,
        max_to_keep=params.trainer.max_to_keep,
        step_counter=trainer.global_step,
        checkpoint_interval=params.trainer.checkpoint_interval,
        init_fn=trainer.initialize,
    )
    runner = workers.Runner(
        manager,
        devices,
        task,
        mode,
        params,
        folder.folder,
        save_summary=chief and "train" in mode,
        trainer=trainer,
        train_actions=[seen.trained],
        eval_actions=[evaluated],
    )
    try:
        with iterators.released(trainer):
            yield runner
    finally:
        if not chief:
            files.remove(own)
