"""What a search is run with: one flat record, from YAML, checked.

They are recorded in the journal, and a search is resumed only with the settings
it was started with, except those that change how and not what is computed
(RUNTIME).
"""

import dataclasses
import math
import pathlib
from typing import Any

import yaml

from evonorm_tf import files
from evonorm_tf.errors import did_you_mean
from evonorm_tf.graphs.library import NAMED
from evonorm_tf.search import space as space_lib
from evonorm_tf.search.filters import Filters

ANCHORS = ("resnet", "mobilenet", "efficientnet")
RUNTIME = (
    *("trials", "seconds", "cpu", "workers", "timeout", "memory"),
    *("data_dir", "references"),
)

_AT_LEAST_0 = (
    *("fresh", "image_size", "crop", "examples", "decay", "quality"),
    *("seconds", "workers", "seed", "memory", "cpu", "confirmations"),
)
_AT_LEAST_1 = (
    *("population", "mutations", "width", "groups", "batch", "validation"),
    *("quality_steps", "fitness_steps", "stability_steps"),
    *("stability_batch", "trials", "nodes"),
)
_ABOVE_0 = ("tournament", "rate", "stability_rate", "stability", "timeout")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a search.

    Attributes:
      space: "b" or "s".
      seed: of everything random.
      nodes: computing nodes to draw; the nodes before them are constant.
      algorithm: "evolution", "random", or "exhaustive": every graph of the
        space in turn, through all stages whatever they find.
      criterion: what wins a tournament: "average" of the anchors'
        accuracies, or a random member of their "pareto" front.
      rejection: reject by quality and stability; False is the ablation's
        random search without it.
      filters: run the cheap filters; False is the strict replica.
      dedup: skip a graph whose expression or function was tried before.
      population: the newest accepted layers that parents come from.
      tournament: the share of the population in one tournament.
      fresh: probability of a random graph instead of a child.
      mutations: number of mutations of a winner.
      dataset: "digits" or "cifar10".
      image_size: images are averaged down to this; 0 keeps them.
      crop: size of random training crops; 0 for whole images.
      examples: training images to use; 0 for all.
      anchors: networks, the most selective first.
      width: channels of an anchor's stem.
      groups: channel groups.
      batch: images per step.
      validation: training images held out for validation.
      rate: learning rate of SGD with Nesterov momentum 0.9.
      cosine: let the rate fall to 0 by a cosine in the fitness stage.
      decay: weight decay of convolutions.
      quality_steps: steps before the quality test.
      quality: least validation accuracy there, on every anchor.
      fitness_steps: steps before the accuracy that a layer is ranked by;
        when equal to quality_steps, the quality test's accuracy is that.
      confirmations: further seeds that a layer whose accuracy is above that
        of the best so far is trained with before it is the best: its accuracy
        is then the mean over all seeds. References are trained with all.
      early_exit: end a training whose loss is still that of a guess after
        40 steps; False in the strict replica.
      stability_steps: steps of gradient ascent on the weights.
      stability_batch: images of it.
      stability_rate: a step's length, relative to the weights'.
      stability: largest norm of the gradient that is accepted.
      trials: number of trials after which the search ends.
      seconds: time after which no trial is started; 0 for no limit.
      cpu: seconds of processor time, of all workers since the start of the
        journal, after which no trial is started; 0 for no limit.
      workers: processes; 0 for one per core.
      timeout: seconds per stage.
      memory: gigabytes that a worker may allocate; 0 for no limit.
      data_dir: folder of TFDS that contains cifar10/.
      references: known layers, by name in `graphs.NAMED`, that go through
        all stages before the search begins, as lines in its report.
    """

    space: str = "b"
    seed: int = 0
    nodes: int = 10
    algorithm: str = "evolution"
    criterion: str = "pareto"
    rejection: bool = True
    filters: bool = True
    dedup: bool = True
    population: int = 200
    tournament: float = 0.05
    fresh: float = 0.5
    mutations: int = 1
    dataset: str = "cifar10"
    image_size: int = 16
    crop: int = 0
    examples: int = 0
    anchors: tuple[str, ...] = ANCHORS
    width: int = 8
    groups: int = 4
    batch: int = 64
    validation: int = 1000
    rate: float = 0.1
    cosine: bool = False
    decay: float = 1e-4
    quality_steps: int = 100
    quality: float = 0.2
    fitness_steps: int = 1000
    confirmations: int = 0
    early_exit: bool = True
    stability_steps: int = 100
    stability_batch: int = 32
    stability_rate: float = 0.05
    stability: float = 1e8
    trials: int = 10000
    seconds: float = 0.0
    cpu: float = 0.0
    workers: int = 0
    timeout: float = 600.0
    memory: float = 8.0
    data_dir: str = "~/tensorflow_datasets"
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        space_lib.get(self.space, self.nodes)
        _choice(self, "algorithm", ("evolution", "random", "exhaustive"))
        _choice(self, "criterion", ("average", "pareto"))
        _choice(self, "dataset", ("digits", "cifar10"))
        for name, known in (("anchors", ANCHORS), ("references", NAMED)):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given)
            if set(given) - set(known) or len(set(given)) < len(given):
                raise ValueError(
                    f"`{name}` must be among {', '.join(known)}, each once. "
                    f"Received: {name}={list(given)}"
                )
        least = dict.fromkeys(_AT_LEAST_0, 0) | dict.fromkeys(_AT_LEAST_1, 1)
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(
                    f"`{name}` must be at least {low}. "
                    f"Received: {name}={getattr(self, name)}"
                )
        for name in _ABOVE_0:
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` must be above 0. "
                    f"Received: {name}={getattr(self, name)}"
                )
        if not self.anchors or self.fresh > 1 or self.tournament > 1:
            raise ValueError(
                "There must be an anchor, and `fresh` and `tournament` are "
                f"shares, at most 1. Received: anchors={list(self.anchors)}, "
                f"fresh={self.fresh}, tournament={self.tournament}"
            )

    @property
    def cheap(self) -> Filters:
        return Filters() if self.filters else Filters.none()

    def identity(self) -> dict[str, Any]:
        """The settings that must not change when a search is resumed."""
        fields = dataclasses.asdict(self)
        fields["anchors"] = list(self.anchors)
        if not self.confirmations:
            # Journals that were begun before the setting was there go on.
            del fields["confirmations"]
        return {k: v for k, v in fields.items() if k not in RUNTIME}


# Digits, and two minutes: everything happens, and nothing is claimed by it.
DEBUG: dict[str, Any] = {
    "dataset": "digits",
    "image_size": 0,
    "validation": 300,
    "population": 20,
    "tournament": 0.1,
    "fitness_steps": 100,
    "trials": 60,
    "seconds": 110.0,
    "timeout": 60.0,
}


def _choice(settings: Settings, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(choices)}. "
            f"Received: {name}={value!r}"
        )


def make(*layers: dict[str, Any]) -> Settings:
    """Settings from mappings, the later over the earlier.

    Raises:
      ValueError: for an unknown key, with the nearest, or a bad value.
      TypeError: for a value of the wrong type.
    """
    types = {f.name: f.type for f in dataclasses.fields(Settings)}
    chosen = {}
    for layer in layers:
        for name, value in layer.items():
            if name not in types:
                raise ValueError(
                    f"Unknown setting. {did_you_mean(name, types)}"
                    f"Received: {name}={value!r}"
                )
            chosen[name] = _typed(name, value)
    return Settings(**chosen)


def _typed(name: str, value: Any) -> Any:
    default = getattr(Settings, name)
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise TypeError(
            f"`{name}` must be of type {type(default).__name__}. "
            f"Received: {name}={value!r}"
        )
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value}")
    return value


def configs() -> dict[str, pathlib.Path]:
    """The configs that come with the package, by name."""
    folder = pathlib.Path(__file__).parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read(config: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
      config: a name of `configs()`, or the path of a file.

    Raises:
      ValueError: there is no such file, or it is not a YAML mapping.
    """
    path = configs().get(config, config)
    if not files.is_file(path):
        raise ValueError(
            f"There is no such config. {did_you_mean(config, configs())}"
            f"Received: config={config!r}"
        )
    content = _parsed(files.read(path), f"config={config!r}")
    if not isinstance(content, dict):
        raise ValueError(
            "A config file must contain a YAML mapping. "
            f"Received: config={config!r}"
        )
    return content


def assignment(text: str) -> dict[str, Any]:
    """NAME=VALUE as a mapping; the value is read as YAML.

    Raises:
      ValueError: for a text without `=`, or with a value that is not YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"Expected NAME=VALUE. Received: {text!r}")
    return {name: _parsed(value, repr(text))}


def _parsed(text: str | bytes, received: str) -> Any:
    try:
        return yaml.safe_load(text)
    except RecursionError:
        reason = "nested too deeply"
    # The last: bytes that are no UTF-8, and dates that cannot be.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"This is not YAML: {reason}. Received: {received}")
