"""The flag --preflight of all heads; a head supplies the steps to compile."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import tf_keras

from evonorm_tf import files, preflight
from evonorm_tf.preflight import tpu
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


class Bare(config.NormAct):
    """Replaces every norm_act layer by one that does nothing."""

    def bind(self, layers: ModuleType) -> Callable[..., Any]:
        """Returns a function that creates layers that do nothing."""
        del layers
        return lambda **_: tf_keras.layers.Activation("linear")


def with_layer(
    params: config.Experiment,
    layer: str | None,
    bare: type[config.NormAct] = Bare,
) -> config.Experiment:
    """Returns a copy of an experiment with another layer.

    It also resets the names of Keras layers: the order in a module depends on
    them, and equal programs must have equal texts, whatever was built before.

    Args:
      params: the resolved experiment.
      layer: catalog name; None for no norm_act layers.
      bare: replaces them.
    """
    params = params.replace()
    if layer is None:
        params.task.model.norm_act = bare()
    else:
        params.task.model.norm_act.name = layer
    tf_keras.backend.reset_uids()
    return params


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
    write(run(params, module, topology), json_file)


def run(
    params: config.Experiment,
    module: Callable[[config.Experiment, str | None, int], Any],
    topology: str,
    largest: bool = True,
) -> dict[str, Any]:
    """Compiles a step and prints the figures; returns the report.

    Arguments and errors are those of `report`; `largest` tells whether to find
    the largest batch.
    """
    chips, batch = tpu.chips(topology), params.task.train_data.global_batch_size
    if batch % chips:
        raise ValueError(
            f"The batch must be divisible by the {chips} chips of {topology}. "
            f"Received: global_batch_size={batch}"
        )
    asked = preflight.Request(
        functools.partial(module, params),
        params.task.model.norm_act.name,
        batch // chips,
        topology,
        largest=largest,
    )
    found = preflight.run(asked, lambda text: print(text, flush=True))
    print(preflight.as_text(found))
    return found


def write(found: dict[str, Any], json_file: str | None) -> None:
    """Writes the report if a file is requested."""
    if json_file:
        files.write(json_file, json.dumps(found, indent=1) + "\n")
