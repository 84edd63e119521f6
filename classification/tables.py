"""Registers the tables of configs/classification/tables.yaml."""

from typing import Any

from training import report


def _resolve(row: report.Row) -> Any:
    """Returns the config that a run of a row records, without its data."""
    from classification import (
        experiment,  # Imports TensorFlow, which is slow.
    )
    from training import config, schedule

    params = config.parse(row=row)
    experiment.fill_in(params.task)
    schedule.resolve(
        params.trainer,
        params.task.schedule,
        row.recipe.examples,
        params.task.train_data.global_batch_size,
    )
    return params


TABLES = report.register("classification", _resolve)
