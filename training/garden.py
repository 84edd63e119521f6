"""Heads whose training step is a task of the Model Garden."""

from typing import Any

import tf_keras
from official.core import train_utils

from evonorm_tf import files
from training import accumulation, best_checkpoint, config, driver, preflights


class TaskHead(driver.Head):
    """Builds the Model Garden's trainer for a prepared task.

    The task has `seed`, and `start_step`, which is set to the step from which
    the run resumes before inputs are built.
    """

    def build(self, session: driver.Session) -> driver.Built:
        """Builds trainer and seeded weights; restores nothing."""
        params, task = session.params, session.prepared
        task.start_step = session.start
        keeper = None
        if session.trains:
            aside = None
            if not session.chief:
                aside = files.join(session.folder, "best")
            keeper = best_checkpoint.from_config(
                params.trainer, session.run, aside
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
            # If the first step created slot variables, TensorFlow would trace
            # the step a second time and restore them only then.
            optimizer = trainer.optimizer
            create = getattr(optimizer, "_create_all_weights", None)
            (create or optimizer.build)(trainer.model.trainable_variables)
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


def _facts(task: Any, model: tf_keras.Model) -> dict[str, Any]:
    """Returns what an export must know of the data."""
    facts = {}
    # Only models with one input tensor have the attribute.
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple):
        facts["input_shape"] = list(shape[1:])
    if hasattr(task, "resized"):
        facts["resized"] = task.resized
    names = getattr(task, "class_names", ())
    return facts | ({"classes": list(names)} if names else {})
