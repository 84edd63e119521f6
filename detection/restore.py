"""A run's detector from its directory alone: no data are opened."""

import dataclasses

import tf_keras

from detection import ground_truth, settings, task
from evonorm_tf import files
from training import config, saved


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's model.

    Attributes:
      model: the network, with the weights that an evaluation would use.
      params: the run's config.
      names: category ids to names; {} where the annotations are gone.
      path: of the checkpoint.
      step: of the checkpoint.
      metrics: of an evaluation at this step; {} where there was none.
    """

    model: tf_keras.Model
    params: config.Experiment
    names: dict[int, str]
    path: str
    step: int
    metrics: dict[str, float]


def restore(model_dir: str | None, checkpoint: str = "latest") -> Restored:
    """Reads a run's model.

    Args:
      model_dir: the run's directory; None finds it from the checkpoint.
      checkpoint: "latest", "best" or the path of one, without .index.

    Raises:
      ValueError: no run, or no such checkpoint.
    """
    model_dir = saved.directory(model_dir, checkpoint)
    params = saved.parameters(model_dir, settings.Task())
    found = saved.find(params, model_dir, checkpoint)
    model = saved.read(task.Task(params.task), params, found)
    return Restored(
        model, params, _names(params), found.path, found.step, found.metrics
    )


def _names(params: config.Experiment) -> dict[int, str]:
    path = params.task.annotation_file
    if not path or not files.is_file(path):
        return {}
    return ground_truth.categories(path)
