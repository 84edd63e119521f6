"""The run path of every head: prepare, build, restore, train, evaluate.

A head supplies what is its own (`Head`); this adds what all runs need: a run
that is killed resumes from its last checkpoint and ends with the weights of
an unbroken one, a loss that is not finite stops it, another experiment's
folder is refused, and progress can be read by people and programs.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import orbit
import tensorflow as tf
import tf_keras
from official.core import actions, config_definitions
from official.modeling import optimization, performance

from evonorm_tf import files
from training import (
    callbacks,
    checkpoints,
    config,
    iterators,
    progress,
    runs,
    same_experiment,
    strategy,
    summary,
    workers,
)

Logs = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Session:
    """One run in this process, as a head's methods see it.

    Attributes:
      params: the experiment, resolved.
      prepared: what the head's `prepare` returned.
      run: the run's folder.
      mode: one of `flags.MODES`.
      devices: the strategy.
      about: the devices in words.
      start: the step that the run resumes from.
      folder: where this process saves: the run's folder, or one of its own
        for a worker that is not the chief.
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
        """Whether the run trains, and does not only evaluate."""
        return "train" in self.mode

    @property
    def chief(self) -> bool:
        """Whether this process writes, of those that share the strategy."""
        return workers.is_chief(self.devices)


@dataclasses.dataclass(frozen=True)
class Built:
    """What a head's `build` returns.

    Attributes:
      trainer: Orbit's, with `checkpoint`, `global_step` and `strategy`.
      evaluator: Orbit's; often the same object.
      models: by their names in the checkpoint; they are compared with it when
        it is read, and checked for finite weights after each training loop.
      images: how many a step takes.
      losses: by the name to show, the logs of a loop that add up to it.
      facts: what `run.json` is to say.
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
    """What a head adds to the run path."""

    def prepare(self, params: config.Experiment, run: runs.Run) -> Any:
        """Opens the data and completes the config, in place.

        Raises:
          ValueError: invalid data or settings.
        """

    def data(self, params: config.Experiment, prepared: Any) -> list[str]:
        """What tells the data of this host from others, ready for JSON."""

    def build(self, session: Session) -> Built:
        """Builds seeded models, trainer and evaluator; restores nothing."""

    def shrink(self, params: config.Experiment, replicas: int = 1) -> str:
        """Makes an experiment take seconds, in place: --debug.

        Args:
          params: the experiment.
          replicas: how many share a step.

        Returns:
          What this did, in one line for the screen.
        """

    def draw(self, session: Session, built: Built, step: int) -> list[str]:
        """Draws what the evaluation at `step` found; returns what to say."""

    def preflight(
        self, params: config.Experiment, topology: str, json_file: str | None
    ) -> None:
        """Compiles a training step for a TPU that is not attached."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ends with.

    Attributes:
      trainer: the head's, with its models.
      step: global step reached.
      metrics: the last evaluation's metrics, {} where there was none.
    """

    trainer: Any
    step: int
    metrics: Logs

    @property
    def model(self) -> tf_keras.Model:
        """The model of a trainer that has one."""
        return self.trainer.model


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
        An evaluation alone leaves the run's record as it is.
      model_dir: checkpoints, `metrics.jsonl`, `params.yaml`, `run.json`;
        several workers share one.
      display: where progress is shown; a bar of its own when None.

    Raises:
      ValueError: invalid settings or data; `model_dir` holds another run, or
        workers see different ones; nothing to evaluate.
      FloatingPointError: the loss or a weight is no longer finite.
      SystemExit: Ctrl-C, with the shell's code for it, 130.
    """
    folder = runs.Run(model_dir)
    prepared = head.prepare(params, folder)
    files.make_folder(folder.folder)
    start, total = folder.step(), params.trainer.train_steps
    found = _checkpoint(params, mode, folder)
    devices = strategy.build(params.runtime)
    # Always: a run before this one in the process may have set another.
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
    about = strategy.describe(
        devices,
        params.task.train_data.global_batch_size,
        params.runtime.accumulation_steps,
    )
    workers.require_agreement(
        devices,
        lambda: {
            "step": start,
            "config": same_experiment.relevant(runs.settings(params), "resume"),
            "data": head.data(params, prepared),
        },
        folder.folder,
    )
    if found:
        purpose = "resume" if "train" in mode else "read"
        folder.require_same(params, purpose, start)
    saves = workers.is_chief(devices) and "train" in mode
    if saves and not start:
        # Of a run that saved nothing: its first evaluation is not this one's.
        folder.clear_metrics()
    if mode == "train_and_eval" and start == total:
        # A finished run is evaluated, and its record left as it is.
        mode = "eval" if folder.evaluated(start) else mode
    display = display or progress.Display(params.task.model.norm_act.name)
    with (
        display,
        progress.quiet_orbit(),
        stoppable(folder, display),
        workers.saving(devices, folder) as place,
    ):
        display.say(f"{about}. {summary.place(start, total, folder.folder)}")
        display.say(summary.settings(params))
        session = Session(
            params, prepared, folder, mode, devices, about, start, place
        )
        tf_keras.utils.set_random_seed(params.task.seed)
        built = head.build(session)
        if saves:
            path = folder.record(params, about, built.facts, start >= total)
            display.say(f"The whole config is in {path}")
        with iterators.released(built.trainer):
            controller = _controller(session, built, display)
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


