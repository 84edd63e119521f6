"""One run: build, resume, train, evaluate, record.

The Model Garden's trainer and Orbit's controller do the work; this adds what
they lack: a run that is killed goes on where it was and ends with the weights
of an unbroken one, a loss that is not finite stops it, and its progress can
be read by people and programs.
"""

import dataclasses
import os
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions, train_lib, train_utils
from official.modeling import performance

from evonorm_tf.training import config, progress, record, strategy

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


def latest_step(model_dir: str) -> int:
    """The step of the last checkpoint in `model_dir`; 0 without one."""
    path = tf.train.latest_checkpoint(model_dir)
    if path is None:
        return 0
    return int(train_utils.read_global_step_from_checkpoint(path))


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
      mode: one of `flags.MODES`.
      model_dir: checkpoints, `metrics.jsonl`, `params.yaml`, `run.json`.
      display: where progress is shown; a bar of its own when None.

    Raises:
      ValueError: `model_dir` holds another model; nothing to evaluate.
      FloatingPointError: the loss or a weight is no longer finite.
    """
    os.makedirs(model_dir, exist_ok=True)
    start = latest_step(model_dir)
    if mode == "eval" and not start:
        raise ValueError(
            "There is no checkpoint to evaluate; train first. "
            f"Received: model_dir={model_dir!r}"
        )
    devices = strategy.build(params.runtime)
    if params.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(
            params.runtime.mixed_precision_dtype
        )
    batch = params.task.train_data.global_batch_size
    about = strategy.describe(devices, batch)
    if start:
        record.check_model(params, model_dir)
    if mode != "eval":
        record.save(params, model_dir, about)
    total = params.trainer.train_steps
    display = display or progress.Display(params.task.model.norm_act.name)
    with display, progress.quiet_orbit():
        display.say(f"{about}. {_where(start, total, model_dir)}")
        task.start_step = start
        watch = _Watch(display, model_dir, start, params)
        runner = _runner(params, task, mode, model_dir, (devices, watch))
        with devices.scope():
            metrics = _execute(runner, params.trainer, mode)
    step = int(runner.trainer.global_step.numpy())
    return Result(runner.trainer.model, step, metrics)


def _where(start: int, total: int, model_dir: str) -> str:
    if not start:
        return f"{total} steps, into {model_dir}"
    return f"Going on from step {start} of {total} in {model_dir}"


def _runner(params, task, mode, model_dir, parts) -> Any:
    """Builds the trainer with seeded weights, and restores what there is."""
    devices, watch = parts
    tf_keras.utils.set_random_seed(task.seed)
    with devices.scope():
        watch.trainer = train_utils.create_trainer(
            params,
            task,
            train="train" in mode,
            evaluate="eval" in mode,
            checkpoint_exporter=train_utils.maybe_create_best_ckpt_exporter(
                params, model_dir
            ),
        )
        # Slot variables made by the first step would have TensorFlow trace
        # the step a second time, and be restored only then.
        optimizer = watch.trainer.optimizer
        create = getattr(optimizer, "_create_all_weights", None)
        (create or optimizer.build)(watch.trainer.model.trainable_variables)
    return train_lib.OrbitExperimentRunner(
        devices,
        task,
        mode,
        params,
        model_dir,
        trainer=watch.trainer,
        train_actions=[watch.trained],
        eval_actions=[watch.evaluated],
    )


def _execute(runner: Any, settings: Any, mode: str) -> Logs:
    """The mode's loop. (The runner's own `run` also profiles the model.)"""
    controller, metrics = runner.controller, None
    if mode == "train":
        controller.train(settings.train_steps)
    elif mode == "train_and_eval":
        metrics = controller.train_and_evaluate(
            settings.train_steps,
            settings.validation_steps,
            settings.validation_interval,
        )
    # An evaluation alone, or of a run that was already at its end.
    if metrics is None and mode != "train":
        metrics = controller.evaluate(settings.validation_steps)
    return progress.scalars(metrics or {})


class _Watch:
    """Orbit's actions: guards, shows and records what a loop returns."""

    def __init__(self, display, model_dir: str, start: int, params):
        self.trainer: Any = None
        self._display = display
        self._model_dir = model_dir
        self._batch = params.task.train_data.global_batch_size
        self._total = params.trainer.train_steps
        self._file = progress.MetricsFile(model_dir, start)
        self._speed = progress.Speed(start)

    def _step(self) -> int:
        return int(self.trainer.global_step.numpy())

    def trained(self, output: dict[str, Any]) -> None:
        """After a training loop, before its checkpoint is saved."""
        step, logs = self._step(), progress.scalars(output)
        record.require_finite(
            step, logs, {"model": self.trainer.model}, self._model_dir
        )
        rate = self._speed.update(step)
        images = rate * self._batch
        self._file.append("train", step, logs | {"images_per_second": images})
        note = (
            f"step {step}/{self._total}, loss {logs['training_loss']:.3f}, "
            f"{images:.0f} images/s"
        )
        left = (self._total - step) / rate
        self._display.update(step / self._total, note, left)

    def evaluated(self, output: dict[str, Any]) -> None:
        """After an evaluation."""
        step, logs = self._step(), progress.scalars(output)
        self._file.append("eval", step, logs)
        text = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        self._display.say(f"step {step}: {text}")
        self._speed.restart()
