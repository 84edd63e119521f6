r"""Trains a BigGAN.

    python -m gan.train --debug
    python -m gan.train --row=imagenet128/biggan_deep/evonorm_b0 --debug
    python -m gan.train --row=cifar10/biggan_small/evonorm_s0 \
        --params_override=task.train_data.tfds_data_dir=DIR

The first command generates digits, in a few minutes on two CPU cores. A row of
a table of results (`python -m configs.tables` lists them) defines experiment,
recipe and layer. Without --model_dir, it is written to runs/ROW, and with
--debug to runs/debug/ROW; the first command writes to runs/debug/gan-digits.
Run the same command again to resume training from the last checkpoint.
--preflight=v5e:2x2 compiles the steps for a TPU without having one.
"""

import tensorflow as tf

from gan import datasets, evaluation, experiment, steps, trainer  # noqa: F401
from gan.tables import TABLES
from training import config, driver, flags, runs

_DIGITS = "digits"
_DEBUG_BATCH = 32  # images; of more than 64 px
_DEBUG_BATCH_LARGE = 4
_DEBUG_WIDTH = 8
_LOSSES = {
    "loss of D": ["discriminator_loss_real", "discriminator_loss_fake"],
    "of G": ["generator_loss"],
}


class Synthesis(driver.Head):
    """See `training.driver.Head`."""

    saves_best = False

    def prepare(
        self, params: config.Experiment, run: runs.Run
    ) -> datasets.Source:
        """Opens the images."""
        del run
        evaluation.check(params.task.evaluation)
        trainer.check(params, params.task.train_data.global_batch_size)
        return datasets.open_images(params.task.train_data, params.task.model)

    def data(
        self, params: config.Experiment, prepared: datasets.Source
    ) -> list[str]:
        """Returns count and digest of the images."""
        del params
        return [prepared.reader.identity()]

    def build(self, session: driver.Session) -> driver.Built:
        """Builds networks, optimizers and evaluator; restores nothing."""
        params, devices = session.params, session.devices
        task = params.task
        batch = task.train_data.global_batch_size
        per_replica = batch // devices.num_replicas_in_sync
        trainer.check(params, per_replica)

        def inputs(context: tf.distribute.InputContext) -> tf.data.Dataset:
            fetched = per_replica * task.discriminator_steps
            seed, start = task.train_data.seed, session.start
            return datasets.inputs(
                session.prepared, seed, fetched, start, context
            )

        dataset = devices.distribute_datasets_from_function(inputs)
        built = trainer.Trainer(params, devices, dataset)
        return driver.Built(
            built,
            evaluation.Evaluator(
                params,
                built.average,
                devices,
                session.run,
                lambda: int(built.global_step.numpy()),
                apart=not session.trains and _measures_otherwise(session),
            ),
            built.models,
            batch * task.discriminator_steps,
            _LOSSES,
            evaluates_first=True,
        )

    def draw(
        self, session: driver.Session, built: driver.Built, step: int
    ) -> list[str]:
        """Returns the provenance of the metrics; the evaluation draws."""
        del session, step
        return [built.evaluator.about]

    def preflight(
        self, params: config.Experiment, topology: str, json_file: str | None
    ) -> None:
        """Prints the TPU compiler's figures of both networks' steps."""
        steps.report(params, topology, json_file)

    def shrink(self, params: config.Experiment, replicas: int = 1) -> str:
        """Shrinks any experiment, without its data, for --debug.

        Narrow networks and two steps, with the code of the full run, but the
        images are scikit-learn's digits: in memory at 32 px, or as files that
        are decoded during training if the run reads files. The embedded digits
        themselves get enough steps to recognize their strokes.
        """
        task, trainer = params.task, params.trainer
        model, data, measured = task.model, task.train_data, task.evaluation
        asked = data.dataset
        small = asked == _DIGITS or asked.startswith("cifar")
        batch = (
            _DEBUG_BATCH if small else _DEBUG_BATCH_LARGE * task.accumulation
        )
        batch *= replicas
        model.generator_width = min(model.generator_width, _DEBUG_WIDTH)
        model.discriminator_width = min(model.discriminator_width, _DEBUG_WIDTH)
        model.norm_act.min_group_size = max(model.norm_act.min_group_size, 4)
        data.global_batch_size = min(data.global_batch_size, batch)
        task.average_start, task.average_decay = 50, 0.97
        measured.standing_batches = 4
        if asked == _DIGITS:
            measured.samples = min(measured.samples, 1000)
            trainer.train_steps = 300
        else:
            data.dataset = _DIGITS if small else "jpeg_digits"
            data.split, model.num_classes = "train", 10
            data.tfds_data_dir = ""
            measured.extractor, measured.classifier_steps = "own", 20
            measured.path = measured.sha256 = measured.reference = ""
            measured.split, measured.samples = "", 80
            measured.batch_size, measured.grid_rows = 20, 2
            measured.kernel_block = min(measured.kernel_block, 20)
            trainer.train_steps = 2
        trainer.steps_per_loop = min(trainer.train_steps, 25)
        trainer.validation_interval = trainer.train_steps
        if asked == _DIGITS:
            return "DEBUG: 300 steps of narrow networks on digits."
        return (
            f"DEBUG: two steps of narrow networks on {data.dataset} "
            f"(scikit-learn's), not {asked}; their numbers mean nothing."
        )


def _measures_otherwise(session: driver.Session) -> bool:
    """Returns whether an evaluation has other settings than the run's own."""
    now = session.params.task.evaluation.as_dict()
    before = session.run.require_config()["task"]["evaluation"]
    # Only pictures depend on truncations, and so resuming does not.
    key = "truncations"
    return now[key] != before.get(key) or bool(
        session.run.differences(session.params, "resume")
    )


HEAD = Synthesis()

if __name__ == "__main__":
    flags.train(HEAD, TABLES, "digits_biggan", "runs/gan-digits")
