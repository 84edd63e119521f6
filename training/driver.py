"""The run path of every head: prepare, build, restore, train, evaluate.

A head supplies its specific parts (`Head`). This module adds what all runs
need: a killed run resumes from its last checkpoint and ends with the weights of
an uninterrupted one, a loss that is not finite stops it, the folder of another
experiment is rejected, and progress is reported to people and programs.
"""

import contextlib
import dataclasses
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import orbit
import tensorflow as tf
import tf_keras
from official.core import actions, config_definitions
from official.modeling import optimization

from evonorm_tf import files
from training import (
    callbacks,
    checkpoints,
    compilation,
    config,
    iterators,
    progress,
    runs,
    same_experiment,
    strategy,
    workers,
)
from training.images import errors

Logs = dict[str, float]
_SEEDS = 2**32  # The random number generators' range.
# Settings of the Model Garden's that neither we nor its code read here.
_UNREAD = (
    "runtime.gpu_thread_mode",
    "runtime.dataset_num_private_threads",
    "runtime.per_gpu_thread_count",
    "runtime.worker_hosts",
    "runtime.task_index",
    "runtime.all_reduce_alg",
    "runtime.num_packs",
    "runtime.run_eagerly",
    "runtime.batchnorm_spatial_persistent",
    "runtime.num_cores_per_replica",
    "runtime.default_shard_dim",
    "runtime.use_tpu_mp_strategy",
    "trainer.continuous_eval_timeout",
)


@dataclasses.dataclass(frozen=True)
class Session:
    """One run in this process, passed to the methods of a head.

    Attributes:
      params: the resolved experiment.
      prepared: the result of the head's `prepare`.
      run: the run's folder.
      mode: one of `flags.MODES`.
      devices: the strategy.
      about: a description of the devices, of all parts of the run.
      start: the step from which the run resumes.
      folder: where this process saves: the run's folder, or another folder for
        a worker that is not the chief.
    """

    params: config.Experiment
    prepared: Any
    run: runs.Run
    mode: str
    devices: tf.distribute.Strategy
    about: str
    start: int
    folder: str

    @property
    def trains(self) -> bool:
        """Returns whether the run trains, and does not only evaluate."""
        return "train" in self.mode

    @property
    def chief(self) -> bool:
        """Returns whether this process writes, among those of a strategy."""
        return workers.is_chief(self.devices)


@dataclasses.dataclass(frozen=True)
class Built:
    """The result of a head's `build`.

    Attributes:
      trainer: Orbit's, with `checkpoint`, `global_step`, `strategy` and
        `compilation`, a `compilation.Choice`.
      evaluator: Orbit's; often the same object.
      models: by their names in the checkpoint. They are compared with it on
        reading, and checked for finite weights after each training loop.
      images: images per step.
      losses: by the name to show, the logs of a loop that add up to it.
      facts: what to record in `run.json`.
      evaluates_first: whether a new run is evaluated before its first step.
    """

    trainer: Any
    evaluator: orbit.AbstractEvaluator
    models: Mapping[str, tf_keras.Model]
    images: int
    losses: Mapping[str, Iterable[str]] = dataclasses.field(
        default_factory=lambda: {"loss": ["training_loss"]}
    )
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluates_first: bool = False


class Head(Protocol):
    """The specific parts of a head.

    Attributes:
      saves_best: whether it can save the checkpoint of the best evaluation.
    """

    saves_best: bool = True

    def prepare(self, params: config.Experiment, run: runs.Run) -> Any:
        """Opens the data and completes the config in place.

        Raises:
          ValueError: if data or settings are invalid.
        """

    def data(self, params: config.Experiment, prepared: Any) -> list[str]:
        """Returns what identifies the data of this host, ready for JSON."""

    def build(self, session: Session) -> Built:
        """Builds seeded models, trainer and evaluator; restores nothing."""

    def shrink(self, params: config.Experiment, replicas: int = 1) -> str:
        """Shrinks an experiment to seconds, in place, for --debug.

        Args:
          params: the experiment.
          replicas: number of replicas per step.

        Returns:
          A one-line description of the changes.
        """

    def draw(self, session: Session, built: Built, step: int) -> list[str]:
        """Draws the last evaluation's result; returns lines to print."""

    def preflight(
        self, params: config.Experiment, topology: str, json_file: str | None
    ) -> None:
        """Compiles a training step for a TPU that is not attached."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
      trainer: the head's, with its models.
      step: global step reached.
      metrics: the last evaluation's metrics, {} if there was none.
    """

    trainer: Any
    step: int
    metrics: Logs

    @property
    def model(self) -> tf_keras.Model:
        """Returns the model of a trainer that has one."""
        return self.trainer.model


