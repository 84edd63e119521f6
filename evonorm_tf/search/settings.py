"""The settings of a search: one flat record, read from YAML and validated.

They are recorded in the journal. A search is resumed only with the settings it
was started with, except for those that change how it is computed but not what
(RUNTIME).
"""

import contextlib
import dataclasses
import math
import pathlib
from typing import Any

from evonorm_tf import files, yaml_text
from evonorm_tf.errors import did_you_mean
from evonorm_tf.graphs.library import NAMED
from evonorm_tf.search import space as space_lib
from evonorm_tf.search.filters import Filters

ANCHORS = ("resnet", "mobilenet", "efficientnet")
RUNTIME = (
    "trials",
    "seconds",
    "cpu",
    "workers",
    "timeout",
    "memory",
    "data_dir",
    "references",
)

_AT_LEAST_0 = (
    "fresh",
    "image_size",
    "crop",
    "examples",
    "decay",
    "quality",
    "seconds",
    "workers",
    "seed",
    "memory",
    "cpu",
    "confirmations",
)
_AT_LEAST_1 = (
    "population",
    "mutations",
    "width",
    "groups",
    "batch",
    "validation",
    "quality_steps",
    "fitness_steps",
    "stability_steps",
    "stability_batch",
    "trials",
    "nodes",
)
_ABOVE_0 = ("tournament", "rate", "stability_rate", "stability", "timeout")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a search.

    Attributes:
      space: "b" or "s".
      seed: of everything random.
      nodes: computing nodes to draw; the nodes before them are constant.
      algorithm: "evolution", "random", or "exhaustive", which evaluates every
        graph of the space in all stages, whatever their results.
      criterion: how a tournament is decided: by the "average" of the anchors'
        accuracies, or by a random member of their "pareto" front.
      rejection: whether to reject by quality and stability; False for the
        ablation's random search without rejection.
      filters: whether to run the cheap filters; False in the strict replica.
      dedup: whether to skip graphs whose expression or function was tried.
      population: number of newest accepted layers that can be parents.
      tournament: fraction of the population in one tournament.
      fresh: probability of a random graph instead of a child.
      mutations: number of mutations of a winner.
      dataset: "digits" or "cifar10".
      image_size: images are averaged down to this size; 0 for the original.
      crop: size of random training crops; 0 for whole images.
      examples: number of training images to use; 0 for all.
      anchors: networks, the most selective first.
      width: channels of an anchor's stem.
      groups: channel groups.
      batch: images per step.
      validation: number of training images held out for validation.
      rate: learning rate of SGD with Nesterov momentum 0.9.
      cosine: whether the fitness stage uses a cosine schedule that ends at 0.
      decay: weight decay of convolutions.
      quality_steps: steps before the quality test.
      quality: minimum validation accuracy there, on every anchor.
      fitness_steps: steps before the accuracy by which layers are ranked; if
        equal to quality_steps, the accuracy of the quality test is used.
      confirmations: number of further seeds with which a layer is trained if
        its accuracy exceeds the best so far; its accuracy is then the mean
        over all seeds. References are trained with all of them.
      early_exit: whether to end a training whose loss is no better than a
        guess after 40 steps; False in the strict replica.
      stability_steps: steps of gradient ascent on the weights.
      stability_batch: number of images for it.
      stability_rate: length of a step, relative to the weights.
      stability: maximum norm of the gradient.
      trials: number of trials after which the search ends.
      seconds: time after which the search ends; 0 for no limit. Stages that
        are running then are not charged, and repeated on resuming.
      cpu: CPU seconds of all finished stages in the journal, after which the
        search ends likewise; 0 for no limit.
      workers: number of processes; 0 for one per core.
      timeout: seconds per stage.
      memory: gigabytes that a worker may allocate; 0 for no limit.
      data_dir: TFDS folder that contains cifar10/.
      references: known layers, by name in `graphs.NAMED`, that go through all
        stages before the search begins and appear as lines in its report.
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
            # Lists, because what YAML makes of an item may not be hashable.
            if any(x not in [*known] or given.count(x) > 1 for x in given):
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
        if (
            not self.anchors
            or max(self.fresh, self.tournament, self.quality) > 1
        ):
            raise ValueError(
                "At least one anchor is required, and `fresh`, `tournament` "
                "and `quality` must be at most 1. "
                f"Received: anchors={list(self.anchors)}, fresh={self.fresh}, "
                f"tournament={self.tournament}, quality={self.quality}"
            )

    @property
    def cheap(self) -> Filters:
        """Returns the cheap filters of these settings."""
        return Filters() if self.filters else Filters.none()

    def identity(self) -> dict[str, Any]:
        """Returns the settings that must not change on resuming."""
        fields = dataclasses.asdict(self)
        fields["anchors"] = list(self.anchors)
        if not self.confirmations:
            # Journals from before this setting existed can be resumed.
            del fields["confirmations"]
        return {k: v for k, v in fields.items() if k not in RUNTIME}


# Digits in two minutes: exercises everything, and its results mean nothing.
DEBUG: dict[str, Any] = {
    "dataset": "digits",
    "image_size": 0,
    "crop": 0,
    "examples": 0,
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
    """Creates settings from mappings, later ones overriding earlier ones.

    Raises:
      ValueError: if a key is unknown (the message suggests similar ones), or a
        value is invalid or of the wrong type.
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
    if type(default) is float:
        value = _float(value)
    elif type(default) is int:
        value = _int(value)
    if type(value) is not type(default):
        raise ValueError(
            f"`{name}` must be {_TYPES[type(default)]}. "
            f"Received: {name}={value!r}"
        )
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value}")
    return value


# How a type is written on the command line and in YAML.
_TYPES = {
    bool: "a bool (true or false)",
    int: "an int",
    float: "a float",
    str: "a str",
    tuple: "a list, such as [resnet]",
}


def _float(value: Any) -> Any:
    """Returns a number as a float; 010 is read as text."""
    with contextlib.suppress(ValueError):
        if type(value) is int or isinstance(value, str):
            # Through text, because a large int raises and its text is inf.
            return float(str(value))
    return value


def _int(value: Any) -> Any:
    """Returns an integer as an int; 010 is read as text, 1e3 as a float."""
    number = _float(value) if isinstance(value, str) else value
    if type(number) is float and number.is_integer():
        return int(number)
    return value


def configs() -> dict[str, pathlib.Path]:
    """Returns the configs of the package, by name."""
    folder = pathlib.Path(__file__).parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read(config: str) -> dict[str, Any]:
    """Reads the mapping of a YAML file.

    Args:
      config: a name of `configs()`, or the path of a file.

    Raises:
      ValueError: if the file does not exist or is not a YAML mapping.
    """
    path = configs().get(config, config)
    if not files.is_file(path):
        raise ValueError(
            f"There is no such config. {did_you_mean(config, configs())}"
            f"Received: config={config!r}"
        )
    return yaml_text.mapping(files.read(path), f"config={config!r}")


def assignment(text: str) -> dict[str, Any]:
    """Parses NAME=VALUE to a mapping; the value is YAML.

    Raises:
      ValueError: if the `=` is missing or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"Expected NAME=VALUE. Received: {text!r}")
    return {name: yaml_text.parse(value, repr(text))}
