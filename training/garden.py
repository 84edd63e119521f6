"""Heads whose training step is a task of the Model Garden."""

from typing import Any

import tf_keras
from official.core import train_utils
from official.modeling import optimization

from evonorm_tf import files
from training import accumulation, callbacks, config, driver, preflights


class TaskHead(driver.Head):
    """Builds the Model Garden's trainer for a prepared task.

    The task has `seed`; `start_step`, which is set to the step from which the
    run resumes before inputs are built; and `metric_names(trainer)`, the names
    of an evaluation's metrics with these settings of the trainer.
    """

    def build(self, session: driver.Session) -> driver.Built:
        """Builds trainer and seeded weights; restores nothing."""
        params, task = session.params, session.prepared
        batch = params.task.validation_data.global_batch_size
        replicas = session.devices.num_replicas_in_sync
        if "eval" in session.mode and (batch < 1 or batch % replicas):
            raise ValueError(
                "task.validation_data.global_batch_size must be positive and "
                "divisible by the replicas. Received: "
                f"global_batch_size={batch}, replicas={replicas}"
            )
        task.start_step = session.start
        keeper = None
        if session.trains:
            aside = None
            if not session.chief:
                aside = files.join(session.folder, "best")
            keeper = callbacks.best_from_config(
                params.trainer,
                session.run,
                task.metric_names(params.trainer),
                aside,
                session.start,
            )
        with session.devices.scope():
            trainer = train_utils.create_trainer(
                params,
                task,
                train=session.trains,
                evaluate="eval" in session.mode,
                checkpoint_exporter=keeper,
                trainer_cls=accumulation.Trainer,
            )
            _create_slots(trainer.optimizer, trainer.model)
        return driver.Built(
            trainer,
            trainer,
            {"model": trainer.model},
            params.task.train_data.global_batch_size,
            facts=_facts(task, trainer.model),
        )

    def draw(
        self, session: driver.Session, built: driver.Built, step: int
    ) -> list[str]:
        """Draws nothing, unless a head overrides this."""
        del session, built, step
        return []

    def preflight(
        self, params: config.Experiment, topology: str, json_file: str | None
    ) -> None:
        """Prints the TPU compiler's figures of the training step."""
        preflights.report(params, self.step, topology, json_file)


def built(params: config.Experiment, task: Any) -> tuple[tf_keras.Model, Any]:
    """Returns model and optimizer of a task on one device, as a trainer has.

    Args:
      params: the resolved experiment.
      task: its task.
    """
    with preflights.precision(params):
        tf_keras.utils.set_random_seed(task.seed)
        model = task.build_model()
        optimizer = task.create_optimizer(
            params.trainer.optimizer_config, params.runtime
        )
    if isinstance(optimizer, optimization.ExponentialMovingAverage):
        optimizer.shadow_copy(model)
    _create_slots(optimizer, model)
    return model, optimizer


def _create_slots(optimizer: Any, model: tf_keras.Model) -> None:
    """Creates the optimizer's variables.

    If the first step created them, TensorFlow would trace the step a second
    time and restore them only then.
    """
    create = getattr(optimizer, "_create_all_weights", None)
    (create or optimizer.build)(model.trainable_variables)


def _facts(task: Any, model: tf_keras.Model) -> dict[str, Any]:
    """Returns what an export must know of the data."""
    facts = {}
    # Only models with one input tensor have the attribute.
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple):
        facts["input_shape"] = list(shape[1:])
    if hasattr(task, "resized"):
        facts["resized"] = task.resized
    if hasattr(task, "categories"):
        facts["categories"] = dict(task.categories)
    names = getattr(task, "class_names", ())
    return facts | ({"classes": list(names)} if names else {})