def trainer_config(**settings: Any) -> config_definitions.TrainerConfig:
    """Returns a trainer config with the defaults that all heads share.

    Args:
      **settings: fields of the Model Garden's TrainerConfig.
    """
    shared = {
        # Callbacks stop on a bad loss; the Model Garden's recovery would
        # silently restore a checkpoint and diverge again.
        "recovery_max_trials": -1,
        "steps_per_loop": 100,
        "checkpoint_interval": 1000,
        "validation_interval": 1000,
        "max_to_keep": 2,
    }
    return config_definitions.TrainerConfig(**(shared | settings))


def experiment(
    task: config_definitions.TaskConfig, **trainer: Any
) -> config.Experiment:
    """Returns an experiment on devices that are found.

    Args:
      task: the head's config.
      **trainer: see `trainer_config`.
    """
    return config.Experiment(
        task=task, trainer=trainer_config(**trainer), runtime=strategy.Runtime()
    )


def run(
    params: config.Experiment,
    head: Head,
    mode: str,
    model_dir: str,
    display: progress.Display | None = None,
) -> Result:
    """Runs an experiment, resuming from the last checkpoint in `model_dir`.

    Args:
      params: the experiment's config; `head.prepare` completes it.
      head: see `Head`.
      mode: one of `flags.MODES`; "eval_best" evaluates the best checkpoint.
        An evaluation alone does not change the run's record.
      model_dir: folder for checkpoints, `metrics.jsonl`, `params.yaml` and
        `run.json`; several workers share one.
      display: shows progress; None for a new one.

    Raises:
      ValueError: if settings or data are invalid, the latter also when they
        are read, `model_dir` belongs to another run, workers see different
        ones, or there is nothing to evaluate.
      FloatingPointError: if the loss or a weight is no longer finite.
      SystemExit: on Ctrl-C, with the shell's exit code for it, 130.
    """
    _check(params)
    folder = runs.Run(model_dir)
    # First: logical CPUs and the connection of several workers must be set up
    # before TensorFlow's first operation, and preparing may resize images.
    devices = strategy.build(params.runtime)
    # Before data are written to a folder that has nothing to evaluate.
    found, start = _checkpoint(params, head, mode, folder), folder.step()
    prepared = head.prepare(params, folder)
    total = params.trainer.train_steps
    least = {
        "train_steps": 1,
        "validation_interval": 0,
        "checkpoint_interval": 1,  # With 0, Orbit would save nothing at all.
    }
    config.require_at_least(params.trainer, least, "trainer.")
    files.make_folder(folder.folder)
    # Always set: an earlier run in this process may have set another one.
    strategy.set_precision(params.runtime)
    about = strategy.describe(
        devices,
        params.task.train_data.global_batch_size,
        params.runtime.accumulation_steps,
    )
    workers.require_agreement(
        devices,
        lambda: {
            "step": start,
            "data": head.data(params, prepared),
            "config": {"mode": mode}
            | same_experiment.relevant(runs.settings(params), "worker"),
        },
        folder.folder,
    )
    if "train" not in mode:
        folder.require_same(params, "read")
    elif found or folder.metrics():
        folder.require_same(params, "resume", start)
    saves = workers.is_chief(devices) and "train" in mode
    if mode == "train_and_eval" and start == total:
        # A finished run is evaluated, and its record is not changed.
        mode = "eval" if folder.evaluated(start) else mode
    display = display or progress.Display(params.task.model.norm_act.name)
    with (
        display,
        progress.quiet_orbit(),
        stoppable(folder, display),
        errors.readable(
            type(params.task).__module__.partition(".")[0],
            lambda: (
                "When they are repaired, the same command resumes the run. "
                f"Received: model_dir={folder.folder!r}, "
                f"saved step={folder.step()}"
            ),
        ),
        workers.saving(devices, folder) as place,
        compilation.using(params.runtime),
    ):
        display.say(f"{about}. {progress.place(start, total, folder.folder)}")
        display.say(progress.settings(params))
        session = Session(
            params,
            prepared,
            folder,
            mode,
            devices,
            folder.whole("devices", about, start),
            start,
            place,
        )
        tf_keras.utils.set_random_seed(params.task.seed)
        # TensorFlow sorts the inputs of a sum by name, and dense_10 is before
        # dense_9: in a process of several runs, gradients would be added in
        # another order, and a resumed run would differ in the last bit.
        tf_keras.backend.reset_uids()
        built = head.build(session)
        if session.trains:
            display.say(built.trainer.compilation.text)
        with iterators.released(built.trainer):
            # A checkpoint of another model is rejected before anything is
            # recorded.
            controller = _controller(session, built, display)
            if saves and session.trains:
                folder.forget(start, _best(params))
            if saves:
                path = folder.record(
                    params, about, built.facts, start >= total, start
                )
                display.say(f"The whole config is in {path}")
            if mode == "eval_best":
                _restore_best(controller, built, found)
            metrics = train_and_evaluate(
                controller, params.trainer, mode, folder, built.evaluates_first
            )
        step = int(built.trainer.global_step.numpy())
        if metrics and session.chief:
            for text in head.draw(session, built, step):
                display.say(text)
    return Result(built.trainer, step, metrics)


