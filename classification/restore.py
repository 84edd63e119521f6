"""A finished or unfinished run's model, from its directory alone.

No data are opened: `run.json` says how large the images are.
"""

import dataclasses
from typing import Any

import tf_keras

from classification import settings, task
from training import config, runs, saved


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's model.

    Attributes:
      model: the network, with the weights that an evaluation would use.
      params: the run's config.
      about: what `run.json` says.
      path: of the checkpoint.
      step: of the checkpoint.
      averaged: whether the weights are averages over training.
      metrics: of an evaluation at this step; {} where there was none.
    """

    model: tf_keras.Model
    params: config.Experiment
    about: dict[str, Any]
    path: str
    step: int
    averaged: bool
    metrics: dict[str, float]


class _Task(task.Task):
    """The task without its data: a model needs their shape alone."""

    def __init__(self, params: Any, shape: list[int]):
        super().__init__(params)
        self.shape = shape

    def source(self, training: bool) -> Any:
        """Stands for either data set."""
        del training
        return self


def restore(model_dir: str, checkpoint: str = "latest") -> Restored:
    """Reads a run's model.

    Args:
      model_dir: the run's directory.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: no run, no such checkpoint, or a run of an older version.
    """
    params = saved.parameters(model_dir, settings.Task())
    about = _about(model_dir)
    found = saved.find(params, model_dir, checkpoint)
    model = saved.read(_Task(params.task, about["input_shape"]), params, found)
    ema = params.trainer.optimizer_config.ema is not None
    return Restored(
        model, params, about, found.path, found.step, ema, found.metrics
    )


def _about(model_dir: str) -> dict[str, Any]:
    about = runs.Run(model_dir).facts()
    if "input_shape" not in about:
        raise ValueError(
            f"{runs.FACTS_FILE} is missing or does not say how large the "
            "images are; start the run's command once more, which writes it "
            f"anew. Received: model_dir={model_dir!r}"
        )
    return about
