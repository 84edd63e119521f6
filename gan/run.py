"""One GAN run: build, resume, train, sample, measure, record."""

import dataclasses

import orbit
import tensorflow as tf
import tf_keras
from official.modeling import performance

from evonorm_tf import files
from gan import data, evaluation, experiment, restore, trainer
from training import (
    config,
    driver,
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
_LOSSES = {
    "loss of D": ["discriminator_loss_real", "discriminator_loss_fake"],
    "of G": ["generator_loss"],
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run ends with.

    Attributes:
      trainer: networks, optimizers, step.
      metrics: the last evaluation's, {} where there was none.
    """

    trainer: trainer.Trainer
    metrics: Logs


def run(
    params: config.Experiment,
    mode: str,
    model_dir: str,
    display: progress.Display | None = None,
) -> Result:
    """Runs an experiment, from where `model_dir` left off.

    Args:
      params: the experiment.
      mode: one of `training.flags.MODES`.
      model_dir: checkpoints, metrics, config, samples, classifier.
      display: where progress is shown; one of its own when None.

    Raises:
      ValueError: a config that cannot be, another run in `model_dir`,
        nothing to evaluate.
      FloatingPointError: a loss or a weight is no longer finite.
      SystemExit: Ctrl-C, with the shell's code for it, 130.
    """
    if mode == "eval_best":
        raise ValueError(
            "A GAN run keeps its last checkpoints alone; use --mode=eval. "
            f"Received: mode={mode!r}"
        )
    folder = runs.Run(model_dir)
    start = folder.step()
    if mode == "eval" and not start:
        raise ValueError(
            "There is no checkpoint to evaluate; train first. "
            f"Received: model_dir={model_dir!r}"
        )
    if start:
        _require_recorded(folder)
        purpose = "read" if mode == "eval" else "resume"
        folder.require_same(params, purpose, start)
    evaluation.check(params.task.evaluation)
    devices = strategy.build(params.runtime)
    workers.require_one_step(devices, start, folder.folder)
    chief = workers.is_chief(devices)
    built, about = build(params, devices, start)
    if start:
        _read(built, devices, folder, params.task.model)
    files.make_folder(folder.folder)
    if not start and chief:
        # Of a run that saved nothing: its first evaluation is not this one's.
        files.write(folder.path(runs.METRICS_FILE), "")
    total = params.trainer.train_steps
    if mode != "eval" and chief:
        folder.record(params, about, finished=start >= total)
    if mode == "train_and_eval" and start == total:
        # What is finished and recorded is looked at, and left as it is.
        mode = "eval" if folder.evaluated(start) else mode
    display = display or progress.Display(params.task.model.norm_act.name)
    with (
        display,
        progress.quiet_orbit(),
        driver.stoppable(folder, display),
        iterators.released(built),
    ):
        display.say(f"{about}. {echo.place(start, total, folder.folder)}")
        task = params.task
        images = task.train_data.global_batch_size * task.discriminator_steps
        writes = mode != "eval" and chief
        seen = watch.Watch(display, folder, (start, total), images, writes)
        seen.look_at(_LOSSES, ["generator", "discriminator"])
        seen.trainer = built
        controller = _controller(params, (built, seen), devices, folder)
        metrics = loop.execute(
            controller, params.trainer, mode, folder, first=True
        )
        if metrics:
            display.say(controller.evaluator.about)
    return Result(built, metrics)


def build(
    params: config.Experiment, devices: tf.distribute.Strategy, start: int
) -> tuple[trainer.Trainer, str]:
    """The trainer with its seeded weights, and the devices in words.

    Args:
      params: the experiment.
      devices: where it runs.
      start: the step that its data go on from.

    Raises:
      ValueError: a config that cannot be.
    """
    task: experiment.Task = params.task
    batch = task.train_data.global_batch_size
    about = strategy.describe(devices, batch)
    per_replica = batch // devices.num_replicas_in_sync
    check_task(task, per_replica)
    if params.runtime.accumulation_steps != 1:
        raise ValueError(
            "A GAN step accumulates by task.accumulation. Received: "
            "runtime.accumulation_steps="
            f"{params.runtime.accumulation_steps}"
        )
    # Always: a run before this one in the process may have set another.
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
    images = data.open_images(task.train_data, task.model)

    def inputs(context: tf.distribute.InputContext) -> tf.data.Dataset:
        fetched = per_replica * task.discriminator_steps
        seed = task.train_data.seed
        return data.inputs(images, seed, fetched, start, context)

    tf_keras.utils.set_random_seed(task.seed)
    dataset = devices.distribute_datasets_from_function(inputs)
    return trainer.Trainer(params, devices, dataset), about


def _require_recorded(folder: runs.Run) -> None:
    """Refuses a checkpoint that nothing says the origin of.

    Raises:
      ValueError: there is no config beside it.
    """
    if not folder.has(runs.CONFIG_FILE):
        raise ValueError(
            f"There is no {runs.CONFIG_FILE} beside the checkpoint to say "
            "what run it is of. Put it back, or give this run a model_dir of "
            f"its own. Received: model_dir={folder.folder!r}"
        )


def _read(
    built: trainer.Trainer,
    devices: tf.distribute.Strategy,
    folder: runs.Run,
    model: experiment.Model,
) -> None:
    """Reads the last checkpoint: Orbit, which does so too, checks nothing."""
    path = folder.checkpoint()
    names = ("generator", "average", "discriminator")
    found = {name: getattr(built, name) for name in names}
    with devices.scope():
        restore.read(built.checkpoint, found, path, model)


def check_task(task: experiment.Task, per_replica: int) -> None:
    """Refuses steps that cannot be.

    Args:
      task: the task.
      per_replica: images of one step on one replica.

    Raises:
      ValueError: less than one step or part, or parts that do not divide.
    """
    for name in ("discriminator_steps", "accumulation"):
        if getattr(task, name) < 1:
            raise ValueError(
                f"task.{name} must be at least 1. "
                f"Received: {name}={getattr(task, name)}"
            )
    if per_replica % task.accumulation:
        raise ValueError(
            "task.accumulation must divide a replica's batch. Received: "
            f"accumulation={task.accumulation}, batch={per_replica}"
        )


def _controller(
    params: config.Experiment,
    parts: tuple[trainer.Trainer, watch.Watch],
    devices: tf.distribute.Strategy,
    folder: runs.Run,
) -> orbit.Controller:
    """Orbit's loop around the trainer; restores what there is."""
    built, seen = parts
    settings = params.trainer
    # TensorFlow has every worker save; the chief's is the one that counts.
    chief = workers.is_chief(devices)
    own = folder if chief else runs.Run(workers.aside(folder))
    manager = runs.Checkpoints(
        built.checkpoint,
        own.folder,
        max_to_keep=settings.max_to_keep,
        step_counter=built.global_step,
        checkpoint_interval=settings.checkpoint_interval,
    )
    return orbit.Controller(
        trainer=built,
        evaluator=evaluation.Evaluator(
            params,
            built.average,
            devices,
            folder,
            lambda: int(built.global_step.numpy()),
        ),
        strategy=devices,
        global_step=built.global_step,
        steps_per_loop=settings.steps_per_loop,
        checkpoint_manager=manager,
        # Summaries are cut at the end of a loop.
        summary_interval=settings.steps_per_loop,
        summary_dir=own.path("train"),
        eval_summary_dir=own.path("validation"),
        train_actions=[seen.trained],
        eval_actions=[seen.evaluated],
    )