def _check(params: config.Experiment) -> None:
    """Rejects settings without an effect, or too small, for every head."""
    config.refuse_unread(
        params,
        config.Experiment(trainer=trainer_config(), runtime=strategy.Runtime()),
        _UNREAD,
        "TF_CONFIG describes workers, and the devices are found, so",
    )
    for key, value in runs.settings(params).items():
        seed = key.startswith("task.") and key.endswith("seed")
        if seed and value is not None and not 0 <= value < _SEEDS:
            raise ValueError(
                "A seed must be at least 0 and below 2**32. "
                f"Received: {key}={value}"
            )
    place = params.trainer.best_checkpoint_export_subdir
    if place and posixpath.normpath(place) in (".", ".."):
        raise ValueError(
            "The best checkpoint needs a folder of its own in model_dir, such "
            "as best; it would remove the others. Received: "
            f"trainer.best_checkpoint_export_subdir={place!r}"
        )
    least = {"steps_per_loop": 1, "max_to_keep": 1}
    if params.trainer.validation_steps != -1:  # All images.
        least["validation_steps"] = 1
    config.require_at_least(params.trainer, least, "trainer.")


def _checkpoint(
    params: config.Experiment, head: Head, mode: str, folder: runs.Run
) -> str | None:
    """Returns the checkpoint to resume from, or to evaluate."""
    if mode == "eval_best" and not head.saves_best:
        raise ValueError(
            "Such a run has no best checkpoint, only its last ones; use "
            f"--mode=eval. Received: mode={mode!r}"
        )
    found = folder.checkpoint(_best(params) if mode == "eval_best" else "")
    if found is None and "train" not in mode:
        latest = mode == "eval_best" and folder.checkpoint()
        hint = (
            "This run saves only its last checkpoints; use --mode=eval, or "
            "train with trainer.best_checkpoint_eval_metric"
            if latest
            else "There is no checkpoint to evaluate; train first"
        )
        raise ValueError(
            f"{hint}. Received: model_dir={folder.folder!r}, mode={mode!r}"
        )
    if (found or folder.metrics()) and not folder.has(runs.CONFIG_FILE):
        what = "checkpoint" if found else runs.METRICS_FILE
        raise ValueError(
            f"There is no {runs.CONFIG_FILE} next to the {what}, so its "
            "run is unknown. Restore the file, or use another model_dir for "
            f"this run. Received: model_dir={folder.folder!r}"
        )
    if not found and folder.finished():
        raise ValueError(
            "model_dir has the record of a finished run, but no checkpoint, "
            "so training would begin again and replace the record. Use another "
            f"model_dir, or remove {runs.METRICS_FILE} to begin again. "
            f"Received: model_dir={folder.folder!r}"
        )
    return found


def _best(params: config.Experiment) -> str:
    """Returns the subfolder of the best checkpoint."""
    return params.trainer.best_checkpoint_export_subdir or "best"


