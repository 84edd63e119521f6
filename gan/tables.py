"""Registers the tables of configs/gan/tables.yaml."""

from typing import Any

from training import report


def _resolve(row: report.Row) -> Any:
    """Returns the config that a run of a row records."""
    # These import TensorFlow, which is slow; the first registers experiments.
    from gan import experiment  # noqa: F401
    from training import config

    return config.parse(row=row)


TABLES = report.register("gan", _resolve)
