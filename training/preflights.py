"""The flag --preflight of all heads; a head supplies the steps to compile."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import tf_keras

from evonorm_tf import files, preflight
from evonorm_tf.preflight import tpu
from evonorm_tf.preflight.report import Build
from training import config, strategy


@contextlib.contextmanager
def precision(params: config.Experiment) -> Iterator[None]:
    """Sets the run's precision while its model is created."""
    before = tf_keras.mixed_precision.global_policy()
    strategy.set_precision(params.runtime)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def request(
    params: config.Experiment,
    topology: str,
    build: Build,
    largest: bool = True,
) -> preflight.Request:
    """Returns the preflight to run for an experiment.

    Args:
      params: the resolved experiment; its batch is divided among the chips.
      topology: such as "v5e:2x2".
      build: from layer and batch per chip to the step's module.
      largest: whether to find the largest batch.

    Raises:
      ValueError: if the topology is unknown or the chips do not divide the
        batch.
    """
    chips, batch = tpu.chips(topology), params.task.train_data.global_batch_size
    if batch % chips:
        raise ValueError(
            f"The batch must be divisible by the {chips} chips of {topology}. "
            f"Received: global_batch_size={batch}"
        )
    layer = params.task.model.norm_act.name
    return preflight.Request(
        build, layer, batch // chips, topology, largest=largest
    )


def report(
    params: config.Experiment,
    module: Callable[[config.Experiment, str | None, int], Any],
    topology: str,
    json_file: str | None = None,
) -> None:
    """Prints the TPU compiler's figures of a head's training step.

    Args:
      params: the resolved experiment; its batch is divided among the chips.
      module: the head's `preflight_module`, from experiment, layer and batch
        per chip to the step.
      topology: such as "v5e:2x2".
      json_file: also write the report to this file.

    Raises:
      ValueError: if the topology is unknown, the chips do not divide the
        batch, or a TPU cannot run the settings.
    """
    asked = request(params, topology, functools.partial(module, params))
    write(show(asked), json_file)


def show(asked: preflight.Request) -> dict[str, Any]:
    """Compiles and prints; returns the report."""
    found = preflight.run(asked, lambda text: print(text, flush=True))
    print(preflight.as_text(found))
    return found


def write(found: dict[str, Any], json_file: str | None) -> None:
    """Writes the report if a file is requested."""
    if json_file:
        files.write(json_file, json.dumps(found, indent=1) + "\n")