def _controller(
    session: Session, built: Built, display: progress.Display
) -> orbit.Controller:
    """Returns Orbit's loop for the trainer; restores the last checkpoint."""
    settings, trainer = session.params.trainer, built.trainer
    writes = session.chief and session.trains
    seen = callbacks.Callbacks(
        built, display, session.run, (session.start, settings.train_steps),
        writes,
    )  # fmt: skip

    def evaluated(output: Logs) -> None:
        seen.evaluated(output)
        data = getattr(trainer, "eval_dataset", None)
        # Ended early, it has the time it needs; the last one ends on exit.
        if data is not None and seen.step < settings.train_steps:
            data.release()

    manager = checkpoints.Checkpoints(
        trainer.checkpoint,
        session.folder,
        built.models,
        max_to_keep=settings.max_to_keep,
        step_counter=trainer.global_step,
        checkpoint_interval=settings.checkpoint_interval,
        init_fn=getattr(trainer, "initialize", None),
    )
    every = settings.steps_per_loop
    others = actions.get_train_actions(
        session.params, trainer, session.folder, manager
    )
    return orbit.Controller(
        trainer=trainer if session.trains else None,
        evaluator=built.evaluator,
        strategy=session.devices,
        global_step=trainer.global_step,
        steps_per_loop=every,
        checkpoint_manager=manager,
        # Orbit needs a multiple of a loop, at whose end summaries are written.
        summary_interval=max(settings.summary_interval // every, 1) * every,
        summary_dir=session.run.path("train") if writes else None,
        eval_summary_dir=(
            session.run.path(settings.validation_summary_subdir)
            if writes
            else None
        ),
        train_actions=[seen.trained, *others],
        eval_actions=[evaluated],
    )


def train_and_evaluate(
    controller: orbit.Controller,
    settings: config_definitions.TrainerConfig,
    mode: str,
    folder: runs.Run,
    first: bool = False,
) -> dict[str, float]:
    """Trains and evaluates from the controller's step.

    Evaluations are at multiples of their interval, wherever the run was
    resumed; Orbit's own loop would count them from there.

    Args:
      controller: Orbit's, restored.
      settings: `train_steps`, `validation_interval` (0: only at the end) and
        `validation_steps`.
      mode: one of `flags.MODES`.
      folder: has the record of earlier evaluations.
      first: whether a new run is also evaluated before its first step.

    Returns:
      The last evaluation's metrics, {} if there was none.
    """
    total, metrics = settings.train_steps, None
    if mode == "train":
        controller.train(total)
        return {}
    step = int(controller.global_step.numpy())
    if mode == "train_and_eval" and step < total:
        every = settings.validation_interval or total
        # A new run, or one killed between a checkpoint and its evaluation.
        due = step % every == 0 and (step or first)
        if due and not folder.evaluated(step):
            controller.evaluate(settings.validation_steps)
        while step < total:
            step = min(step - step % every + every, total)
            controller.train(step, checkpoint_at_completion=False)
            metrics = controller.evaluate(settings.validation_steps)
        controller.save_checkpoint()
    # Only an evaluation, or a run that was already finished.
    if metrics is None:
        metrics = controller.evaluate(settings.validation_steps)
    return progress.scalars(metrics or {})


def _restore_best(
    controller: orbit.Controller, built: Built, path: str
) -> None:
    """Restores the best checkpoint instead of the latest."""
    optimizer = built.trainer.optimizer
    with controller.strategy.scope():
        checkpoints.restore(built.trainer.checkpoint, path, built.models)
        if isinstance(optimizer, optimization.ExponentialMovingAverage):
            # It was saved with the average in the model, where the evaluation
            # will put it.
            optimizer.swap_weights()


@contextlib.contextmanager
def stoppable(folder: runs.Run, display: progress.Display) -> Iterator[None]:
    """Ends a run on Ctrl-C with a message; what is saved is complete.

    Raises:
      SystemExit: 130, if Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        step = folder.step()
        saved = f"saved up to step {step}" if step else "nothing was saved yet"
        display.say(
            f"Stopped; {saved} in {folder.folder}. The same command resumes "
            "from there."
        )
        raise SystemExit(130) from None
