"""What --preflight does in every head; a head gives the steps to compile."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import tf_keras
from official.modeling import performance

from evonorm_tf import files, preflight
from evonorm_tf.preflight import tpu
from evonorm_tf.preflight.report import Build
from training import config


@contextlib.contextmanager
def precision(params: config.Experiment) -> Iterator[None]:
    """The run's precision while its model is made; then what was before."""
    before = tf_keras.mixed_precision.global_policy()
    performance.set_mixed_precision_policy(
        params.runtime.mixed_precision_dtype or "float32"
    )
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
    """What to compile for an experiment.

    Args:
      params: the resolved experiment; its batch is shared by the chips.
      topology: such as "v5e:2x2".
      build: from layer and batch of a chip to the step's module.
      largest: whether to look for the largest batch as well.

    Raises:
      ValueError: an unknown topology, a batch that the chips cannot share.
    """
    chips, batch = tpu.chips(topology), params.task.train_data.global_batch_size
    if batch % chips:
        raise ValueError(
            f"The batch must divide among the {chips} chips of {topology}. "
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
    """Prints what the TPU's compiler says of a head's training step.

    Args:
      params: the resolved experiment; its batch is shared by the chips.
      module: the head's `preflight_module`, from experiment, layer and batch
        of a chip to the step.
      topology: such as "v5e:2x2".
      json_file: where the report goes as well.

    Raises:
      ValueError: an unknown topology, a batch that the chips cannot share,
        settings that no TPU can run.
    """
    asked = request(params, topology, functools.partial(module, params))
    write(show(asked), json_file)


def show(asked: preflight.Request) -> dict[str, Any]:
    """Compiles and prints; returns the report."""
    found = preflight.run(asked, lambda text: print(text, flush=True))
    print(preflight.as_text(found))
    return found


def write(found: dict[str, Any], json_file: str | None) -> None:
    """Writes the report where a file is asked for."""
    if json_file:
        files.write(json_file, json.dumps(found, indent=1) + "\n")
