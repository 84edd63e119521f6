r"""Trains a classifier.

    python -m classification.train --experiment=cifar10_resnet \
        --norm_act=evonorm_s0 --model_dir=runs/cifar10-s0 \
        --params_override=task.train_data.tfds_data_dir=DIR
    python -m classification.train --row=imagenet/r50-aug/evonorm_b0 --debug
    python -m classification.train --row=imagenet/r50/evonorm_s0 \
        --preflight=v5e:2x2

A row of the paper's tables (`python -m configs.tables` lists them) defines
experiment, recipe and layer; without --model_dir it is written to runs/ROW, and
with --debug to runs/debug/ROW. Run the same command again to resume training
from the last checkpoint. --preflight compiles the step for a TPU without having
one.
"""

import dataclasses

from classification import experiment, steps, task
from classification.tables import TABLES
from training import config, driver, flags, garden, runs
from training.report import results

_DEBUG_BATCH = 4  # images per replica and micro-batch
_DEBUG_SIZE = 64  # pixels; five halvings leave 2x2


class Classification(garden.TaskHead):
    """See `training.driver.Head`."""

    step = staticmethod(steps.preflight_module)

    def prepare(
        self, params: config.Experiment, run: runs.Run | None = None
    ) -> task.Task:
        """Opens the data, and converts epochs to steps in the config."""
        del run
        return task.prepare(params)

    def data(self, params: config.Experiment, prepared: task.Task) -> list[str]:
        """Returns counts and digests of both splits."""
        del params
        return [
            prepared.source(training).reader.identity()
            for training in (True, False)
        ]

    def build(self, session: driver.Session) -> driver.Built:
        """Builds the task; the record names the rows that it belongs to."""
        built = super().build(session)
        rows = results.rows_of(
            runs.settings(session.params), session.about, TABLES.rows()
        )
        return dataclasses.replace(built, facts=built.facts | {"rows": rows})

    def shrink(self, params: config.Experiment, replicas: int = 1) -> str:
        """Shrinks any experiment to seconds, without its data, for --debug.

        One block per stage at a quarter of the width, two steps of four images
        per replica and micro-batch, one batch of evaluation. The code is that
        of the full run, but the images are scikit-learn's digits: as JPEG files
        if the experiment reads files, and in memory if its images are small and
        of one size.
        """
        params.task.model.max_depth = 1
        params.task.model.width *= 0.25
        experiment.fill_in(params.task)
        train, test = params.task.train_data, params.task.validation_data
        asked = train.dataset
        for data, split in ((train, "train"), (test, "test")):
            data.split, data.path, data.tfds_data_dir = split, "", ""
            data.label_offset = data.examples = 0
            data.global_batch_size = _DEBUG_BATCH * replicas
            data.shuffle_buffer_size = 16
            if data.image_size:
                data.dataset = "jpeg_digits"
                data.image_size = min(data.image_size, _DEBUG_SIZE)
            else:
                data.dataset, data.mean, data.std = "digits", [0.5], [0.25]
        train.global_batch_size *= params.runtime.accumulation_steps
        params.trainer.train_steps = 2
        params.trainer.steps_per_loop = params.trainer.summary_interval = 1
        params.trainer.validation_steps = 1
        return (
            f"DEBUG: two steps of a shrunken network on {train.dataset} "
            f"(scikit-learn's), not {asked}; its accuracy means nothing."
        )


HEAD = Classification()

if __name__ == "__main__":
    flags.train(HEAD, TABLES)
