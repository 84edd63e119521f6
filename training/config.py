"""Experiments by name, and overrides whose keys and types are checked.

The Model Garden accepts `train_steps: ten` and reports an unknown key by its
class. Here both are errors that name the full key and similar ones, raised
before anything is built.
"""

import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType, UnionType
from typing import Any

from official.core import config_definitions, exp_factory
from official.modeling import hyperparams
from official.modeling.hyperparams import oneof

from evonorm_tf import catalog, files
from evonorm_tf.errors import did_you_mean
from training import overrides
from training.report.tables import LAYER_KEY, Row
from training.same_experiment import flat, nested

Experiment = config_definitions.ExperimentConfig
_NAMES: list[str] = []
_INT = 2**63
# Keys of a task's schedule that do nothing if this part of the optimizer's
# config is set.
_RATE_KEYS = {
    "learning_rate": (
        "base_learning_rate",
        "base_batch_size",
        "warmup_epochs",
        "decay",
        "boundaries",
        "decay_rate",
        "decay_epochs",
    ),
    "warmup": ("warmup_epochs",),
}


@dataclasses.dataclass
class NormAct(hyperparams.Config):
    """The normalization-activation layer of a network.

    Attributes: see the arguments of `evonorm_tf.legacy.norm_act`.
    """

    name: str = "evonorm_s0"
    groups: int | None = None
    group_size: int | None = None
    min_group_size: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    synchronized: bool = False

    def bind(self, layers: ModuleType) -> Callable[..., Any]:
        """Returns `layers.norm_act` with these settings.

        Args:
          layers: `evonorm_tf.legacy` or `evonorm_tf.layers`.
        """
        settings = self.as_dict()
        name = settings.pop("name")
        return functools.partial(layers.norm_act, name, **settings)


def register(name: str) -> Callable:
    """Registers an experiment factory with the Model Garden by name."""
    _NAMES.append(name)
    return exp_factory.register_config_factory(name)


def parse(
    experiment: str | None = None,
    config_files: Iterable[str] = (),
    norm_act: str | None = None,
    params_override: str | dict | Sequence[str] | None = None,
    tpu: str | None = None,
    row: Row | None = None,
) -> Experiment:
    """Resolves an experiment: its row, files, layer, then overrides.

    Args:
      experiment: a registered name; None for the row's.
      config_files: YAML files, later ones overriding earlier ones.
      norm_act: a catalog name.
      params_override: `a.b=c,d.e=f`, YAML text, a YAML file, several of these
        or a dict.
      tpu: TPU name.
      row: a row of a table, which all others override.

    Raises:
      ValueError: if an experiment, key or layer is unknown, settings
        contradict each other, a value has the wrong type, an override of the
        schedule has no effect, or a file is not a mapping.
    """
    mappings = [overrides.read(path) for path in config_files]
    last = overrides.parse(params_override)
    if norm_act is not None:
        _refuse_two_layers("norm_act", norm_act, [last])
    if row is not None:
        experiment = _agreed(row, experiment, norm_act, [*mappings, last])
    if experiment not in _NAMES:
        raise ValueError(
            f"Unknown experiment. {did_you_mean(experiment, _NAMES)}"
            f"Received: experiment={experiment!r}"
        )
    params = exp_factory.get_exp_config(experiment)
    if row is not None:
        before = map(overrides.read, row.recipe.paths())
        layer = nested({LAYER_KEY: row.layer})
        mappings = [*before, row.recipe.changes(), layer, *mappings]
    for changes in mappings:
        override(params, changes)
    if norm_act is not None:
        override(params, nested({LAYER_KEY: norm_act}))
    if tpu is not None:
        override(params, {"runtime": {"tpu": tpu}})
    override(params, last)
    texts = params_override or ()
    if isinstance(texts, str):
        texts = [texts]
    # A run's own params.yaml has both the schedule and what came of it.
    if isinstance(texts, dict) or not any(map(files.is_file, texts)):
        _refuse_unused_rate(params, last)
    catalog.get(params.task.model.norm_act.name)
    return params


def override(params: hyperparams.Config, changes: dict) -> None:
    """Applies `changes` to `params` in place, after checking all of them."""
    params.override(_checked(params, changes, ""), is_strict=True)


def refuse_unread(
    given: hyperparams.Config,
    usual: hyperparams.Config,
    keys: Iterable[str],
    why: str,
) -> None:
    """Rejects settings that would have no effect.

    Args:
      given: the resolved config.
      usual: has the defaults.
      keys: dotted; those that nothing reads. A section stands for all of its
        settings.
      why: nothing reads them, for the error.

    Raises:
      ValueError: if one differs from its default.
    """
    for key in keys:
        now, before = (
            _leaves(key, operator.attrgetter(key)(config))
            for config in (given, usual)
        )
        for name, value in now.items():
            if name not in before:  # In a section that is usually None.
                fix = "leave it out"
            elif value != before[name]:
                fix = f"keep it at {before[name]!r}"
            else:
                continue
            raise ValueError(
                f"{why} this setting has no effect; {fix}. "
                f"Received: {name}={value!r}"
            )


def _leaves(key: str, value: Any) -> dict[str, Any]:
    """Returns the settings of a section, or a setting, by dotted key."""
    if isinstance(value, hyperparams.Config):
        return flat(value.as_dict(), f"{key}.")
    return {key: value}