def _checkpoint(
    params: config.Experiment, mode: str, folder: runs.Run
) -> str | None:
    """The checkpoint to resume from, or to evaluate."""
    best = params.trainer.best_checkpoint_export_subdir or "best"
    found = folder.checkpoint(best if mode == "eval_best" else "")
    if found is None and "train" not in mode:
        latest = mode == "eval_best" and folder.checkpoint()
        hint = (
            "This run keeps its last checkpoints alone; use --mode=eval, or "
            "train with trainer.best_checkpoint_eval_metric"
            if latest
            else "There is no checkpoint to evaluate; train first"
        )
        raise ValueError(
            f"{hint}. Received: model_dir={folder.folder!r}, mode={mode!r}"
        )
    if found and not folder.has(runs.CONFIG_FILE):
        raise ValueError(
            f"There is no {runs.CONFIG_FILE} beside the checkpoint to say "
            "what run it is of. Put it back, or give this run a model_dir of "
            f"its own. Received: model_dir={folder.folder!r}"
        )
    return found


def _controller(
    session: Session, built: Built, display: progress.Display
) -> orbit.Controller:
    """Orbit's loop around the trainer; restores the last checkpoint."""
    settings, trainer = session.params.trainer, built.trainer
    writes = session.chief and session.trains
    seen = callbacks.Callbacks(
        built, display, session.run, (session.start, settings.train_steps),
        writes,
    )  # fmt: skip

    def evaluated(output: Logs) -> None:
        seen.evaluated(output)
        data = getattr(trainer, "eval_dataset", None)
        # Ended early, it has the time it needs; the last is left to the exit.
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
        # Orbit takes a multiple of a loop, where summaries are cut.
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
    """Trains and evaluates from the step where the controller is.

    Evaluations are at multiples of their interval, wherever the run was
    started: Orbit's own loop counts them from there.

    Args:
      controller: Orbit's, restored.
      settings: `train_steps`, `validation_interval` (0: at the end alone) and
        `validation_steps`.
      mode: one of `flags.MODES`.
      folder: says what was evaluated before.
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
        if due and not folder.evaluated(step):
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


def _restore_best(
    controller: orbit.Controller, built: Built, path: str
) -> None:
    """Puts the best checkpoint in the place of the latest."""
    optimizer = built.trainer.optimizer
    with controller.strategy.scope():
        checkpoints.restore(built.trainer.checkpoint, path, built.models)
        if isinstance(optimizer, optimization.ExponentialMovingAverage):
            # It was saved with the average in the model's place, where the
            # evaluation will put it.
            optimizer.swap_weights()


@contextlib.contextmanager
def stoppable(folder: runs.Run, display: progress.Display) -> Iterator[None]:
    """Ends a run by Ctrl-C with a message; what is saved is complete.

    Raises:
      SystemExit: 130, where Ctrl-C was pressed.
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