def require_at_least(
    settings: hyperparams.Config, least: Mapping[str, int], prefix: str
) -> None:
    """Rejects settings that are too small, or NaN; None is not compared.

    Args:
      settings: their config.
      least: lower bounds, by name.
      prefix: of the names in a run's config, such as "trainer.".

    Raises:
      ValueError: names the setting and its bound.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and not value >= bound:
            raise ValueError(
                f"{prefix}{name} must be at least {bound}. "
                f"Received: {prefix}{name}={value!r}"
            )


def _agreed(
    row: Row, experiment: str | None, norm_act: str | None, others: list[dict]
) -> str:
    """Returns the row's experiment, if no other one is requested."""
    if experiment not in (None, row.recipe.experiment):
        raise ValueError(
            f"The row belongs to experiment {row.recipe.experiment}; omit "
            "--experiment. Received: "
            f"row={row.id!r}, experiment={experiment!r}"
        )
    named = [] if norm_act is None else [nested({LAYER_KEY: norm_act})]
    _refuse_two_layers("row", row.layer, [*named, *others])
    return row.recipe.experiment


def _refuse_two_layers(what: str, layer: str, others: list[dict]) -> None:
    """Raises an error if `what` and `others` name different layers."""
    for other in others:
        found: Any = other
        for key in LAYER_KEY.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found not in (None, layer):
            raise ValueError(
                f"Two layers are requested; give one. Received: {what} "
                f"with {layer!r}, and {LAYER_KEY}={found!r}"
            )


def _refuse_unused_rate(params: Experiment, last: dict) -> None:
    """Rejects overrides of a schedule that an optimizer's setting replaces.

    Config files are not checked: a run's record contains both, its schedule and
    the learning rate that resulted from it.
    """
    given = last.get("task", {}).get("schedule", {})
    optimizer = params.trainer.optimizer_config
    for section, keys in _RATE_KEYS.items():
        unused = [key for key in keys if key in given]
        kind = getattr(optimizer, section).type
        if unused and kind is not None:
            raise ValueError(
                f"trainer.optimizer_config.{section} is set, so the schedule's "
                f"{' and '.join(unused)} would have no effect; omit one of "
                "them. Received: "
                f"task.schedule.{unused[0]}={given[unused[0]]!r}, "
                f"trainer.optimizer_config.{section}.type={kind!r}"
            )


def _keys(params: hyperparams.Config) -> list[str]:
    return sorted(key for key in params.__dict__ if not key.startswith("_"))


def _checked(params: hyperparams.Config, changes: dict, where: str) -> dict:
    """Returns `changes` with coerced numbers; an error names the key."""
    hints = typing.get_type_hints(type(params))
    known = _keys(params)
    result = {}
    for key, value in changes.items():
        path = f"{where}{key}"
        if key not in known:
            raise ValueError(
                f"Unknown config key {path}. {did_you_mean(key, known)}"
                f"Received: {path}={value!r}"
            )
        child, hint = getattr(params, key), hints.get(key, Any)
        cleared = value is None and type(None) in typing.get_args(hint)
        if isinstance(child, hyperparams.Config) and not cleared:
            if not isinstance(value, dict):
                keys = ", ".join(_keys(child))
                raise ValueError(
                    f"{path} must be a section with the keys {keys}. "
                    f"Received: {path}={value!r}"
                )
            value = _checked(child, value, path + ".")
        else:
            section = _section(hint) if isinstance(value, dict) else None
            if section:  # None unless set, such as optimizer_config.ema.
                value = _checked(section(), value, path + ".")
            else:
                value = _typed(value, hint, path)
        if key == "type" and isinstance(params, oneof.OneOfConfig):
            _check_choice(value, known, path)
        result[key] = value
    return result


def _section(hint: Any) -> type[hyperparams.Config] | None:
    """Returns the config class among the types of `hint`, if there is one."""
    for option in typing.get_args(hint):
        if isinstance(option, type) and issubclass(option, hyperparams.Config):
            return option
    return None


def _check_choice(value: Any, known: list[str], path: str) -> None:
    choices = [name for name in known if name != "type"]
    if value is not None and value not in choices:
        raise ValueError(
            f"Unknown choice for {path}. {did_you_mean(value, choices)}"
            f"Received: {path}={value!r}"
        )


class _WrongType(ValueError):
    """A value fits no type of its setting."""


def _typed(value: Any, hint: Any, path: str) -> Any:
    """Returns `value` if it fits `hint`; converts int to float if needed."""
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, UnionType):
        for option in typing.get_args(hint):
            try:
                return _typed(value, option, path)
            except _WrongType:
                continue
    elif origin is not None:
        if isinstance(value, (list, tuple)):
            inner = (typing.get_args(hint) or (Any,))[0]
            return [_typed(item, inner, path) for item in value]
    elif hint is float and type(value) in (int, float):
        return _float(value, path)
    elif hint is int and type(value) is int and not -_INT <= value < _INT:
        raise ValueError(
            f"{path} must be an integer of 64 bits. Received: {path}={value}"
        )
    elif isinstance(value, hint) and not (
        hint is int and isinstance(value, bool)
    ):
        return value
    name = getattr(hint, "__name__", str(hint)) if origin is None else hint
    raise _WrongType(
        f"{path} must be of type {name}. "
        f"Received: {path}={value!r} ({type(value).__name__})"
    )


def _float(value: float, path: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number != value:
        raise ValueError(
            f"{path} must be a finite number. Received: {path}={value}"
        )
    return number
